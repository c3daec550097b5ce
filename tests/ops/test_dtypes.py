"""Promotion of dtypes is Keras' own, but for 64-bit types, which stay 64-bit as in torch."""

import itertools

import pytest
import torch

from kstyle_torch import config, ops
from kstyle_torch.ops.dtypes import as_dtype, result_type
from tests.ops.test_rows import NARROWER

DTYPES = "bool uint8 int8 int16 int32 int64 bfloat16 float16 float32 float64".split()
UNARY = (
    "abs ceil cos cumsum exp floor isnan log mean nansum negative prod round sign sqrt square std sum tanh var".split()
)
UNARY += "any all argmax max median trunc zeros_like count_nonzero nanmean nanvar average nanmax argsort sort cbrt fabs".split()
BINARY = (
    "add arctan2 divide divide_no_nan equal fmax heaviside hypot logaddexp logical_and matmul maximum minimum".split()
)
BINARY += "mod multiply power tensordot where dot inner append stack concatenate floor_divide isclose".split()


def called(library, name, *operands):
    """The dtype of the result; None where the library refuses."""
    if name in ("stack", "concatenate"):
        operands = (list(operands),)
    if name == "where":
        operands = (torch.tensor([True, False]), *operands)
    try:
        return getattr(library, name)(*operands).dtype
    except (RuntimeError, ValueError, NotImplementedError, TypeError):
        return None


def agree(ours, theirs, *inputs):
    wide = {"int64", "float64"} & {*inputs}
    return ours == theirs or (wide and NARROWER.get(ours, ours) == NARROWER.get(theirs, theirs))


@pytest.mark.parametrize("name", UNARY)
def test_one_tensor(name, keras):
    for dtype in DTYPES:
        x = torch.ones(2, dtype=as_dtype(dtype))
        ours, theirs = called(ops, name, x), called(keras.ops, name, x)
        if theirs is not None:
            assert agree(ours, theirs, dtype), f"{dtype}: {ours}, Keras {theirs}"


@pytest.mark.parametrize("name", BINARY)
def test_two_tensors(name, keras):
    shape = (2, 2) if name in ("tensordot", "matmul") else 2
    for dtype, other in itertools.product(DTYPES, DTYPES):
        x1, x2 = torch.ones(shape, dtype=as_dtype(dtype)), torch.ones(shape, dtype=as_dtype(other))
        ours, theirs = called(ops, name, x1, x2), called(keras.ops, name, x1, x2)
        if theirs is not None and not (
            name == "heaviside" and dtype == other == "bool"
        ):  # Keras: bool, against its rule
            assert agree(ours, theirs, dtype, other), f"{dtype} with {other}: {ours}, Keras {theirs}"


@pytest.mark.parametrize(
    "name", [name for name in BINARY if name not in ("matmul", "tensordot", "stack", "concatenate", "append")]
)
@pytest.mark.parametrize("kind", [int, float])
def test_a_number_takes_the_dtype_of_the_tensor(name, kind, keras):
    for dtype in DTYPES:
        x, number = torch.ones(2, dtype=as_dtype(dtype)), kind(2)
        like = torch.ones(2, dtype=as_dtype(keras.backend.result_type(dtype, kind)))  # what Keras says the number is
        for operands, alike in (((x, number), (x, like)), ((number, x), (like, x))):
            ours, theirs = called(ops, name, *operands), called(keras.ops, name, *alike)
            if theirs is not None and not (dtype == "bool" and kind is int):  # torch: int64; Keras: int32
                assert agree(ours, theirs, dtype), f"{dtype}: {ours}, Keras {theirs}"


def test_result_type_is_that_of_keras(keras):
    for pair in itertools.combinations_with_replacement([*DTYPES, int, float], 2):
        theirs = as_dtype(keras.backend.result_type(*pair))
        assert agree(result_type(*pair), theirs, *map(str, pair)), f"{pair}: {result_type(*pair)}, Keras {theirs}"


def test_floatx_is_what_integers_become():
    config.set_floatx("float64")
    assert ops.mean(torch.tensor([1, 2])).dtype is torch.float64
    assert ops.ones(2).dtype is ops.convert_to_tensor(1.5).dtype is ops.floor(torch.tensor([1])).dtype is torch.float64


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("float16", torch.float16),
        (torch.int8, torch.int8),
        (float, torch.float32),
        (int, torch.int32),
        ("int", torch.int32),
        (bool, torch.bool),
        (None, torch.float32),
        ("uint16", torch.int32),
    ],
    ids=str,
)
def test_as_dtype(given, expected):
    assert as_dtype(given) is expected


def test_unknown_dtypes_are_refused():
    with pytest.raises(ValueError, match="Unknown dtype 'flaot32'"):
        ops.cast(torch.ones(1), "flaot32")
