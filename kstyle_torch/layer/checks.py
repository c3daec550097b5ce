"""Checks for constructors, `build` and `call` methods."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from numbers import Real
from typing import Any

from kstyle_torch.errors import WrongTypeError
from kstyle_torch.layer.paths import is_building
from kstyle_torch.symbolic.infer import probing


def positive_int(value: Any, name: str, layer: Any) -> int:
    """Returns `value`, checked.

    Raises: ValueError: if it is not a positive integer.
    """
    is_int = not isinstance(value, bool) and hasattr(value, "__index__")
    if not is_int or value <= 0:
        kind = ValueError if is_int else WrongTypeError
        raise kind(f"{type(layer).__name__}: {name} must be a positive int; got {value!r}.")
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


def refuse_new_state(layer: Any, what: str) -> None:
    """Raises a ValueError if a layer that is built gets state within its own call: it would be new in every call.

    The call that builds a layer may make state, and so may runs that infer shapes, which stand in for it.
    """
    if layer.built and _runs_own_call(layer) and not (is_building(layer) or probing.active):
        raise ValueError(
            f"{layer.name}: call() makes {what}, but the layer is built already, so that every call would make another one. "
            "Make it in __init__() or build(), or in the first call alone."
        )


def _runs_own_call(layer: Any) -> bool:
    """Returns whether a `call` of the layer's classes is among the running functions, with the layer as its object."""
    codes = {
        getattr(inspect.unwrap(vars(base)[name]), "__code__", None)
        for base in type(layer).__mro__
        for name in ("call", "forward")
        if name in vars(base)
    }
    frame = inspect.currentframe()
    while frame is not None:  # a walk that only the making of state pays for; calls note nothing
        code = frame.f_code
        if code in codes and code.co_varnames and frame.f_locals.get(code.co_varnames[0]) is layer:
            return True
        frame = frame.f_back
    return False
