"""utils.get_source_inputs, is_keras_tensor and standardize_dtype, against Keras."""

import numpy as np
import pytest
import torch

import kstyle_torch as ks


def shared(lib):
    a, b, c = (lib.Input((3,), name=name) for name in "abc")
    dense = lib.layers.Dense(3)
    x = lib.layers.Add()([dense(b), dense(a), b])
    inner_input = lib.Input((3,), name="inner")
    inner = lib.Model(inner_input, lib.layers.Dense(2)(inner_input))
    return {"a": a, "x": x, "both": x * c + a, "nested": inner(x), "two": lib.layers.Concatenate()([c, c])}


@pytest.mark.parametrize("name", ["a", "x", "both", "nested", "two"])
def test_source_inputs_equal_keras(keras, name):
    ours, theirs = ([source.name for source in lib.utils.get_source_inputs(shared(lib)[name])] for lib in (ks, keras))
    assert ours == theirs


def test_source_inputs_are_the_very_tensors():
    x = ks.Input((2,))
    y = x
    for _ in range(2000):
        y = y + y
    assert ks.utils.get_source_inputs(y)[0] is x
    eager = torch.ones(2)
    assert ks.utils.get_source_inputs(eager) is eager


def test_keras_tensors(keras):
    for lib in (keras, ks):
        x = lib.Input((2,))
        values = [x, x + 1, lib.ops.ones((2,)), np.ones(2), lib.Variable(1.0), None, "x"]
        assert [lib.utils.is_keras_tensor(value) for value in values] == [True, True, False, False, False, False, False]


DTYPES = [
    *(None, "float32", "bfloat16", "int", "string", "bool", "complex64", "uint64", "float8_e4m3fn"),
    *(int, float, bool, str, complex, np.float64, np.int8, np.dtype("uint16"), np.dtype(bool)),
    *(torch.float16, torch.int64, torch.bool, torch.bfloat16, torch.complex128, torch.uint8, torch.float8_e5m2),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtypes_equal_keras(keras, dtype):
    ours, theirs = (lib.utils.standardize_dtype(dtype) for lib in (ks, keras))
    assert isinstance(ours, str) and ours == theirs
    assert ours == "string" or getattr(torch, ours) == ours


@pytest.mark.parametrize("dtype", ["float31", "", torch.qint8, object, np.dtype("U3"), 5], ids=str)
def test_a_wrong_dtype(keras, dtype):
    for lib in (keras, ks):
        with pytest.raises(ValueError, match="dtype"):
            lib.utils.standardize_dtype(dtype)


def test_the_default_follows_floatx(keras):
    ks.config.set_floatx("float16")
    assert ks.utils.standardize_dtype(None) == "float16"


def test_dtypes_of_tensors(keras):
    for lib in (keras, ks):
        assert lib.utils.standardize_dtype(lib.Input((2,), dtype="int32").dtype) == "int32"
        assert lib.utils.standardize_dtype(lib.Variable(1.0).dtype) == "float32"
