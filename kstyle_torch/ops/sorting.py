"""Order, search and counts.

Everywhere `axis` None means the flat tensor. Positions and counts are int32, as in Keras.

Example:
    >>> ops.argsort([3, 1, 2])
    tensor([1, 2, 0], dtype=torch.int32)
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kstyle_torch.ops.dtypes import result_type, with_float_dtype
from kstyle_torch.ops.operation import TensorLike, as_tensor, operation
from kstyle_torch.symbolic.infer import probing


@operation
def sort(x: TensorLike, axis: int | None = -1) -> Tensor:
    """Returns the elements in rising order along `axis`."""
    x, axis = (x.flatten(), 0) if axis is None else (x, axis)
    if x.dtype is torch.bool:  # CUDA cannot sort them
        return torch.sort(x.byte(), axis).values.bool()
    return torch.sort(x, axis).values


@operation
def argsort(x: TensorLike, axis: int | None = -1) -> Tensor:
    """Returns the positions that would sort `x` along `axis`; equal elements stay in order."""
    x, axis = (x.flatten(), 0) if axis is None else (x, axis)
    x = x.byte() if x.dtype is torch.bool else x
    return torch.argsort(x, dim=axis, stable=True).int()


@operation
def argpartition(x: TensorLike, kth: int, axis: int | None = -1) -> Tensor:  # noqa: ARG001
    """Positions along `axis` such that element `kth` is where sorting puts it, smaller ones before it, greater behind.

    It sorts: torch has nothing cheaper that gives all positions.
    """
    return argsort(x, axis)


@operation
def searchsorted(sorted_sequence: TensorLike, values: TensorLike, side: str = "left") -> Tensor:
    """Returns where values would be inserted into a sorted vector.

    Args:
        sorted_sequence: Vector in rising order.
        values: Tensor.
        side: `"left"`: before elements that are equal; `"right"`: behind them.
    Raises: ValueError: if `sorted_sequence` is no vector.
    """
    if sorted_sequence.ndim != 1:
        raise ValueError(
            f"searchsorted: sorted_sequence must have one axis; got shape {tuple(sorted_sequence.shape)}. Use "
            "ops.vectorized_map for several."
        )
    return torch.searchsorted(sorted_sequence, values, side=side, out_int32=True)


@operation
def digitize(x: TensorLike, bins: TensorLike) -> Tensor:
    """Returns the bin of each element.

    Args:
        x: Tensor.
        bins: Edges in rising order: bin `i` goes from `bins[i - 1]` up to, but not with, `bins[i]`.
    """
    x = x.byte() if x.dtype is torch.bool else x
    return torch.bucketize(x, bins, right=True, out_int32=True)


@operation
def bincount(x: TensorLike, weights: TensorLike = None, minlength: int = 0, sparse: bool = False) -> Tensor:
    """Returns how often each of the integers 0, 1, ... occurs, in each row where `x` has two axes.

    Args:
        x: Integers, not negative, of one or two axes.
        weights: What each counts, of the shape of `x`; 1 if None.
        minlength: Least length of the result.
        sparse: Taken for Keras' sake; must be False.
    Raises: ValueError: if `sparse` is true.
    """
    if sparse:
        raise ValueError("bincount: sparse=True is not supported; the result is a dense tensor.")
    dtype = torch.int32 if weights is None else result_type(x.dtype, weights.dtype)
    if x.ndim == 1:
        return torch.bincount(x, weights, minlength).to(dtype)
    length = max(int(x.max()) + 1 if x.numel() else 0, minlength)  # host waits for the device here
    rows = torch.zeros(len(x), length, dtype=dtype, device=x.device)
    return rows.scatter_add(1, x.long(), torch.ones_like(x, dtype=dtype) if weights is None else weights.to(dtype))


@operation
def histogram(x: TensorLike, bins: int = 10, range: tuple[float, float] | None = None) -> tuple[Tensor, Tensor]:
    """Returns how many elements lie in each of `bins` equal bins, and the edges of the bins.

    Args:
        x: Tensor, taken flat.
        bins: How many; positive.
        range: First and last edge, the last one included; what lies outside is not counted. The least and the greatest
            element if None.
    """
    x = with_float_dtype(x).flatten()
    if not isinstance(bins, int) or bins <= 0:
        raise ValueError(f"histogram: bins must be a positive int; got {bins!r}.")
    if range is None:
        low, high = (x.min(), x.max()) if len(x) else (x.new_zeros(()), x.new_ones(()))
        high = torch.where(low == high, high + 0.5, high)
        low = torch.where(high - low == 0.5, low - 0.5, low)
    else:
        low, high = (as_tensor(edge, x.dtype, x.device) for edge in range)
    edges = low + (high - low) * torch.arange(bins + 1, device=x.device, dtype=x.dtype) / bins
    x = x[(x >= low) & (x <= high)]
    found = (torch.searchsorted(edges, x, side="right") - 1).clamp(0, bins - 1)
    return torch.bincount(found, minlength=bins).to(x.dtype), edges


@operation
def unique(
    x: TensorLike,
    sorted: bool = True,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    size: int | None = None,
    fill_value: Any = None,
) -> Any:
    """Returns every element, or every slice along `axis`, once.

    Args:
        x: Tensor.
        sorted: Whether in rising order.
        return_index: Whether to also give where each is first.
        return_inverse: Whether to also give which one each element of `x` is.
        return_counts: Whether to also give how often each occurs.
        axis: Along which axis slices are compared; None compares elements.
        size: How many to give: more are cut off, fewer are filled up.
        fill_value: What to fill up with; 0 if None.
    Returns: The values, or a tuple of them and what else was asked for, in the order above.
    """
    values, inverse, counts = torch.unique(x, sorted=sorted, return_inverse=True, return_counts=True, dim=axis)
    dim = 0 if axis is None else axis % x.ndim
    order = torch.arange(inverse.numel(), device=x.device)
    index = torch.zeros_like(counts).scatter_reduce(0, inverse.flatten(), order, "amin", include_self=False)
    if size is None:
        values, index, counts = probing.mark(values, dim), probing.mark(index, 0), probing.mark(counts, 0)
    else:
        values = _resized(values, dim, size, fill_value or 0)
        index, counts = _resized(index, 0, size, 1), _resized(counts, 0, size, 0)
    asked = ((index, return_index), (inverse, return_inverse), (counts, return_counts))
    extra = [tensor for tensor, wanted in asked if wanted]
    return (values, *extra) if extra else values


def _resized(x: Tensor, dim: int, size: int, fill: Any) -> Tensor:
    missing = max(size - x.shape[dim], 0)
    padding = [0, 0] * (x.ndim - 1 - dim) + [0, missing]
    return F.pad(x.narrow(dim, 0, min(size, x.shape[dim])), padding, value=fill)
