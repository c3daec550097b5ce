"""Elements taken out by position or condition, and written in.

Negative positions count from the end. Nothing is changed in place: what writes gives a new tensor.

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
        indices: Integers, of any shape, which takes the place of the axis.
        axis: Along which axis; the flat tensor if None.
    """
    x, axis = (x.flatten(), 0) if axis is None else (x, axis % x.ndim)
    indices = _from_start(indices, x.shape[axis])
    if axis == 0 and x.ndim == 2:  # a table: this kernel's gradient is the faster one
        return F.embedding(indices, x)
    taken = torch.index_select(x, axis, indices.flatten())
    return taken.reshape(x.shape[:axis] + indices.shape + x.shape[axis + 1 :])


@operation
def take_along_axis(x: TensorLike, indices: TensorLike, axis: int | None = None) -> Tensor:
    """Returns, for every place in `indices`, the element at that index along `axis`; in the flat tensor if None."""
    size = x.numel() if axis is None else x.shape[axis]
    return torch.take_along_dim(x, _from_start(indices, size), axis)


def _from_start(indices: Tensor, size: int) -> Tensor:
    indices = indices.long()
    return torch.where(indices < 0, indices + size, indices)


@operation
def where(condition: TensorLike, x1: Operand = None, x2: Operand = None) -> Tensor:
    """Returns `x1` where the condition holds, `x2` elsewhere; without them, where it holds: a row of positions for each axis.

    Args:
        condition: Tensor; what is not bool holds where it is not 0.
        x1: Tensor or number.
        x2: Tensor or number.
    """
    if x1 is None and x2 is None:
        return torch.nonzero(condition).T
    if not isinstance(x1, Tensor) and not isinstance(x2, Tensor):
        x1 = as_tensor(x1, device=condition.device)
    return torch.where(condition.bool(), x1, x2)


def nonzero(x: TensorLike) -> Tensor | tuple[Any, ...]:
    """Returns where elements are not 0: a row of positions for each axis. int32. For a symbolic tensor, a tuple of rows."""
    return record(rows_of_nonzero, (x,), {}) if is_symbolic(x) else torch.nonzero(as_tensor(x)).T.int()


def rows_of_nonzero(x: Tensor) -> tuple[Tensor, ...]:
    """Returns the rows of `nonzero` as a tuple, as graphs hold them."""
    return torch.nonzero(x).T.int().unbind()


@operation
def select(condlist: TensorList, choicelist: TensorList, default: Operand = 0) -> Tensor:
    """Returns, for each place, the choice of the first condition that holds there.

    Args:
        condlist: Bool tensors.
        choicelist: As many tensors.
        default: What is chosen where none holds.
    """
    chosen = default
    for condition, choice in reversed(list(zip(condlist, choicelist))):
        chosen = torch.where(condition, choice, chosen)
    return chosen


@operation
def unravel_index(indices: TensorLike, shape: Sequence[int]) -> tuple[Tensor, ...]:
    """Returns the positions along each axis of `shape`, for positions in the flat tensor."""
    return tuple(place.to(indices.dtype) for place in torch.unravel_index(indices, tuple(shape)))


@operation
def slice(inputs: TensorLike, start_indices: Nest, shape: Sequence[int]) -> Tensor:
    """Returns a block of a tensor.

    Args:
        inputs: Tensor.
        start_indices: Where it begins along each axis: ints or a tensor.
        shape: Its size along each axis; -1 is up to the end, where the beginning is an int.
    """
    if isinstance(start_indices, Tensor):
        for axis, size in enumerate(shape):
            places = start_indices[axis] + torch.arange(size, device=inputs.device)
            inputs = torch.index_select(inputs, axis, places)
        return inputs
    ends = [None if size == -1 else start + size for start, size in zip(start_indices, shape)]
    block = inputs[tuple(map(builtins.slice, start_indices, ends))]
    if probing.active:  # made-up data may be shorter than the block
        return block.new_zeros([found if size == -1 else size for found, size in zip(block.shape, shape)])
    return block


@operation
def slice_update(inputs: TensorLike, start_indices: Nest, updates: TensorLike) -> Tensor:
    """Returns the tensor with a block of it replaced.

    Args:
        inputs: Tensor.
        start_indices: Where the block begins along each axis: ints or a tensor.
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
    """Zeros with values added in.

    Args:
        indices: Places, of shape (..., n): n positions each, along the first n axes.
        values: What is added there, of shape (..., *shape[n:]).
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
        indices: Places, of shape (num_updates, n): n positions each, along the first n axes.
        updates: What comes there, of shape (num_updates, *inputs.shape[n:]).
        reduction: None puts the updates in; `"add"`, `"max"`, `"min"` or `"mul"` join them to what is there.
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
