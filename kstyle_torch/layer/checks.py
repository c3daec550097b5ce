"""Checks for constructors and `build` methods."""

from __future__ import annotations

from numbers import Real
from typing import Any


def positive_int(value: Any, name: str, layer: Any) -> int:
    """Returns `value`, checked.

    Raises: ValueError: if it is not a positive integer.
    """
    if isinstance(value, bool) or (not isinstance(value, int) and not hasattr(value, "__index__")) or value <= 0:
        raise ValueError(f"{type(layer).__name__}: {name} must be a positive int; got {value!r}.")
    return int(value)


def not_negative(value: Any, name: str, layer: Any) -> Any:
    """Returns `value`, checked.

    Raises: ValueError: if it is not a number or is negative.
    """
    if not isinstance(value, Real) or value < 0:
        raise ValueError(f"{type(layer).__name__}: {name} must be a number, 0 or more; got {value!r}.")
    return value


def known_size(shape: tuple[int | None, ...], axis: int, layer: Any) -> int:
    """Returns the size of an axis that a layer's weights depend on.

    Raises: ValueError: if the input has no batch axis or the size is None.
    """
    if len(shape) < 2:
        raise ValueError(f"{layer.name}: expected an input with a batch axis, (batch, ..., features); got {shape}.")
    size = shape[axis]
    if size is None:
        raise ValueError(f"{layer.name}: axis {axis} of the input must have a known size; got shape {shape}.")
    return size
