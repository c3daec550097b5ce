"""Keras' layers for text and hashes run on TensorFlow: where it is installed, they are the oracle (it mostly is not)."""

import random
import string

import keras
import numpy as np
import pytest

from kstyle_torch import layers
from tests.oracle import assert_close

pytest.importorskip("tensorflow")

TEXTS = ["The cat; sat, on the MAT!", "a  cat\tÉtoile\u00a0x  é", "", "the-cat's dog", "x_y [UNK] a\x1cb"]
WORDS = np.array([["a", "b", "zz"], ["c", "", "[UNK]"], ["a", "é", "q"]])
NUMBERS = np.random.default_rng(0).integers(-3, 12, (6, 4))
MODES = ("int", "one_hot", "multi_hot", "count", "tf_idf")


def assert_equal_layers(name, arguments, x, data=None):
    """Outputs, dtypes and vocabularies are equal, after `adapt` if there is data."""
    made = [getattr(namespace, name)(**arguments) for namespace in (keras.layers, layers)]
    for layer in made if data is not None else ():
        layer.adapt(data)
    theirs, ours = (layer(x) for layer in made)
    assert ours.dtype == theirs.dtype
    assert_close(ours, theirs)
    if hasattr(made[0], "get_vocabulary"):
        assert made[1].get_vocabulary() == list(made[0].get_vocabulary())


def random_strings():
    draw = random.Random(0)
    letters = string.printable + "éßÜ漢字😀"
    return ["".join(draw.choices(letters, k=length)) for length in [*range(140), 200, 255, 256, 257, 1000]]


@pytest.mark.parametrize("salt", [None, 12, [133, 2**40 + 7]])
@pytest.mark.parametrize("x", [np.array(random_strings()), np.arange(-500, 500) * 3**20], ids=["text", "numbers"])
def test_hashing(x, salt):
    assert_equal_layers("Hashing", {"num_bins": 10**9, "salt": salt}, x)


@pytest.mark.parametrize("mode", ["int", "one_hot", "multi_hot", "count"])
def test_hashing_modes(mode):
    assert_equal_layers("Hashing", {"num_bins": 5, "output_mode": mode, "mask_value": 3}, NUMBERS)


@pytest.mark.parametrize("mode", ["int", "one_hot"])
def test_hashed_crossing(mode):
    x = (np.array(random_strings()), np.arange(145) - 70, np.array(random_strings()[::-1]))
    assert_equal_layers("HashedCrossing", {"num_bins": 997, "output_mode": mode}, x)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"mask_token": 0},
        {"num_oov_indices": 3},
        {"num_oov_indices": 4, "oov_method": "farmhash"},
        {"max_tokens": 8},
    ],
    ids=str,
)
def test_integer_lookup(arguments, mode):
    idf = {"idf_weights": [0.1, 0.2, 0.3, 0.4]} if mode == "tf_idf" else {}
    given = {"vocabulary": [5, 2, 9, 7], "output_mode": mode, **arguments, **idf}
    assert_equal_layers("IntegerLookup", given, NUMBERS)
    assert_equal_layers("IntegerLookup", {"output_mode": mode, **arguments}, NUMBERS, data=NUMBERS)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "arguments", [{}, {"mask_token": ""}, {"num_oov_indices": 3}, {"num_oov_indices": 4, "salt": 3}], ids=str
)
def test_string_lookup(arguments, mode):
    idf = {"idf_weights": [0.1, 0.2, 0.3, 0.4]} if mode == "tf_idf" else {}
    given = {"vocabulary": ["a", "b", "c", "é"], "output_mode": mode, **arguments, **idf}
    assert_equal_layers("StringLookup", given, WORDS)
    assert_equal_layers("StringLookup", {"output_mode": mode, **arguments}, WORDS, data=WORDS)
    assert_equal_layers("StringLookup", {"output_mode": mode, **arguments}, WORDS, data=WORDS.ravel().tolist())


@pytest.mark.parametrize("mode", ["int", "multi_hot", "count", "tf_idf"])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"standardize": None},
        {"standardize": "lower"},
        {"standardize": np.char.upper},
        {"split": "character", "ngrams": 3},
        {"ngrams": 2},
        {"ngrams": (1, 3)},
        {"max_tokens": 6},
        {"split": None},
    ],
    ids=str,
)
def test_text_vectorization(arguments, mode):
    assert_equal_layers("TextVectorization", {"output_mode": mode, **arguments}, TEXTS, data=TEXTS)
    column = [[text] for text in TEXTS]
    assert_equal_layers("TextVectorization", {"output_mode": mode, **arguments}, column, data=TEXTS)


@pytest.mark.parametrize("length", [1, 3, 12])
def test_text_vectorization_length(length):
    assert_equal_layers("TextVectorization", {"output_sequence_length": length}, TEXTS, data=TEXTS)


@pytest.mark.parametrize("mode", ["int", "tf_idf"])
def test_keras_takes_the_config_of_an_adapted_layer(mode):
    ours = layers.TextVectorization(output_mode=mode)
    ours.adapt(TEXTS)
    theirs = keras.layers.TextVectorization.from_config(ours.get_config())
    assert_close(ours(TEXTS), theirs(TEXTS))


@pytest.mark.parametrize("num_bins", [2, 10, 50])
def test_discretization_of_batches(num_bins):
    x = np.random.default_rng(1).normal(size=(700, 3)).astype("float32")
    ours, theirs = (library.Discretization(num_bins=num_bins) for library in (layers, keras.layers))
    for layer in (ours, theirs):
        layer.adapt(iter([x[:100], x[100:350], x[350:]]))
    assert_close(ours.bin_boundaries, theirs.bin_boundaries)


def test_normalization_of_batches():
    x = np.random.default_rng(1).normal(3, 2, size=(700, 3)).astype("float32")
    ours, theirs = (library.Normalization() for library in (layers, keras.layers))
    for layer in (ours, theirs):
        layer.adapt(iter([x[:100], x[100:350], x[350:]]))
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        assert_close(mine, other)
