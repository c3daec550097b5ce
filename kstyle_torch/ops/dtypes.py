"""Type promotion: Keras' rules, which are JAX's, on torch's dtypes.

A Python number has no dtype of its own: it takes that of the tensor next to it, except that a float with integers gives
`config.floatx()`. Unlike in JAX, and as in torch, 64-bit types stay 64-bit, and bools with a Python int give int64.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch

from kstyle_torch import config
from kstyle_torch.initializers import as_dtype as dtype_named

PYTHON_TYPES = {bool: torch.bool, int: torch.int32, complex: torch.complex64}
WIDER = {"uint16": torch.int32, "uint32": torch.int64}  # torch has these dtypes, but hardly any kernels for them
SMALL_INTEGERS = {torch.bool, torch.uint8, torch.int8, torch.int16}


def floatx() -> torch.dtype:
    """Returns `config.floatx()` as torch's dtype."""
    return getattr(torch, config.floatx())


def as_dtype(dtype: Any) -> torch.dtype:
    """Returns the torch dtype for a dtype, its name, or a NumPy or Python type; `config.floatx()` for None.

    Raises: ValueError: if torch has no such dtype.
    """
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype is None or dtype is float:
        return floatx()
    if isinstance(dtype, type) and dtype in PYTHON_TYPES:
        return PYTHON_TYPES[dtype]
    if not isinstance(dtype, str):
        dtype = np.dtype(dtype).name
    return WIDER.get(dtype) or (PYTHON_TYPES[int] if dtype == "int" else dtype_named(dtype))


def result_type(*dtypes: Any) -> torch.dtype:
    """Returns the dtype to which all `dtypes` are promoted.

    Args:
        dtypes: torch dtypes or their names; `int` and `float` for Python numbers.

    Example:
        >>> result_type(torch.int32, float), result_type(torch.float16, float)
        (torch.float32, torch.float16)
    """
    weak = {dtype for dtype in dtypes if dtype is int or dtype is float}
    strong = [as_dtype(dtype) for dtype in dtypes if dtype not in weak]
    if not strong:
        return floatx() if float in weak or not dtypes else PYTHON_TYPES[int]
    result = functools.reduce(torch.promote_types, strong)
    if float in weak and not (result.is_floating_point or result.is_complex):
        return floatx()
    return PYTHON_TYPES[int] if weak and result is torch.bool else result


def dtype_of(x: Any) -> Any:
    """Returns the argument of `result_type` for a tensor, an array or a Python number."""
    return getattr(x, "dtype", type(x))


def with_float_dtype(x: torch.Tensor) -> torch.Tensor:
    """Returns `x`, integers and bools cast to `config.floatx()`."""
    return x if x.is_floating_point() or x.is_complex() else x.to(floatx())


def in_common_dtype(*tensors: torch.Tensor, floating: bool = False) -> list[torch.Tensor]:
    """Casts `tensors` to one dtype, for functions of torch that do not promote.

    As in torch, tensors without axes do not raise the dtype within a category: they may have been numbers.

    Args:
        tensors: One or more.
        floating: Whether integers become `config.floatx()`.
    """
    some_have_axes = any(tensor.ndim for tensor in tensors)
    dtypes = [_weak(tensor.dtype) if some_have_axes and not tensor.ndim else tensor.dtype for tensor in tensors]
    dtype = result_type(*dtypes, float) if floating else result_type(*dtypes)
    return [tensor.to(dtype) for tensor in tensors]


def _weak(dtype: torch.dtype) -> Any:
    if dtype is torch.bool or dtype.is_complex:
        return dtype
    return float if dtype.is_floating_point else int


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """Returns the accumulation dtype of a sum: int32 for bools and small integers, else the dtype itself."""
    return torch.int32 if dtype in SMALL_INTEGERS else dtype
