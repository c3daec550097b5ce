"""Basic operations on tensors: conversion, dtype, shape, gradient.

Example:
    >>> ops.convert_to_tensor([1.5, 2.5])
    tensor([1.5000, 2.5000])
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kstyle_torch.arrays import to_array
from kstyle_torch.config import device_scope
from kstyle_torch.ops.control import associative_scan, cond, fori_loop, map, scan, switch, vectorized_map, while_loop
from kstyle_torch.ops.dtypes import as_dtype
from kstyle_torch.ops.indexing import scatter, scatter_update, slice, slice_update
from kstyle_torch.ops.joining import unstack
from kstyle_torch.ops.operation import TensorLike, as_tensor, operation
from kstyle_torch.ops.shaping import rearrange
from kstyle_torch.variables import Variable

__all__ = [
    "associative_scan",
    "cast",
    "cond",
    "convert_to_numpy",
    "convert_to_tensor",
    "custom_gradient",
    "device_scope",
    "dtype",
    "fori_loop",
    "is_tensor",
    "map",
    "rearrange",
    "saturate_cast",
    "scan",
    "scatter",
    "scatter_update",
    "shape",
    "slice",
    "slice_update",
    "stop_gradient",
    "switch",
    "unstack",
    "vectorized_map",
    "while_loop",
]


@operation
def cast(x: TensorLike, dtype: Any) -> Tensor:
    """Casts to a dtype, a torch dtype or its name."""
    return x.to(as_dtype(dtype))


@operation
def convert_to_tensor(
    x: TensorLike, dtype: Any = None, sparse: bool | None = None, ragged: bool | None = None
) -> Tensor:
    """Converts a number, list, array or weight view to a tensor; a tensor is returned unchanged.

    Args:
        x: The value. Python numbers become int32 and `config.floatx()`; arrays keep their dtype.
        dtype: Dtype of the result; that of `x` if None.
        sparse: Accepted for compatibility with Keras; must not be true.
        ragged: Likewise.
    Raises: ValueError: if `sparse` or `ragged` is true.
    """
    if sparse or ragged:
        raise ValueError(f"convert_to_tensor: only dense tensors are supported; got sparse={sparse}, ragged={ragged}.")
    return x if dtype is None else x.to(as_dtype(dtype))


def convert_to_numpy(x: TensorLike) -> np.ndarray:
    """Converts to a NumPy array; waits for the device.

    bfloat16 becomes the dtype of that name of `ml_dtypes` where that package is installed, else float32.
    """
    if isinstance(x, (list, tuple)):
        return np.array([convert_to_numpy(item) for item in x])
    if isinstance(x, Variable):
        x = x.read()
    return to_array(x) if isinstance(x, Tensor) else np.asarray(x)


def is_tensor(x: Any) -> bool:
    """Returns whether `x` is a torch tensor."""
    return isinstance(x, Tensor)


def shape(x: TensorLike) -> tuple[Any, ...]:
    """Returns the shape; None for unknown sizes of a symbolic tensor."""
    return tuple(x.shape if hasattr(x, "shape") else as_tensor(x).shape)


def dtype(x: TensorLike) -> str:
    """Returns the dtype's name, such as `"float32"`."""
    return str(x.dtype).removeprefix("torch.")


@operation
def saturate_cast(x: TensorLike, dtype: Any) -> Tensor:
    """Casts, with values beyond the range of `dtype` clipped to it instead of wrapping around."""
    dtype = as_dtype(dtype)
    if x.dtype is torch.bool or x.dtype is dtype:
        return x.to(dtype)
    return torch.clamp(x, *_shared_range(x.dtype, dtype)).to(dtype)


def _shared_range(source: torch.dtype, target: torch.dtype) -> tuple[Any, Any]:
    """Returns the smallest and the largest number of `source` that `target` can represent."""
    lows, highs = zip(_range_of(source), _range_of(target))
    low, high = max(lows), min(highs)
    return (_held(low, source), _held(high, source)) if source.is_floating_point else (low, high)


def _held(bound: Any, dtype: torch.dtype) -> float:
    """Rounds a bound towards 0 in a float dtype: 2147483647 is not representable in float32, which would round it up."""
    size = int(abs(bound))
    step = int(torch.finfo(dtype).eps * 2.0 ** (size.bit_length() - 1))
    return float(bound) if step <= 1 else math.copysign(size // step * step, bound)


def _range_of(dtype: torch.dtype) -> tuple[Any, Any]:
    if dtype is torch.bool:
        return 0, 1
    limits = torch.finfo(dtype) if dtype.is_floating_point else torch.iinfo(dtype)
    return limits.min, limits.max


@operation
def stop_gradient(variable: TensorLike) -> Tensor:
    """Returns the values without a gradient."""
    return variable.detach()


def custom_gradient(f: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a function that defines its own gradient.

    Args:
        f: `f(*args)` returns `(output, gradient)`: a tensor, and a function that is called as
            `gradient(*args, upstream=upstream)`, or as `gradient(upstream)` if it takes one argument, and returns the
            gradient of each argument.
    Returns: A function that returns the output.

    Example:
        >>> @ops.custom_gradient
        ... def clipped(x):
        ...     return x, lambda upstream: upstream.clamp(-1, 1)
        >>> x = torch.tensor(2.0, requires_grad=True)
        >>> (5 * clipped(x)).backward()
        >>> x.grad
        tensor(1.)
    """

    @functools.wraps(f)
    def with_gradient(*args: Any) -> Any:
        return _CustomGradient.apply(f, *[as_tensor(arg) for arg in args])

    return with_gradient


class _CustomGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Callable[..., Any], *args: Tensor) -> Any:
        output, ctx.gradient = function(*args)
        ctx.save_for_backward(*args)
        return output.view_as(output) if any(output is arg for arg in args) else output

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        given = upstream[0] if len(upstream) == 1 else upstream
        try:
            inspect.signature(ctx.gradient).bind(*ctx.saved_tensors, upstream=given)
        except TypeError:  # a function of one argument, as written for JAX
            gradients = ctx.gradient(given)
        else:
            gradients = ctx.gradient(*ctx.saved_tensors, upstream=given)
        return None, *(gradients if isinstance(gradients, (tuple, list)) else (gradients,))
