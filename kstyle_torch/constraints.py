"""Constraints: projections of weights (in Keras' layout) after every training step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from kstyle_torch import config, serialization
from kstyle_torch.arrays import tensor_of

__all__ = [
    "Constraint",
    "MaxNorm",
    "MinMaxNorm",
    "NonNeg",
    "UnitNorm",
    "deserialize",
    "get",
    "max_norm",
    "min_max_norm",
    "non_neg",
    "serialize",
    "unit_norm",
]

Axis = int | Sequence[int]
registry = serialization.registry("constraint", "keras.constraints")


class Constraint(serialization.Configurable):
    """Base class: override `__call__(self, w)` and return a tensor of the same shape."""

    def __call__(self, w: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} must define __call__(self, w).")


@registry.register()
class MaxNorm(Constraint):
    """Constraint that scales down vectors whose norm exceeds `max_value`.

    Args:
        max_value: Upper bound of the norm.
        axis: Axis or axes over which a norm is taken: 0 for `Dense`, (0, 1, 2) for `Conv2D`.
    """

    def __init__(self, max_value: float = 2, axis: Axis = 0):
        self.max_value, self.axis = max_value, axis

    def __call__(self, w: Tensor) -> Tensor:
        w = tensor_of(w)
        norm = _norm(w, self.axis)
        return w * (norm.clamp(0, self.max_value) / (config.epsilon() + norm))


@registry.register()
class NonNeg(Constraint):
    """Constraint that sets negative weights to 0."""

    def __call__(self, w: Tensor) -> Tensor:
        w = tensor_of(w)
        return w.clamp(min=0)


@registry.register()
class UnitNorm(Constraint):
    """Constraint that scales vectors to norm 1.

    Args:
        axis: Axis or axes over which a norm is taken: 0 for `Dense`, (0, 1, 2) for `Conv2D`.
    """

    def __init__(self, axis: Axis = 0):
        self.axis = axis

    def __call__(self, w: Tensor) -> Tensor:
        w = tensor_of(w)
        return w / (config.epsilon() + _norm(w, self.axis))


@registry.register()
class MinMaxNorm(Constraint):
    """Constraint that scales vectors so that their norm lies between two bounds.

    Args:
        min_value: Lower bound.
        max_value: Upper bound.
        rate: 1 enforces the bounds; a smaller rate moves the norm by that share of the distance.
        axis: Axis or axes over which a norm is taken: 0 for `Dense`, (0, 1, 2) for `Conv2D`.
    """

    def __init__(self, min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0, axis: Axis = 0):
        self.min_value, self.max_value, self.rate, self.axis = min_value, max_value, rate, axis

    def __call__(self, w: Tensor) -> Tensor:
        w = tensor_of(w)
        norm = _norm(w, self.axis)
        wanted = self.rate * norm.clamp(self.min_value, self.max_value) + (1 - self.rate) * norm
        return w * (wanted / (config.epsilon() + norm))


def _norm(w: Tensor, axis: Axis) -> Tensor:
    dim = axis if isinstance(axis, int) else tuple(axis)
    return torch.linalg.vector_norm(w, dim=dim, keepdim=True)


def get(identifier: Any) -> Callable[[Tensor], Tensor] | None:
    """Returns the constraint for a name, config, class or callable.

    Raises: ValueError: for an unknown name; the message suggests the nearest.
    """
    return serialization.get(identifier, registry)


def serialize(constraint: Any) -> Any:
    """Returns the constraint's config in Keras' JSON form."""
    return serialization.serialize_keras_object(constraint)


def deserialize(config: Any, custom_objects: dict[str, Any] | None = None) -> Any:
    """Returns the constraint for a result of `serialize`."""
    return serialization.deserialized(config, custom_objects, registry=registry)


max_norm, min_max_norm, non_neg, unit_norm = MaxNorm, MinMaxNorm, NonNeg, UnitNorm
