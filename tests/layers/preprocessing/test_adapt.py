"""`adapt`: what it takes, and what it learns."""

import keras
import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from kstyle_torch import layers
from tests.oracle import assert_close, uniform

X = uniform(60, 3, low=-2, high=5)
WORDS = [["a", "b", "b"], ["c", "b", "a"], ["d", "b", "a"]]


class Texts(Dataset):
    """Pairs of a text and a label."""

    texts = ("the cat", "the dog", "a the")

    def __len__(self):
        return len(self.texts)

    def __getitem__(self, index):
        return self.texts[index], index


class Batches:
    """Batches by number, as a PyDataset has them."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return X.numpy()[20 * index : 20 * index + 20], np.zeros(20)


SOURCES = {
    "array": lambda: X.numpy(),
    "float64": lambda: X.numpy().astype("float64"),
    "tensor": lambda: X,
    "list": lambda: X.tolist(),
    "frame": lambda: pd.DataFrame(X.numpy(), columns=list("abc")),
    "batches": lambda: [X[:7], X[7:50], X[50:]],
    "generator": lambda: (X[start : start + 20].numpy() for start in (0, 20, 40)),
    "pairs": lambda: ((X[start : start + 20], torch.zeros(20)) for start in (0, 20, 40)),
    "dataset": lambda: TensorDataset(X, torch.zeros(60)),
    "loader": lambda: DataLoader(TensorDataset(X, torch.zeros(60)), batch_size=16),
    "loader-of-inputs": lambda: DataLoader(X, batch_size=16),
    "pydataset": Batches,
}
from_every_source = pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)


@from_every_source
def test_normalization_learns_from(source):
    ours, theirs = layers.Normalization(), keras.layers.Normalization()
    ours.adapt(source())
    theirs.adapt(X.numpy())
    assert [weight.name for weight in ours.weights] == [weight.name for weight in theirs.weights]
    assert [weight.path.split("/")[-1] for weight in ours.weights] == ["mean", "variance", "count"]
    assert ours.trainable_weights == []
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        assert mine.dtype == other.dtype
        assert_close(mine, other)
    assert_close(ours.mean, theirs.mean)
    assert_close(ours(X), theirs(X))


@pytest.mark.parametrize("axis", [None, 0, 1, -1, (0, 1), (1, 2), (0, 1, 2)])
def test_normalization_axes(axis):
    x = uniform(4, 5, 3)
    ours, theirs = layers.Normalization(axis=axis), keras.layers.Normalization(axis=axis)
    ours.adapt(x)
    theirs.adapt(x.numpy())
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        assert_close(mine, other)
    assert_close(ours(x), theirs(x))


def test_normalization_forgets_what_it_was_adapted_to_before():
    layer = layers.Normalization()
    layer.adapt(X * 100)
    layer.adapt(X)
    assert_close(layer(X).mean(0), np.zeros(3), atol=1e-5)


def test_normalization_is_exact_far_from_zero():
    x = 1e4 + uniform(10_000, 1)
    layer = layers.Normalization()
    layer.adapt([x[:4000], x[4000:]])
    np.testing.assert_allclose(layer.get_weights()[1], x.double().var(0, correction=0), rtol=1e-3)


def test_normalization_reads_weights_that_are_set():
    first, second = layers.Normalization(), layers.Normalization()
    first.adapt(X)
    second.build((None, 3))
    second.set_weights(first.get_weights())
    assert_close(second(X), first(X))
    third = layers.Normalization()
    third.build((None, 3))
    third.load_state_dict(first.state_dict())
    assert_close(third(X), first(X))


@from_every_source
def test_discretization_learns_from(source):
    if source is SOURCES["float64"]:
        pytest.skip("the same numbers, rounded")
    layer = layers.Discretization(num_bins=5)
    layer.adapt(source())
    counts = torch.bincount(layer(X).flatten(), minlength=5)
    assert len(layer.bin_boundaries) == 4
    assert counts.min() > 25  # of 180 values, in about equal parts


@pytest.mark.parametrize("num_bins", [1, 2, 4, 10, 50])
@pytest.mark.parametrize("epsilon", [0.01, 0.1, 0.5])
def test_discretization_learns_what_keras_does(num_bins, epsilon):
    """Keras' `adapt` needs TensorFlow; the steps that it takes do not."""
    ours = layers.Discretization(num_bins=num_bins, epsilon=epsilon)
    theirs = keras.layers.Discretization(num_bins=num_bins, epsilon=epsilon)
    x = uniform(700, 3).numpy()
    batches = [x[:100], x[100:350], x[350:]]
    ours.adapt(batches)
    theirs.reset_state()
    for batch in batches:
        theirs.update_state(batch)
    theirs.finalize_state()
    assert_close(ours.bin_boundaries, theirs.bin_boundaries)
    assert_close(ours(x), theirs(x))


def test_discretization_config_after_adapt():
    layer = layers.Discretization(num_bins=4)
    layer.adapt(X)
    config = layer.get_config()
    assert (config["num_bins"], config["bin_boundaries"]) == (4, layer.bin_boundaries)
    again = layers.Discretization.from_config(config)
    assert_close(again(X), layer(X))
    again.adapt(X * 2)
    assert_close(again.bin_boundaries, np.array(layer.bin_boundaries) * 2)
    assert_close(keras.layers.Discretization.from_config(config)(X), layer(X))


@pytest.mark.parametrize(
    "data",
    [
        WORDS,
        np.array(WORDS),
        np.array(WORDS, dtype=object),
        np.array(WORDS).astype("S"),
        pd.DataFrame(WORDS),
        iter([np.array(WORDS[:1]), WORDS[1:]]),
        [np.array(WORDS[:1]), np.array(WORDS[1:])],
        pd.Series([word for row in WORDS for word in row]),
        DataLoader([word for row in WORDS for word in row], batch_size=2),
    ],
    ids="list array objects bytes frame batches arrays series loader".split(),
)
def test_string_lookup_learns_from(data):
    layer = layers.StringLookup()
    layer.adapt(data)
    assert layer.get_vocabulary() == ["[UNK]", "b", "a", "d", "c"]  # by count, then the greater first


def test_integer_lookup_learns_from_tensors_and_loaders():
    x = torch.tensor([[3, 3, 1], [3, 1, 2]])
    first, second = layers.IntegerLookup(), layers.IntegerLookup()
    first.adapt(x)
    second.adapt(DataLoader(TensorDataset(x, torch.zeros(2))))
    assert first.get_vocabulary() == second.get_vocabulary() == [-1, 3, 1, 2]


def test_text_vectorization_learns_from_a_dataset_with_labels():
    for data in (Texts(), DataLoader(Texts(), batch_size=2)):
        layer = layers.TextVectorization()
        layer.adapt(data)
        assert layer.get_vocabulary() == ["", "[UNK]", "the", "dog", "cat", "a"]


def test_steps_are_how_many_batches_are_taken():
    lookup, bins = layers.StringLookup(), layers.Discretization(num_bins=2)
    lookup.adapt((np.array([word]) for word in "abc"), steps=2)
    assert lookup.vocabulary_size() == 3
    bins.adapt((np.array([number]) for number in (1.0, 2.0, 100.0)), steps=2)
    assert max(bins.bin_boundaries) < 3


def test_counts_add_up_until_they_are_reset():
    layer = layers.StringLookup(max_tokens=2)
    layer.update_state(["a", "b", "b"])
    layer.update_state(["a", "a"])
    layer.finalize_state()
    assert layer.get_vocabulary() == ["[UNK]", "a"]
    layer.update_state(["a", "b"])
    layer.reset_state()
    layer.update_state(["c"])
    layer.finalize_state()
    assert layer.get_vocabulary() == ["[UNK]", "c"]


@pytest.mark.parametrize("name", ["Normalization", "StringLookup", "TextVectorization"])
def test_no_batches(name):
    with pytest.raises(ValueError, match="no batch"):
        getattr(layers, name)().adapt(iter([]))


def test_what_cannot_be_adapted_to():
    with pytest.raises(TypeError, match="DataLoader"):
        layers.Normalization().adapt(object())
    with pytest.raises(ValueError, match="given its mean"):
        layers.Normalization(mean=1.0, variance=1.0).adapt(X)
    with pytest.raises(ValueError, match="given its bin_boundaries"):
        layers.Discretization(bin_boundaries=[1.0]).adapt(X)
    with pytest.raises(ValueError, match="given its vocabulary"):
        layers.StringLookup(vocabulary=["a"]).adapt(["b"])
    layer = layers.Normalization()
    layer.adapt(X)
    with pytest.raises(ValueError, match="shape"):
        layer.adapt(X[:, :2])
