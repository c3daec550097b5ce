"""Indexing: selection and update of elements by position or condition.

Negative indices count from the end. Updates return new tensors; nothing is changed in place.

Example:
    >>> ops.scatter_update([0, 0, 0], [[2]], [7])
    tensor([0, 0, 7], dtype=torch.int32)
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kstyle_torch.ops.operation import Nest, Operand, TensorLike, TensorList, as_tensor, operation
from kstyle_torch.symbolic.infer import probing
from kstyle_torch.symbolic.tensor import is_symbolic, record

REDUCTIONS = {"max": "amax", "min": "amin", "mul": "prod"}  # Keras' name -> torch's


@operation
def get_item(x: TensorLike, key: Nest) -> Tensor:
    """Returns `x[key]`."""
    return x[key]


@operation
def take(x: TensorLike, indices: TensorLike, axis: int | None = None) -> Tensor:
    """Returns the slices at `indices` along `axis`.

    Args:
        x: Tensor.
        indices: Integers of any shape, which replaces the axis.
        axis: The axis; None for the flattened tensor.
    """
    x, axis = (x.flatten(), 0) if axis is None else (x, axis % x.ndim)
    indices = _from_start(indices, x.shape[axis])
    if axis == 0 and x.ndim == 2:  # the gradient of this kernel is faster for tables
        return F.embedding(indices, x)
    taken = torch.index_select(x, axis, indices.flatten())
    return taken.reshape(x.shape[:axis] + indices.shape + x.shape[axis + 1 :])


@operation
def take_along_axis(x: TensorLike, indices: TensorLike, axis: int | None = None) -> Tensor:
    """Returns the elements at `indices` along `axis`, elementwise; of the flattened tensor if None."""
    size = x.numel() if axis is None else x.shape[axis]
    return torch.take_along_dim(x, _from_start(indices, size), axis)


def _from_start(indices: Tensor, size: int) -> Tensor:
    indices = indices.long()
    return torch.where(indices < 0, indices + size, indices)


@operation
def where(condition: TensorLike, x1: Operand = None, x2: Operand = None) -> Tensor:
    """Returns `x1` where the condition holds, else `x2`; without them the indices where it holds, a row for each axis.

    Args:
        condition: Tensor; unless it is bool, it holds where it is not 0.
        x1: Tensor or number.
        x2: Tensor or number.
    """
    if x1 is None and x2 is None:
        return torch.nonzero(condition).T
    if not isinstance(x1, Tensor) and not isinstance(x2, Tensor):
        x1 = as_tensor(x1, device=condition.device)
    return torch.where(condition.bool(), x1, x2)


def nonzero(x: TensorLike) -> Tensor | tuple[Any, ...]:
    """Returns the indices of elements that are not 0, int32, a row for each axis; a tuple of rows for symbolic tensors."""
    return record(rows_of_nonzero, (x,), {}) if is_symbolic(x) else torch.nonzero(as_tensor(x)).T.int()


def rows_of_nonzero(x: Tensor) -> tuple[Tensor, ...]:
    """Returns the rows of `nonzero` as a tuple, for graphs."""
    return torch.nonzero(x).T.int().unbind()


@operation
def select(condlist: TensorList, choicelist: TensorList, default: Operand = 0) -> Tensor:
    """Returns, for each element, the choice of the first condition that holds.

    Args:
        condlist: Bool tensors.
        choicelist: As many tensors.
        default: Value where none holds.
    """
    chosen = default
    for condition, choice in reversed(list(zip(condlist, choicelist))):
        chosen = torch.where(condition, choice, chosen)
    return chosen


@operation
def unravel_index(indices: TensorLike, shape: Sequence[int]) -> tuple[Tensor, ...]:
    """Converts indices of the flattened tensor to indices along each axis of `shape`."""
    return tuple(place.to(indices.dtype) for place in torch.unravel_index(indices, tuple(shape)))


@operation
def slice(inputs: TensorLike, start_indices: Nest, shape: Sequence[int]) -> Tensor:
    """Returns a block of a tensor.

    Args:
        inputs: Tensor.
        start_indices: Start along each axis: ints or a tensor.
        shape: Size along each axis; -1 for the rest, if the start is an int.
    """
    if isinstance(start_indices, Tensor):
        for axis, size in enumerate(shape):
            places = start_indices[axis] + torch.arange(size, device=inputs.device)
            inputs = torch.index_select(inputs, axis, places)
        return inputs
    ends = [None if size == -1 else start + size for start, size in zip(start_indices, shape)]
    block = inputs[tuple(map(builtins.slice, start_indices, ends))]
    if probing.active:  # the zeros of shape inference may be smaller than the block
        return block.new_zeros([found if size == -1 else size for found, size in zip(block.shape, shape)])
    return block


@operation
def slice_update(inputs: TensorLike, start_indices: Nest, updates: TensorLike) -> Tensor:
    """Returns the tensor with a block of it replaced.

    Args:
        inputs: Tensor.
        start_indices: Start of the block along each axis: ints or a tensor.
        updates: The block.
    """
    updates = updates.to(inputs.dtype)
    places: list[Tensor | None] = []
    for axis, size in enumerate(updates.shape):
        along = start_indices[axis] + torch.arange(size, device=inputs.device)
        places.append(along.view(-1, *[1] * (updates.ndim - 1 - axis)))
    return torch.index_put(inputs, places, updates)


@operation
def scatter(indices: TensorLike, values: TensorLike, shape: Sequence[int]) -> Tensor:
    """Returns zeros to which values are added.

    Args:
        indices: Indices into the first n axes, of shape (..., n).
        values: Values to add, of shape (..., *shape[n:]).
        shape: Shape of the result.
    """
    return _put(values.new_zeros(tuple(shape)), indices, values, "add")


@operation
def scatter_update(
    inputs: TensorLike, indices: TensorLike, updates: TensorLike, reduction: str | None = None
) -> Tensor:
    """Returns the tensor with elements, or slices, replaced.

    Args:
        inputs: Tensor.
        indices: Indices into the first n axes, of shape (num_updates, n).
        updates: New values, of shape (num_updates, *inputs.shape[n:]).
        reduction: None replaces values; `"add"`, `"max"`, `"min"` or `"mul"` combines them with the updates.
    Raises: ValueError: for another reduction.
    """
    reduction = reduction.lower() if reduction else None
    if reduction not in (None, "add", *REDUCTIONS):
        raise ValueError(f"scatter_update: reduction must be None, 'add', 'max', 'min' or 'mul'; got {reduction!r}.")
    return _put(inputs, indices, updates.to(inputs.dtype), reduction)


def _put(x: Tensor, indices: Tensor, values: Tensor, reduction: str | None) -> Tensor:
    places = indices.long().unbind(-1)
    if reduction is None or reduction not in REDUCTIONS:
        return torch.index_put(x, places, values, accumulate=reduction == "add")
    sizes = x.shape[: len(places)]
    flat = torch.zeros_like(places[0])
    for place, size in zip(places, sizes):
        flat = flat * size + place % size
    rows = x.reshape(math.prod(sizes), *x.shape[len(places) :])
    values = values.reshape(-1, *rows.shape[1:])
    flat = flat.reshape(-1, *[1] * (rows.ndim - 1)).expand_as(values)
    return rows.scatter_reduce(0, flat, values, REDUCTIONS[reduction]).view(x.shape)
