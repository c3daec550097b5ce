"""Reductions that ignore NaN. `axis` and `keepdims` are those of `reduction`.

Example:
    >>> ops.nanmean([1.0, float("nan"), 3.0])
    tensor(2.)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kstyle_torch.ops import reduction
from kstyle_torch.ops.dtypes import with_float_dtype
from kstyle_torch.ops.operation import TensorLike, as_tensor, operation
from kstyle_torch.ops.reduction import Axis, axes_of, is_empty


@operation
def nansum(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Returns the sum, NaN as 0."""
    return reduction.sum(_filled(x, 0.0), axis, keepdims)


@operation
def nanprod(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Returns the product, NaN as 1."""
    return reduction.prod(_filled(x, 1.0), axis, keepdims)


@operation
def nancumsum(x: TensorLike, axis: int | None = None, dtype: Any = None) -> Tensor:
    """Returns `cumsum`, NaN as 0."""
    return reduction.cumsum(_filled(x, 0.0), axis, dtype)


@operation
def nancumprod(x: TensorLike, axis: int | None = None, dtype: Any = None) -> Tensor:
    """Returns `cumprod`, NaN as 1."""
    return reduction.cumprod(_filled(x, 1.0), axis, dtype)


@operation
def nanmax(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Returns the largest number; NaN if all are NaN."""
    return _extreme(reduction.amax, x, float("-inf"), axis, keepdims)


@operation
def nanmin(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Returns the smallest number; NaN if all are NaN."""
    return _extreme(reduction.amin, x, float("inf"), axis, keepdims)


def _extreme(function: Any, x: Tensor, fill: float, axis: Axis, keepdims: bool) -> Tensor:
    if not x.is_floating_point() or is_empty(axis):
        return function(x, axis, keepdims)
    nothing = reduction.all(torch.isnan(x), axis, keepdims)
    return torch.where(nothing, float("nan"), function(_filled(x, fill), axis, keepdims))


@operation
def nanargmax(x: TensorLike, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Returns the index of the largest number, int32; -1 if all are NaN."""
    return _where_extreme(reduction.argmax, x, float("-inf"), axis, keepdims)


@operation
def nanargmin(x: TensorLike, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Returns the index of the smallest number, int32; -1 if all are NaN."""
    return _where_extreme(reduction.argmin, x, float("inf"), axis, keepdims)


def _where_extreme(function: Any, x: Tensor, fill: float, axis: int | None, keepdims: bool) -> Tensor:
    if not x.is_floating_point():
        return function(x, axis, keepdims)
    found = function(_filled(x, fill), axis, keepdims)
    return torch.where(reduction.all(torch.isnan(x), axis, keepdims), -1, found)


@operation
def nanmean(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Returns the mean, without NaN."""
    return x if is_empty(axis) else torch.nanmean(with_float_dtype(x), axes_of(x, axis), keepdim=keepdims)


@operation
def nanvar(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Returns the variance, without NaN."""
    x = with_float_dtype(x)
    if is_empty(axis):
        return torch.where(torch.isnan(x), x, 0.0)
    real = ~torch.isnan(x)
    distance = torch.where(real, x - nanmean(x, axis, keepdims=True), 0.0)
    return reduction.sum(torch.square(distance), axis, keepdims) / reduction.sum(real, axis, keepdims)


@operation
def nanstd(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Returns the square root of `nanvar`."""
    return torch.sqrt(nanvar(x, axis, keepdims))


@operation
def nanmedian(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Returns the median, without NaN."""
    if is_empty(axis):
        return x
    return reduction.quantile_with(torch.nanquantile, x, as_tensor(0.5, device=x.device), axis, "linear", keepdims)


@operation
def nanquantile(
    x: TensorLike, q: TensorLike, axis: Axis = None, method: str = "linear", keepdims: bool = False
) -> Tensor:
    """Returns `quantile`, without NaN. The arguments are those of `quantile`."""
    return reduction.quantile_with(torch.nanquantile, x, q, axis, method, keepdims)


@operation
def nanpercentile(
    x: TensorLike, q: TensorLike, axis: Axis = None, method: str = "linear", keepdims: bool = False
) -> Tensor:
    """Returns `percentile`, without NaN. The arguments are those of `percentile`."""
    return reduction.quantile_with(torch.nanquantile, x, q / 100, axis, method, keepdims)


def _filled(x: Tensor, value: float) -> Tensor:
    """Replaces NaN with `value`."""
    return torch.where(torch.isnan(x), value, x) if x.is_floating_point() else x
