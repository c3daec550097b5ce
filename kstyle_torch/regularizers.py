"""Penalties on weights (in Keras' layout) or on a layer's output, added to the loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kstyle_torch import serialization
from kstyle_torch.arrays import tensor_of

__all__ = [
    "L1",
    "L1L2",
    "L2",
    "OrthogonalRegularizer",
    "Regularizer",
    "deserialize",
    "get",
    "l1",
    "l1_l2",
    "l2",
    "orthogonal_regularizer",
    "serialize",
]

registry = serialization.registry("regularizer", "keras.regularizers")


class Regularizer(serialization.Configurable):
    """Base class: override `__call__(self, x)` and return a scalar tensor."""

    def __call__(self, x: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} must define __call__(self, x).")


@registry.register()
class L1(Regularizer):
    """`l1 * sum(|x|)`.

    Args:
        l1: Factor, not negative.
    """

    def __init__(self, l1: float = 0.01):
        self.l1 = _factor(l1, "l1", default=0.01)

    def __call__(self, x: Tensor) -> Tensor:
        x = tensor_of(x)
        return self.l1 * x.abs().sum()


@registry.register()
class L2(Regularizer):
    """`l2 * sum(x**2)`.

    Args:
        l2: Factor, not negative.
    """

    def __init__(self, l2: float = 0.01):
        self.l2 = _factor(l2, "l2", default=0.01)

    def __call__(self, x: Tensor) -> Tensor:
        x = tensor_of(x)
        return self.l2 * x.square().sum()


@registry.register("l1_l2")
class L1L2(Regularizer):
    """`l1 * sum(|x|) + l2 * sum(x**2)`.

    Args:
        l1: Factor of the first sum, not negative.
        l2: Factor of the second, not negative.
    """

    def __init__(self, l1: float = 0.0, l2: float = 0.0):
        self.l1, self.l2 = _factor(l1, "l1", default=0.0), _factor(l2, "l2", default=0.0)

    def __call__(self, x: Tensor) -> Tensor:
        x = tensor_of(x)
        return self.l1 * x.abs().sum() + self.l2 * x.square().sum()


@registry.register()
class OrthogonalRegularizer(Regularizer):
    """Penalty on rows (or columns) of a matrix that are not orthogonal: `factor` times their mean absolute cosine.

    Args:
        factor: Not negative.
        mode: `"rows"` or `"columns"`.
    Raises: ValueError: for another mode; when called, for a rank other than 2.
    """

    def __init__(self, factor: float = 0.01, mode: str = "rows"):
        if mode not in ("rows", "columns"):
            raise ValueError(f"OrthogonalRegularizer: mode must be 'rows' or 'columns'; got {mode!r}.")
        self.factor, self.mode = _factor(factor, "factor", default=0.01), mode

    def __call__(self, x: Tensor) -> Tensor:
        x = tensor_of(x)
        if x.ndim != 2:
            raise ValueError(f"OrthogonalRegularizer needs a matrix; got shape {tuple(x.shape)}.")
        vectors = F.normalize(x if self.mode == "rows" else x.T, dim=1)
        size = len(vectors)
        cosines = (vectors @ vectors.T) * (1 - torch.eye(size, dtype=x.dtype, device=x.device))
        return self.factor * 0.5 * cosines.abs().sum() / (size * (size - 1) / 2)


def _factor(value: float | None, name: str, default: float) -> float:
    value = default if value is None else value
    if not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{name} must be a finite number that is not negative; got {value!r}.")
    return float(value)


def get(identifier: Any) -> Callable[[Tensor], Tensor] | None:
    """Returns the regularizer for a name, config, class or callable.

    Raises: ValueError: for an unknown name; the message suggests the nearest.
    """
    return serialization.get(identifier, registry)


def serialize(regularizer: Any) -> Any:
    """Returns the regularizer's config in Keras' JSON form."""
    return serialization.serialize_keras_object(regularizer)


def deserialize(config: Any, custom_objects: dict[str, Any] | None = None) -> Any:
    """Returns the regularizer for a result of `serialize`."""
    return serialization.deserialized(config, custom_objects, registry=registry)


l1, l2, l1_l2, orthogonal_regularizer = L1, L2, L1L2, OrthogonalRegularizer
