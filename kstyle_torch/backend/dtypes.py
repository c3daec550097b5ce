"""Names of dtypes, and Keras' type promotion, whose results have at most 32 bits unless all dtypes are equal."""

from __future__ import annotations

from typing import Any

from kstyle_torch.config import floatx
from kstyle_torch.dtype_policies import DTypeName, standardize_dtype

SIGNED, UNSIGNED = ("int8", "int16", "int32", "int64"), ("uint8", "uint16", "uint32", "uint64")
FLOATS = ("bfloat16", "float16", "float32", "float64")
COMPLEX = ("complex64", "complex128")
IN_32_BITS = {"int64": "int32", "uint64": "uint32", "float64": "float32", "complex128": "complex64"}


def is_float_dtype(dtype: Any) -> bool:
    """Returns whether a dtype is a floating-point dtype."""
    return standardize_dtype(dtype).startswith(("float", "bfloat"))


def is_int_dtype(dtype: Any) -> bool:
    """Returns whether a dtype is an integer dtype; bool is not."""
    return standardize_dtype(dtype).startswith(("int", "uint"))


def result_type(*dtypes: Any) -> DTypeName:
    """Returns the dtype of results computed from some dtypes, by Keras' rules, which are JAX's.

    Args:
        dtypes: Names or dtypes; `int` and `float` for Python numbers, which take the dtype of tensors beside them; None is
            `floatx()`. `floatx()` if there are none.
    Raises: ValueError: for dtypes that are not promoted, such as strings.

    Example:
        >>> result_type("int64", "float16"), result_type("uint8", "int8"), result_type("int32", float)
        ('float16', 'int16', 'float32')
    """
    if not dtypes:
        return floatx()
    weak = {each for each in dtypes if each is int or each is float}
    names = {standardize_dtype(each) for each in dtypes if each not in weak}
    if any(name.startswith("float8") for name in names):
        raise ValueError(f"float8 is not promoted to other dtypes; cast it first. Got {dtypes}.")
    if len(names) == 1 and (not weak or {standardize_dtype(each) for each in weak} == names):
        found = next(iter(names))
    else:
        found = DTypeName(_joined({str(name) for name in names}, weak))
    return DTypeName(IN_32_BITS.get(found, found))


def _joined(names: set[str], weak: set[Any]) -> str:
    """Returns the smallest dtype for values of all `names`, and for Python numbers of the types `weak`."""
    if unknown := names.difference(SIGNED, UNSIGNED, FLOATS, COMPLEX, ("bool",)):
        raise ValueError(f"{', '.join(sorted(unknown))} cannot be promoted to other dtypes.")
    precision = floatx()[-2:]
    if names.intersection(COMPLEX):
        return "complex128" if names & {"complex128", "float64"} else "complex64"
    if floats := names.intersection(FLOATS):
        return "float32" if floats == {"bfloat16", "float16"} else max(floats, key=FLOATS.index)
    if float in weak:
        return f"float{precision}"
    signed, unsigned = names.intersection(SIGNED), names.intersection(UNSIGNED)
    if signed and unsigned:
        place = max(SIGNED.index(max(signed, key=SIGNED.index)), UNSIGNED.index(max(unsigned, key=UNSIGNED.index)) + 1)
        return SIGNED[place] if place < len(SIGNED) else f"float{precision}"
    if signed or unsigned:
        order = SIGNED if signed else UNSIGNED
        return max(signed or unsigned, key=order.index)
    return f"int{precision}" if weak else "bool"
