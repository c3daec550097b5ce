"""Interpolation between the elements of a grid, from which warps read their pixels."""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from kstyle_torch.ops.image.layout import cast_back
from kstyle_torch.ops.operation import as_tensor, operation


def _clipped(index: Tensor, size: int) -> Tensor:
    return index.clamp(0, size - 1)


def _mirrored(index: Tensor, size: int) -> Tensor:
    """Mirrors coordinates: dcb|abcd|cba."""
    last = size - 1
    return ((index + last) % (2 * last) - last).abs()


def _reflected(index: Tensor, size: int) -> Tensor:
    """Mirrors coordinates, the edge twice: dcba|abcd|dcba."""
    return (_mirrored(2 * index + 1, 2 * size + 1) - 1) // 2


# maps an index outside of the grid into it
FILL_MODES: dict[str, Callable[[Tensor, int], Tensor]] = {
    "constant": _clipped,  # what lies outside is then replaced by fill_value
    "mirror": _mirrored,
    "nearest": _clipped,
    "reflect": _reflected,
    "wrap": operator.mod,
}


@operation
def map_coordinates(
    inputs: Any, coordinates: Any, order: int, fill_mode: str = "constant", fill_value: float = 0
) -> Tensor:
    """Returns the values at `coordinates`, which may lie between the elements of `inputs`.

    Args:
        inputs: Tensor of any rank.
        coordinates: One tensor for each axis of `inputs`, all with the shape of the result.
        order: 0 takes the nearest element, 1 interpolates linearly.
        fill_mode: Values outside: `"constant"`, `"nearest"`, `"wrap"`, `"mirror"` (about the middle of the edge
            elements) or `"reflect"` (about their outer edge).
        fill_value: The constant.
    Raises: ValueError: for another order or mode, or if the number of coordinates is not the rank.

    Example:
        >>> map_coordinates(torch.tensor([0.0, 10.0, 20.0]), torch.tensor([[0.5, 1.25]]), order=1)
        tensor([ 5.0000, 12.5000])
    """
    inputs, coordinates = as_tensor(inputs), [as_tensor(axis) for axis in coordinates]
    if len(coordinates) != inputs.ndim:
        raise ValueError(
            f"map_coordinates: inputs of shape {tuple(inputs.shape)} need {inputs.ndim} coordinates; got {len(coordinates)}."
        )
    if coordinates[0].ndim < 1:
        raise ValueError("map_coordinates: coordinates must be tensors of at least 1 axis; got single numbers.")
    if order not in (0, 1):
        raise ValueError(f"map_coordinates: order must be 0 (nearest) or 1 (linear); got {order!r}.")
    check_fill_mode(fill_mode)
    return sample(inputs, coordinates, order, fill_mode, fill_value)


def check_fill_mode(fill_mode: str) -> None:
    """Raises: ValueError: for an unknown mode."""
    if fill_mode not in FILL_MODES:
        raise ValueError(f"fill_mode must be one of {', '.join(FILL_MODES)}; got {fill_mode!r}.")


def sample(
    values: Tensor,
    coordinates: Sequence[Tensor],
    order: int,
    fill_mode: str,
    fill_value: float,
    rows: tuple[Tensor, ...] = (),
) -> Tensor:
    """Returns the values at the coordinates, for all images of a batch at once.

    Args:
        values: Axes indexed by `rows`, then one axis for each coordinate, then at most one of channels.
        coordinates: Tensors of the same shape.
        order, fill_mode, fill_value: As in `map_coordinates`.
        rows: Integer indices into the first axes, broadcast with the coordinates.
    """
    sizes = values.shape[len(rows) :]
    has_channels = len(sizes) > len(coordinates)
    if not values.is_floating_point():
        fill_value = int(fill_value)
    ends = [
        _neighbors(coordinate, size, order, fill_mode)
        for coordinate, size in zip(coordinates, sizes, strict=not has_channels)
    ]
    total: Any = 0
    for corner in itertools.product(*ends):
        indices, inside, weights = zip(*corner, strict=True)
        part = values[(*rows, *indices)]
        if fill_mode == "constant":
            part = torch.where(_per_pixel(inside, operator.and_, has_channels), part, fill_value)
        total = total + (part if order == 0 else _per_pixel(weights, operator.mul, has_channels) * part)
    return cast_back(total, values.dtype)


def _neighbors(coordinate: Tensor, size: int, order: int, fill_mode: str) -> list[tuple[Tensor, Any, Any]]:
    """Returns index, validity and weight of the elements next to a coordinate on one axis."""
    fix = FILL_MODES[fill_mode]
    if order == 0:
        nearest = (coordinate.round() if coordinate.is_floating_point() else coordinate).long()
        return [(fix(nearest, size), (nearest >= 0) & (nearest < size), None)]
    lower = coordinate.floor()
    above = coordinate - lower
    first = lower.long()
    return [
        (fix(index, size), (index >= 0) & (index < size), weight)
        for index, weight in ((first, 1 - above), (first + 1, above))
    ]


def _per_pixel(factors: Sequence[Any], join: Callable[[Any, Any], Any], has_channels: bool) -> Tensor:
    joined = functools.reduce(join, factors)
    return joined.unsqueeze(-1) if has_channels else joined
