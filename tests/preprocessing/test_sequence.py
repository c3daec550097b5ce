"""Older Keras' sequence tools against Keras' own."""

import random

import numpy as np
import pytest

import kstyle_torch as ks
from kstyle_torch.preprocessing import sequence as ours

SERIES, TARGETS = np.arange(60.0).reshape(30, 2), np.arange(30) * 10


@pytest.fixture
def theirs(keras):
    from keras.src.legacy.preprocessing import sequence

    return sequence


OPTIONS = {
    "default": {"length": 5},
    "strides": {"length": 6, "sampling_rate": 2, "stride": 3, "batch_size": 3},
    "part": {"length": 4, "start_index": 3, "end_index": 20, "batch_size": 4},
    "backwards": {"length": 4, "reverse": True, "batch_size": 7},
    "one left": {"length": 29, "batch_size": 2},
    "drawn": {"length": 4, "shuffle": True, "batch_size": 5},
}


@pytest.mark.parametrize("options", OPTIONS)
def test_windows_agree(theirs, options):
    first, second = (module.TimeseriesGenerator(SERIES, TARGETS, **OPTIONS[options]) for module in (ours, theirs))
    assert len(first) == len(second)
    for number in range(len(first)):
        batches = []
        for generator in (first, second):
            np.random.seed(number)
            batches.append(generator[number])
        np.testing.assert_array_equal(batches[0][0], batches[1][0])
        np.testing.assert_array_equal(batches[0][1], batches[1][1])


def test_fit_takes_a_generator():
    model = ks.Sequential([ks.Input((5, 2)), ks.layers.Flatten(), ks.layers.Dense(1)])
    model.compile("sgd", "mse")
    generator = ours.TimeseriesGenerator(SERIES / 60, TARGETS / 300, length=5, batch_size=8)
    assert np.isfinite(model.fit(generator, epochs=2, verbose=0)["loss"]).all()
    assert model.predict(generator, verbose=0).shape == (25, 1)


def test_windows_mistakes():
    with pytest.raises(ValueError, match="the same number of steps; got 30 and 29"):
        ours.TimeseriesGenerator(SERIES, TARGETS[:-1], 5)
    with pytest.raises(ValueError, match="no window is left"):
        ours.TimeseriesGenerator(SERIES, TARGETS, 30)
    with pytest.raises(IndexError):
        ours.TimeseriesGenerator(SERIES, TARGETS, 5)[1]


def test_sampling_tables_agree(theirs):
    for arguments in ((10,), (2000, 1e-3)):
        np.testing.assert_allclose(ours.make_sampling_table(*arguments), theirs.make_sampling_table(*arguments))


TEXT = [3, 1, 0, 2, 5, 1, 4, 0, 2, 2]


@pytest.mark.parametrize("options", [{}, {"categorical": True}, {"window_size": 1, "negative_samples": 2.5}], ids=str)
@pytest.mark.parametrize("sampled", [False, True])
def test_skipgrams_agree_but_for_their_order(theirs, options, sampled):
    table = np.linspace(0.2, 1, 6) if sampled else None
    results = []
    for module in (ours, theirs):
        random.seed(0)
        results.append(module.skipgrams(TEXT, 6, shuffle=False, sampling_table=table, **options))
    assert results[0] == results[1]
    random.seed(0)
    couples, labels = ours.skipgrams(TEXT, 6, sampling_table=table, seed=4, **options)
    pairs = [str(pair) for pair in zip(*results[0], strict=True)]
    assert sorted(pairs) == sorted(str(pair) for pair in zip(couples, labels, strict=True))
    assert couples != results[0][0]


def test_no_words():
    assert ours.skipgrams([0, 0], 5) == ([], [])
