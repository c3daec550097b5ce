"""Checks for constructors and `build` methods."""

from __future__ import annotations

from collections.abc import Sequence
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


def check_initialized(layer: Any) -> None:
    """Raises a RuntimeError if the constructor of `Layer` has not run: it gives a layer its name, dtype and more."""
    if layer._policy is None:
        raise RuntimeError(
            f"{type(layer).__name__}: super().__init__() was not called; make it the first line of __init__()."
        )


def check_sizes(layer: Any, shape: Sequence[int], *axes: int) -> None:
    """Checks that some axes of an input are as long as when the layer was built.

    Called once an operation has failed, to say what is wrong, so that calls which work do not wait for it.

    Raises: ValueError: if they are not.
    """
    built: Any = next(iter((layer._build_shapes or {}).values()), None)
    for axis in axes if isinstance(built, (tuple, list)) else ():
        if not -len(shape) <= axis < len(shape) or shape[axis] != built[axis]:
            raise misfit(layer, f"size {built[axis]} along axis {axis}", shape)


def misfit(layer: Any, expected: str, shape: Sequence[int]) -> ValueError:
    """Returns the error for an input of another shape than the layer was built for."""
    name = f"{layer.name!r} ({type(layer).__name__})"
    return ValueError(
        f"Layer {name} expected {expected} of the input, as it was built; got an input of shape {tuple(shape)}."
    )


def refuse_quantization(config: Any, layer: Any) -> None:
    """Raises a NotImplementedError where a layer is to be quantized."""
    if config:
        raise NotImplementedError(
            f"{layer.name}: quantization is not built yet; leave quantization_config out. Got {config!r}."
        )
