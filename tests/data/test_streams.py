"""Batches that something else makes: loaders, generators, PyDatasets, and whatever else gives (x, y)."""

import collections
import itertools
import threading

import numpy as np
import pytest
import torch
from data_sources import SOURCES, Items, Squares, W, X, Y, batches, fitted, loader, network, slices
from torch.utils import data as torch_data

import kstyle_torch as ks
from kstyle_torch import layers
from tests.models_to_train import assert_same_history


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
def test_every_source_trains_as_the_arrays_do(source, weighted):
    data, options = SOURCES[source](weighted)
    assert_same_history(fitted(data, **options), fitted(X, Y, sample_weight=W if weighted else None))


@pytest.mark.parametrize("source", SOURCES)
def test_class_weights_work_with_every_source(source):
    data, options = SOURCES[source](False)
    class_weight = {0: 0.5, 1.0: 3}
    assert_same_history(fitted(data, class_weight=class_weight, **options), fitted(X, Y, class_weight=class_weight))


@pytest.mark.parametrize("source", SOURCES)
def test_evaluate_and_predict_of_every_source(source):
    model = network()
    data, _ = SOURCES[source](True)
    steps = 3 if source in ("generator", "list iterator") else None
    expected = model.evaluate(X, Y, sample_weight=W, verbose=0)
    np.testing.assert_allclose(model.evaluate(data, steps=steps, verbose=0), expected, rtol=1e-5)
    data, _ = SOURCES[source](False)
    np.testing.assert_allclose(model.predict(data, steps=steps, verbose=0), model.predict(X, verbose=0), rtol=1e-5)


@pytest.mark.parametrize("source", SOURCES)
def test_validation_data_of_every_source(source):
    data, _ = SOURCES[source](True)
    steps = 3 if source in ("generator", "list iterator") else None
    expected = fitted(X, Y, validation_data=(X, Y, W))
    assert_same_history(fitted(X, Y, validation_data=data, validation_steps=steps), expected)


@pytest.mark.parametrize("source", ["Dataset", "TensorDataset", "PyDataset", "PyDataset, threads"])
def test_validation_split_takes_the_last_ones(source):
    data, _ = SOURCES[source](True)
    at = 64 if "PyDataset" in source else 49  # a PyDataset is split between its batches
    expected = fitted(X[:at], Y[:at], sample_weight=W[:at], validation_data=(X[at:], Y[at:], W[at:]))
    assert_same_history(fitted(data, validation_split=0.3), expected)


@pytest.mark.parametrize("source", ["DataLoader", "generator", "IterableDataset", "tf.data"])
def test_what_cannot_be_split_says_so(source):
    data, options = SOURCES[source](True)
    with pytest.raises(ValueError, match="validation_split needs arrays or tensors.*Pass validation_data"):
        fitted(data, validation_split=0.3, **options)


def test_a_split_dataset_is_told_of_training_epochs_only():
    data = Squares()
    fitted(data, validation_split=0.3)
    assert data.events == ["begin", "end"] * 2


def test_a_dataset_is_told_of_its_epochs():
    data = Squares()
    fitted(data, validation_data=Squares())
    assert data.events == ["begin", "end"] * 2


def test_steps_go_on_through_a_source_of_known_length():
    """As in Keras: two steps, then the third and a warning, then from the beginning."""
    seen = []

    class Seen(Squares):
        def __getitem__(self, index):
            seen.append(index)
            return super().__getitem__(index)

    model = network()
    with pytest.warns(UserWarning, match="ran out after 1 of 2 batches"):
        model.fit(Seen(), epochs=3, steps_per_epoch=2, shuffle=False, verbose=0)
    assert seen == [0, 1, 2, 0, 1]


def test_a_dataset_without_end():
    class Endless(ks.utils.PyDataset):
        num_batches = None

        def __getitem__(self, index):
            return batches(False)[index % 3]

    expected = fitted(X, Y)
    assert_same_history(fitted(Endless(), steps_per_epoch=3), expected)
    assert_same_history(fitted(Endless(workers=2), steps_per_epoch=3), expected)


def test_shuffled_datasets_reproduce_and_change_between_epochs():
    orders = []
    for _ in range(2):
        seen = []

        class Seen(Squares):
            def __len__(self):
                return 8

            def __getitem__(self, index, seen=seen):
                seen.append(index)
                return batches(False)[index % 3]

        network().fit(Seen(), epochs=2, verbose=0)
        orders.append((seen[:8], seen[8:]))
    assert orders[0] == orders[1]
    assert sorted(orders[0][0]) == sorted(orders[0][1]) == list(range(8))
    assert orders[0][0] != orders[0][1]


def test_threads_run_side_by_side_and_end():
    meeting = threading.Barrier(3)

    class Meeting(Squares):
        def __getitem__(self, index):
            meeting.wait()  # passes only once three batches are read at once
            return super().__getitem__(index)

    before = {*threading.enumerate()}
    fitted(Meeting(workers=3), epochs=1)
    for thread in {*threading.enumerate()} - before:
        thread.join()  # hangs where one does not end: `faulthandler_timeout` in pyproject.toml shows which


@pytest.mark.parametrize("options", [{}, {"workers": 2}, {"workers": 1, "use_multiprocessing": True}], ids=str)
def test_an_error_of_a_dataset_arrives(options):
    class Broken(Squares):
        def __getitem__(self, index):
            if index == 2:
                raise LookupError("file 7 is missing")
            return super().__getitem__(index)

    with pytest.raises(LookupError, match="file 7 is missing"):
        fitted(Broken(**options))


def test_no_more_batches_are_read_ahead_than_the_queue_takes():
    read, given = [], []

    class Counted(Squares):
        def __len__(self):
            return 12

        def __getitem__(self, index):
            read.append(index)
            return batches(False)[0]

    class Look(ks.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            given.append(len(read) - batch)

    fitted(Counted(workers=2, max_queue_size=3), epochs=1, callbacks=[Look()])
    assert max(given) <= 3 + 2


def test_a_dataset_that_forgets_its_parents_constructor():
    class Forgetful(Squares):
        def __init__(self):
            self.weighted, self.events = False, []

    data = Forgetful()
    with pytest.warns(UserWarning, match=r"Forgetful.__init__\(\) does not call super"):
        assert (data.workers, data.use_multiprocessing, data.max_queue_size) == (1, False, 10)
    with pytest.raises(NotImplementedError, match="must define __len__"):
        ks.utils.PyDataset().num_batches  # noqa: B018
    with pytest.raises(NotImplementedError, match="must define __getitem__"):
        ks.utils.PyDataset()[0]
    with pytest.raises(ValueError, match="workers must be an int of at least 0; got -1"):
        ks.utils.PyDataset(workers=-1)


def test_a_generator_goes_on_over_the_epochs():
    taken = []

    def endless():
        for number in itertools.count():
            taken.append(number)
            yield batches(False)[number % 3]

    fitted(endless(), steps_per_epoch=2, epochs=3)
    assert taken == list(range(6))


def test_a_generator_that_runs_out(keras):
    with pytest.warns(UserWarning, match="ran out after 1 of 2 batches"):
        history = fitted(iter(batches(False)), epochs=2, steps_per_epoch=2)
    assert len(history["loss"]) == 2
    with pytest.warns(UserWarning, match="ran out after 0 of"):
        history = fitted(iter(batches(False)), epochs=2)
    assert len(history["loss"]) == 2


def test_the_order_of_a_loader_is_its_own():
    expected = fitted(X[::-1].copy(), Y[::-1].copy())
    assert_same_history(fitted(torch_data.DataLoader(Items(), batch_size=32, sampler=range(69, -1, -1))), expected)


class Named(torch_data.Dataset):
    def __len__(self):
        return len(X)

    def __getitem__(self, index):
        return {"a": X[index], "b": X[index, :2]}, {"p": Y[index], "q": X[index].sum()}, {"p": W[index], "q": W[index]}


def two_headed():
    ks.utils.set_random_seed(3)
    a, b = ks.Input((5,), name="a"), ks.Input((2,), name="b")
    joined = layers.concatenate([a, b])
    outputs = {
        "p": layers.Dense(1, activation="sigmoid", name="p")(joined),
        "q": layers.Dense(1, name="q")(joined),
    }
    model = ks.Model({"a": a, "b": b}, outputs)
    model.compile("adam", {"p": "binary_crossentropy", "q": "mse"}, metrics={"p": ["accuracy"]})
    return model


@pytest.mark.parametrize("source", ["arrays", "loader", "workers", "dataset", "generator", "part"])
def test_dicts_of_inputs_outputs_and_weights(source):
    x, y, weight = {"a": X, "b": X[:, :2]}, {"p": Y, "q": X.sum(1)}, {"p": W, "q": W}
    model = two_headed()
    expected = model.fit(x, y, sample_weight=weight, epochs=2, shuffle=False, verbose=0).history
    predicted = model.predict(x, verbose=0)
    model = two_headed()
    data = {
        "arrays": lambda: (x, y, weight),
        "loader": lambda: (loader(Named()),),
        "workers": lambda: (loader(Named(), num_workers=1),),
        "dataset": lambda: (Named(),),
        "generator": lambda: (
            itertools.cycle([torch_data.default_collate([Named()[i] for i in range(70)[rows]]) for rows in slices()]),
        ),
        "part": lambda: (loader(torch_data.Subset(Named(), range(70))),),
    }[source]()
    given = dict(zip(("x", "y", "sample_weight"), data, strict=False))
    history = model.fit(**given, epochs=2, shuffle=False, steps_per_epoch=3, batch_size=32, verbose=0).history
    for name in expected:
        np.testing.assert_allclose(history[name], expected[name], rtol=1e-5, err_msg=name)
    got = model.predict(data[0], steps=3, batch_size=32, verbose=0)
    assert got.keys() == predicted.keys()
    np.testing.assert_allclose(got["q"], predicted["q"], rtol=1e-4, atol=1e-6)


def test_a_loader_of_x_alone_predicts_and_says_that_targets_are_missing():
    only_x = torch_data.TensorDataset(torch.from_numpy(X))
    model = network()
    for data in (only_x, loader(only_x), loader(torch.from_numpy(X))):
        np.testing.assert_allclose(model.predict(data, verbose=0), model.predict(X, verbose=0), rtol=1e-5)
        with pytest.raises(ValueError, match="'binary_crossentropy' needs targets"):
            model.fit(data, verbose=0)


def changed(model, before):
    return any((new != old).any() for new, old in zip(model.get_weights(), before, strict=True))


MISTAKES = {
    "y with a loader": (lambda: {"x": loader(Items()), "y": Y}, "y must not be given when x is a DataLoader"),
    "weights with a generator": (
        lambda: {"x": iter(batches(False)), "sample_weight": W},
        "sample_weight must not be given when x is a list_iterator",
    ),
    "batch size with a loader": (
        lambda: {"x": loader(Items()), "batch_size": 16},
        "batch_size=16 was given, but the data is a DataLoader, which makes batches of 32",
    ),
    "validation batch size with a loader": (
        lambda: {"x": X, "y": Y, "validation_data": loader(Items()), "validation_batch_size": 16},
        "validation_batch_size=16 was given",
    ),
    "class and sample weights": (
        lambda: {"x": loader(Items(True)), "class_weight": {0: 1, 1: 2}},
        "class_weight and sample_weight cannot be given together",
    ),
    "four parts": (lambda: {"x": iter([(X, Y, W, W)])}, "got a tuple of 4"),
    "wrong features": (lambda: {"x": iter([(X[:, :4], Y)])}, r"x has shape \(70, 4\), but .* expects \(None, 5\)"),
    "text": (lambda: {"x": iter([(X, np.array(["yes"] * 70))])}, "y contains text, such as 'yes'"),
    "wrong features in validation": (
        lambda: {"x": X, "y": Y, "validation_data": iter([(X[:, :4], Y)])},
        r"x has shape \(70, 4\)",
    ),
    "empty": (lambda: {"x": iter([])}, "yields no batches"),
    "empty PyDataset": (lambda: {"x": Squares(), "validation_data": collections.deque()}, "yields no batches"),
    "class weights as a list": (lambda: {"x": X, "y": Y, "class_weight": [1, 2]}, r"dict\(enumerate\(weights\)\)"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_told_before_anything_changes(mistake):
    make, message = MISTAKES[mistake]
    model = network()
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        model.fit(**make(), verbose=0)
    assert not changed(model, before)


def second_batch_is_bad(bad):
    return iter([batches(False)[0], bad])


def test_a_batch_of_another_width_is_told_when_it_comes():
    with pytest.raises(ValueError, match=r"x has shape \(32, 4\), but the model's input expects \(None, 5\)"):
        network().fit(second_batch_is_bad((X[:32, :4], Y[:32])), verbose=0)


def test_a_class_out_of_range_is_told_when_it_comes():
    model = ks.Sequential([ks.Input((5,)), layers.Dense(3, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match=r"label 3 is out of range for 3 classes \(labels must be 0 to 2\)"):
        model.fit(second_batch_is_bad((X[:32], np.full(32, 3))), verbose=0)


@pytest.mark.parametrize("number", [-1, 7])
def test_a_number_that_an_embedding_lacks_is_told_when_it_comes(number, tmp_path):
    model = ks.Sequential([ks.Input((2,)), layers.Embedding(7, 3, name="words"), layers.Flatten(), layers.Dense(1)])
    model.compile("sgd", "mse")
    good, bad = np.zeros((32, 2), int), np.full((32, 2), number)
    with pytest.raises(ValueError, match=f"'words': x contains {number}.*input_dim=7"):
        model.fit(iter([(good, Y[:32]), (bad, Y[:32])]), verbose=0)
    np.save(tmp_path / "x.npy", np.concatenate([good, bad]))
    with pytest.raises(ValueError, match=f"'words': x contains {number}.*input_dim=7"):
        model.fit(np.load(tmp_path / "x.npy", mmap_mode="r"), np.zeros(64), verbose=0)
    with pytest.raises(ValueError, match=f"'words': x contains {number}.*input_dim=7"):
        model.predict(iter([(good,), (bad,)]), verbose=0)
