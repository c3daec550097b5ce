"""`pad_sequences`, against Keras'."""

import keras
import numpy as np
import pytest

from kstyle_torch.utils import pad_sequences

RAGGED = [[1], [2, 3], [], [4, 5, 6, 7]]


@pytest.mark.parametrize("maxlen", [None, 2, 6])
@pytest.mark.parametrize("padding", ["pre", "post"])
@pytest.mark.parametrize("truncating", ["pre", "post"])
@pytest.mark.parametrize("dtype", ["int32", "float32", np.int64])
def test_equals_keras(maxlen, padding, truncating, dtype):
    arguments = {"maxlen": maxlen, "padding": padding, "truncating": truncating, "dtype": dtype, "value": -1}
    ours, theirs = pad_sequences(RAGGED, **arguments), keras.utils.pad_sequences(RAGGED, **arguments)
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("sequences", "arguments"),
    [
        ([[[1, 2]], [[3, 4], [5, 6]]], {}),
        ([np.ones((2, 3)), np.ones((4, 3))], {"dtype": "float64", "value": 0.5}),
        ([["a"], ["b", "c"]], {"dtype": object, "value": "pad"}),
        ([["a"], ["b", "c"]], {"dtype": "U5", "value": "pad"}),
        ([np.array([1, 2]), np.array([3])], {}),
        ([(1, 2), (3,)], {}),
        ([[], []], {"maxlen": 3}),
    ],
    ids="rows arrays objects text vectors tuples empty".split(),
)
def test_items_of_other_kinds(sequences, arguments):
    ours, theirs = pad_sequences(sequences, **arguments), keras.utils.pad_sequences(sequences, **arguments)
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("sequences", "arguments", "message"),
    [
        (3, {}, "list of sequences"),
        ([1, 2], {}, "every item"),
        ([[1]], {"padding": "left"}, "padding"),
        ([[1]], {"truncating": "left"}, "truncating"),
        ([[1]], {"value": "x"}, "dtype=object"),
        ([[[1, 2]], [[1, 2, 3]]], {}, "shape"),
    ],
)
def test_mistakes(sequences, arguments, message):
    with pytest.raises(ValueError, match=message):
        pad_sequences(sequences, **arguments)
