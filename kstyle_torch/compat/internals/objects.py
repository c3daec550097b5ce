"""Objects by name, as Keras' tables have them, and what its source says about public ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from kstyle_torch import activations, constraints, initializers, losses, metrics, optimizers, regularizers
from kstyle_torch.registry import Registry

F = TypeVar("F")


def _by_name(registry: Registry) -> dict[str, Any]:
    return {name: registry.lookup(name) for name in registry}


ALL_OBJECTS_DICT = _by_name(activations.registry)
ALL_OBJECTS = {*ALL_OBJECTS_DICT.values()}
ALL_CONSTRAINTS = _by_name(constraints.registry)
ALL_INITIALIZERS = _by_name(initializers.registry)
ALL_LOSSES = _by_name(losses.base.registry)
ALL_METRICS = _by_name(metrics.base.registry)
ALL_OPTIMIZERS = _by_name(optimizers.base.registry)
ALL_REGULARIZERS = _by_name(regularizers.registry)


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
