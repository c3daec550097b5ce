"""to_categorical and normalize, against Keras."""

import numpy as np
import pytest
import torch
from oracle import assert_close

from kstyle_torch.utils import normalize, to_categorical


@pytest.mark.parametrize(
    ("x", "num_classes"),
    [
        ([0, 1, 2, 1], None),
        ([0, 1, 2, 1], 5),
        ([[0], [2], [1]], None),
        ([[0, 1], [2, 1]], 4),
        ([[[0], [1]], [[2], [1]]], None),
        ([0.0, 2.0], 3),
        ([True, False], None),
        (np.array([3, 1], dtype="uint8"), None),
        ([0], None),
        (2, 3),
    ],
    ids=str,
)
def test_to_categorical_equals_keras(keras, x, num_classes):
    ours, theirs = to_categorical(x, num_classes), keras.utils.to_categorical(x, num_classes)
    assert isinstance(ours, np.ndarray)
    assert ours.dtype == np.float32
    assert_close(ours, theirs)


def test_to_categorical_of_a_tensor_is_a_tensor():
    vectors = to_categorical(torch.tensor([[0], [2]]), 3)
    assert isinstance(vectors, torch.Tensor)
    assert vectors.dtype == torch.float32
    assert vectors.tolist() == [[1, 0, 0], [0, 0, 1]]


def test_to_categorical_of_nothing():
    assert to_categorical(np.zeros((0,), "int64"), 3).shape == (0, 3)


@pytest.mark.parametrize(
    ("x", "num_classes", "message"),
    [
        ([0, 3], 3, "class 3 is out of range; with 3 classes they go from 0 to 2"),
        ([-1, 1], None, "class -1 is out of range"),
        ([-2, -1], None, "out of range"),
        ([0.5, 1.0], None, "integer class numbers"),
        ([float("nan"), 1.0], 3, "integer class numbers"),
        (["a", "b"], None, "integer class numbers"),
        ([], None, "x is empty"),
        ([0, 1], 0, "num_classes must be a positive int"),
        ([0, 1], -2, "num_classes must be a positive int"),
        ([0, 1], 2.5, "num_classes must be a positive int"),
    ],
    ids=str,
)
def test_to_categorical_says_what_is_wrong(x, num_classes, message):
    with pytest.raises(ValueError, match=message):
        to_categorical(x, num_classes)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("axis", [-1, 1, -2])
def test_normalize_equals_keras(keras, axis, order):
    x = np.random.default_rng(0).normal(size=(4, 3))
    x[1] = 0
    assert_close(normalize(x, axis, order), keras.utils.normalize(x, axis, order))
    assert_close(normalize(torch.from_numpy(x), axis, order), normalize(x, axis, order))


def test_normalize_along_the_first_axis():
    x = np.array([[3.0, 0.0], [4.0, 2.0]])
    np.testing.assert_allclose(normalize(x, axis=0), [[0.6, 0.0], [0.8, 1.0]])  # Keras takes axis=0 for -1


def test_normalize_keeps_float32_and_takes_lists():
    assert normalize(np.ones((2, 2), "float32")).dtype == np.float32
    np.testing.assert_allclose(normalize([[3, 4]]), [[0.6, 0.8]])
    assert_close(normalize(torch.tensor([[3, 4]])), np.array([[0.6, 0.8]], "float32"))


@pytest.mark.parametrize(("arguments", "message"), [((2,), "axis 2"), ((-1, 0), "order must be positive")], ids=str)
def test_normalize_says_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        normalize(np.ones((2, 2)), *arguments)
