"""Sorting, search and counts.

`axis=None` means the flattened tensor. Indices and counts are int32, as in Keras.

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
    """Sorts along `axis` in ascending order."""
    x, axis = (x.flatten(), 0) if axis is None else (x, axis)
    if x.dtype is torch.bool:  # CUDA cannot sort bools
        return torch.sort(x.byte(), axis).values.bool()
    return torch.sort(x, axis).values


@operation
def argsort(x: TensorLike, axis: int | None = -1) -> Tensor:
    """Returns the indices that would sort `x` along `axis`; the sort is stable."""
    x, axis = (x.flatten(), 0) if axis is None else (x, axis)
    x = x.byte() if x.dtype is torch.bool else x
    return torch.argsort(x, dim=axis, stable=True).int()


@operation
def argpartition(x: TensorLike, kth: int, axis: int | None = -1) -> Tensor:  # noqa: ARG001
    """Returns indices that partition `x` along `axis`: element `kth` is in its sorted place, smaller ones before it.

    It sorts, since torch has nothing cheaper that returns all indices.
    """
    return argsort(x, axis)


@operation
def searchsorted(sorted_sequence: TensorLike, values: TensorLike, side: str = "left") -> Tensor:
    """Returns the indices at which values would be inserted into a sorted vector.

    Args:
        sorted_sequence: Vector in ascending order.
        values: Tensor.
        side: `"left"`: before equal elements; `"right"`: after them.
    Raises: ValueError: if `sorted_sequence` is not a vector.
    """
    if sorted_sequence.ndim != 1:
        raise ValueError(
            f"searchsorted: sorted_sequence must have one axis; got shape {tuple(sorted_sequence.shape)}. Use "
            "ops.vectorized_map for several."
        )
    return torch.searchsorted(sorted_sequence, values, side=side, out_int32=True)


@operation
def digitize(x: TensorLike, bins: TensorLike) -> Tensor:
    """Returns the index of the bin of each element.

    Args:
        x: Tensor.
        bins: Edges in ascending order: bin `i` covers `bins[i - 1]` to `bins[i]`, exclusive.
    """
    x = x.byte() if x.dtype is torch.bool else x
    return torch.bucketize(x, bins, right=True, out_int32=True)


@operation
def bincount(x: TensorLike, weights: TensorLike = None, minlength: int = 0, sparse: bool = False) -> Tensor:
    """Counts the integers 0, 1, ...; in each row if `x` has two axes.

    Args:
        x: Non-negative integers, with one or two axes.
        weights: Weight of each element, shaped like `x`; 1 if None.
        minlength: Smallest length of the result.
        sparse: Accepted for compatibility with Keras; must be False.
    Raises: ValueError: if `sparse` is true.
    """
    if sparse:
        raise ValueError("bincount: sparse=True is not supported; the result is a dense tensor.")
    dtype = torch.int32 if weights is None else result_type(x.dtype, weights.dtype)
    if x.ndim == 1:
        return torch.bincount(x, weights, minlength).to(dtype)
    length = max(int(x.max()) + 1 if x.numel() else 0, minlength)  # the host waits for the device here
    rows = torch.zeros(len(x), length, dtype=dtype, device=x.device)
    return rows.scatter_add(1, x.long(), torch.ones_like(x, dtype=dtype) if weights is None else weights.to(dtype))


@operation
def histogram(x: TensorLike, bins: int = 10, range: tuple[float, float] | None = None) -> tuple[Tensor, Tensor]:
    """Returns the counts of elements in `bins` bins of equal width, and the edges of the bins.

    Args:
        x: Tensor; it is flattened.
        bins: Number of bins; positive.
        range: First and last edge, the last one included; elements outside are not counted. The smallest and the largest
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
    """Returns the distinct elements, or the distinct slices along `axis`.

    Args:
        x: Tensor.
        sorted: Whether to sort them.
        return_index: Whether to also return the first index of each.
        return_inverse: Whether to also return, for each element of `x`, the index of its value.
        return_counts: Whether to also return the count of each.
        axis: Axis along which slices are compared; None compares elements.
        size: Length of the result: more values are cut off, fewer are padded.
        fill_value: Padding value; 0 if None.
    Returns: The values, or a tuple of the values and the other results, in the order above.
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
