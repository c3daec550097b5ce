"""Objects by name, as Keras' tables have them, and what its source says about public ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from kstyle_torch import activations, constraints, initializers, losses, metrics, optimizers, regularizers

F = TypeVar("F")


# The tables themselves: libraries add activations of their own.
ALL_OBJECTS_DICT = activations.registry.objects
ALL_OBJECTS = {*ALL_OBJECTS_DICT.values()}
ALL_CONSTRAINTS = constraints.registry.objects
ALL_INITIALIZERS = initializers.registry.objects
ALL_LOSSES = losses.base.registry.objects
ALL_METRICS = metrics.base.registry.objects
ALL_OPTIMIZERS = optimizers.base.registry.objects
ALL_REGULARIZERS = regularizers.registry.objects


class keras_export:  # noqa: N801, Keras' name
    """A decorator that Keras' own source has on public objects; it changes nothing.

    Args:
        path: Where the object is public.
    """

    def __init__(self, path: str | Sequence[str]):
        self.path = path

    def __call__(self, obj: F) -> F:
        return obj


class KerasSaveable:
    """Base of what Keras saves; here anything with `get_config` is."""

    def _obj_type(self) -> str:
        raise NotImplementedError(f"{type(self).__name__} must say its kind in _obj_type().")
