"""Sums, means and extremes over one axis, several or all.

`x` is a tensor or convertible to one; `axis` is an int, a tuple of ints or None (all axes), and negative axes count from
the end; over no axes, `()`, elements are unchanged; `keepdims` keeps reduced axes with size 1.

Example:
    >>> ops.sum([[1, 2], [3, 4]], axis=0)
    tensor([4, 6], dtype=torch.int32)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kstyle_torch.ops.dtypes import accumulator, as_dtype, result_type, with_float_dtype
from kstyle_torch.ops.operation import Operand, TensorLike, as_tensor, operation

Axis = int | Sequence[int] | None


def axes_of(x: Tensor, axis: Axis) -> tuple[int, ...]:
    """Returns the axes as sorted numbers from 0."""
    if axis is None:
        return tuple(range(x.ndim))
    axes = (axis,) if isinstance(axis, int) else axis
    return tuple(sorted(each + x.ndim if each < 0 else each for each in axes))


def is_empty(axis: Axis) -> bool:
    """Returns whether `axis` is empty, which torch would take for all axes."""
    return axis is not None and not isinstance(axis, int) and len(axis) == 0


@operation
def all(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Returns whether no element is 0 or False."""
    return x.bool() if is_empty(axis) else torch.all(x, axes_of(x, axis), keepdim=keepdims).bool()


@operation
def any(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Returns whether some element is neither 0 nor False."""
    return x.bool() if is_empty(axis) else torch.any(x, axes_of(x, axis), keepdim=keepdims).bool()


@operation
def amax(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Returns the largest element."""
    return x if is_empty(axis) else torch.amax(x, axes_of(x, axis), keepdim=keepdims)


@operation
def amin(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Returns the smallest element."""
    return x if is_empty(axis) else torch.amin(x, axes_of(x, axis), keepdim=keepdims)


@operation
def max(x: TensorLike, axis: Axis = None, keepdims: bool = False, initial: Operand = None) -> Tensor:
    """Returns the largest element; `initial` if that is larger, or the tensor is empty."""
    if initial is None:
        return amax(x, axis, keepdims)
    if x.numel() == 0:
        return torch.full_like(sum(x, axis, keepdims), initial, dtype=x.dtype)
    return torch.clamp(amax(x, axis, keepdims), min=initial).to(x.dtype)


@operation
def min(x: TensorLike, axis: Axis = None, keepdims: bool = False, initial: Operand = None) -> Tensor:
    """Returns the smallest element; `initial` if that is smaller, or the tensor is empty."""
    if initial is None:
        return amin(x, axis, keepdims)
    if x.numel() == 0:
        return torch.full_like(sum(x, axis, keepdims), initial, dtype=x.dtype)
    return torch.clamp(amin(x, axis, keepdims), max=initial).to(x.dtype)


@operation
def ptp(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Returns the difference of the largest and the smallest element."""
    return amax(x, axis, keepdims) - amin(x, axis, keepdims)


@operation
def argmax(x: TensorLike, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Returns the index of the (first) largest element, int32; in the flattened tensor if `axis` is None."""
    x = x.byte() if x.dtype is torch.bool else x
    return torch.argmax(x, axis, keepdim=keepdims).int()


@operation
def argmin(x: TensorLike, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Returns the index of the (first) smallest element, int32; in the flattened tensor if `axis` is None."""
    x = x.byte() if x.dtype is torch.bool else x
    return torch.argmin(x, axis, keepdim=keepdims).int()


@operation
def sum(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Returns the sum; bools and small integers are added up in int32."""
    return x if is_empty(axis) else torch.sum(x, axes_of(x, axis), keepdim=keepdims, dtype=accumulator(x.dtype))


@operation
def prod(x: TensorLike, axis: Axis = None, keepdims: bool = False, dtype: Any = None) -> Tensor:
    """Returns the product, in `dtype`; if that is None, in int32 for bools and small integers."""
    x = x.to(accumulator(x.dtype) if dtype is None else as_dtype(dtype))
    for each in reversed(axes_of(x, axis)):
        x = torch.prod(x, each, keepdim=keepdims, dtype=x.dtype)
    return x


@operation
def mean(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Returns the mean; of integers in `config.floatx()`."""
    return x if is_empty(axis) else torch.mean(with_float_dtype(x), axes_of(x, axis), keepdim=keepdims)


@operation
def average(x: TensorLike, axis: Axis = None, weights: TensorLike = None) -> Tensor:
    """Returns the weighted mean.

    Args:
        x: Tensor.
        axis: Axes to reduce.
        weights: Shaped like `x`, or like its axis `axis`; if None, the result is the `mean`.
    """
    x = with_float_dtype(x)
    if weights is None or is_empty(axis):
        return mean(x, axis)
    dtype = result_type(x.dtype, weights.dtype)
    x, weights = x.to(dtype), weights.to(dtype)
    if weights.ndim < x.ndim and axis is not None:
        kept = axes_of(x, axis)
        weights = weights.reshape([size if each in kept else 1 for each, size in enumerate(x.shape)])
    return sum(x * weights, axis) / sum(weights.broadcast_to(x.shape), axis)


@operation
def var(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Returns the mean squared distance from the mean, divided by the number of elements."""
    x = with_float_dtype(x)
    return torch.zeros_like(x) if is_empty(axis) else torch.var(x, axes_of(x, axis), correction=0, keepdim=keepdims)


@operation
def std(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Returns the square root of `var`."""
    x = with_float_dtype(x)
    return torch.zeros_like(x) if is_empty(axis) else torch.std(x, axes_of(x, axis), correction=0, keepdim=keepdims)


@operation
def count_nonzero(x: TensorLike, axis: Axis = None) -> Tensor:
    """Returns the number of elements that are not 0, int32."""
    return (x != 0).int() if is_empty(axis) else torch.sum(x != 0, axes_of(x, axis), dtype=torch.int32)


@operation
def cumsum(x: TensorLike, axis: int | None = None, dtype: Any = None) -> Tensor:
    """Returns the cumulative sums along `axis`, of the flattened tensor if None; of bools in int32."""
    return _cumulative(torch.cumsum, x, axis, dtype)


@operation
def cumprod(x: TensorLike, axis: int | None = None, dtype: Any = None) -> Tensor:
    """Returns the cumulative products along `axis`, of the flattened tensor if None; of bools in int32."""
    return _cumulative(torch.cumprod, x, axis, dtype)


def _cumulative(function: Any, x: Tensor, axis: int | None, dtype: Any) -> Tensor:
    dtype = x.dtype if dtype is None else as_dtype(dtype)
    dtype = torch.int32 if dtype is torch.bool else dtype
    return function(x.flatten(), 0, dtype=dtype) if axis is None else function(x, axis, dtype=dtype)


@operation
def median(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Returns the middle element, or the mean of the two in the middle."""
    return quantile_with(torch.quantile, x, as_tensor(0.5, device=x.device), axis, "linear", keepdims)


@operation
def quantile(x: TensorLike, q: TensorLike, axis: Axis = None, method: str = "linear", keepdims: bool = False) -> Tensor:
    """Returns the value below which the share `q` of the elements lies.

    Args:
        x: Tensor.
        q: Share, 0 to 1, or a tensor of shares, which becomes the first axis of the result.
        axis: Axes to reduce.
        method: Interpolation between two elements: `"linear"`, `"lower"`, `"higher"`, `"midpoint"` or `"nearest"`.
        keepdims: Whether to keep reduced axes with size 1.
    """
    return quantile_with(torch.quantile, x, q, axis, method, keepdims)


@operation
def percentile(
    x: TensorLike, q: TensorLike, axis: Axis = None, method: str = "linear", keepdims: bool = False
) -> Tensor:
    """Returns `quantile` with `q` in percent. The other arguments are those of `quantile`."""
    return quantile_with(torch.quantile, x, q / 100, axis, method, keepdims)


def quantile_with(function: Any, x: Tensor, q: Tensor, axis: Axis, method: str, keepdims: bool) -> Tensor:
    """Converts arguments for torch's quantile, which takes one axis, and neither integers nor half precision."""
    result_dtype = result_type(x.dtype, float)
    x = x.to(torch.promote_types(result_dtype, torch.float32))
    axes = axes_of(x, axis)
    kept = [each for each in range(x.ndim) if each not in axes]
    num_kept = len(kept)
    x = x.permute(*kept, *axes)
    rows = x.flatten(num_kept) if axes else x.unsqueeze(-1)
    result = function(rows, q.to(rows), dim=-1, interpolation=method)
    for each in axes if keepdims else ():
        result = result.unsqueeze(each + q.ndim)
    return result.to(result_dtype)


@operation
def diff(a: TensorLike, n: int = 1, axis: int = -1) -> Tensor:
    """Returns the `n`-th differences of neighbors along `axis`."""
    return torch.diff(a, n=n, dim=axis)


@operation
def trapezoid(y: TensorLike, x: TensorLike = None, dx: Operand = 1.0, axis: int = -1) -> Tensor:
    """Returns the area under `y` by the trapezoidal rule.

    Args:
        y: Function values.
        x: Their positions; None for steps of `dx`.
        dx: Distance between two.
        axis: The axis.
    """
    y = with_float_dtype(y) if y.dtype is torch.bool else y
    return torch.trapezoid(y, dx=1.0, dim=axis) * dx if x is None else torch.trapezoid(y, x=x, dim=axis)


@operation
def corrcoef(x: TensorLike) -> Tensor:
    """Returns the correlation matrix of variables (rows; columns are observations)."""
    x = with_float_dtype(x)
    distance = x - x.mean(-1, keepdim=True)
    unit = distance / torch.linalg.vector_norm(distance, dim=-1, keepdim=True)
    return torch.matmul(unit, unit.mH if x.ndim > 1 else unit)  # torch.corrcoef cannot be compiled


@operation
def trace(x: TensorLike, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """Returns the sum of a diagonal; bools and small integers are added up in int32.

    Args:
        x: Tensor of two axes or more.
        offset: Position above the main diagonal; negative below.
        axis1: Axis of the rows.
        axis2: Axis of the columns.
    """
    return torch.sum(torch.diagonal(x, offset, axis1, axis2), -1, dtype=accumulator(x.dtype))
