"""Attribute names of layers: those reserved by the package, and class attributes that are None until set."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from torch import nn

OWN = frozenset(  # state of a layer; overwriting it would cause distant or silent errors
    {
        *("_added_losses", "_batch_input_shape", "_calls", "_compute_dtype", "_dtype", "_evals", "_fit", "_follows"),
        *("_frozen_above", "_in_containers", "_input_dtype", "_losses", "_mode", "_name_given", "_policy", "_rows"),
        *("_trainable", "_unlisted", "_views", "_without_data"),
    }
)


@functools.cache
def own_methods(cls: Any) -> frozenset[str]:
    """Returns the names of private methods that a class inherits from the package."""
    own = [vars(base) for base in cls.__mro__ if base.__module__.startswith("kstyle_torch.")]
    return frozenset(
        name for each in own for name, value in each.items() if name[0] == "_" and inspect.isfunction(value)
    )


def refuse_own(layer: Any, name: str) -> None:
    """Raises an AttributeError for a name that the package reserves."""
    raise AttributeError(
        f"{type(layer).__name__}.{name} is an attribute that kstyle_torch reserves; choose another name, "
        f"such as self.my{name if name[0] == '_' else f'_{name}'}."
    )


class NoneUntilSet:
    """Descriptor for a class attribute `weight = None`, overridden by a parameter, buffer or child of the same name.

    Python would otherwise find the class attribute before it asks the module for parameters and children.
    """

    def __init__(self, name: str):
        self.name = name

    def __get__(self, module: Any, owner: type | None = None) -> Any:
        if module is not None:
            for held in (module._parameters, module._buffers, module._modules):
                if self.name in held:
                    return held[self.name]
        return None


def let_none_give_way(cls: type[nn.Module]) -> None:
    """Replaces each None among the attributes of a user's class and its mixins by a `NoneUntilSet`."""
    bases = [base for base in cls.__mro__ if base is not object]
    users = [base for base in bases if not base.__module__.startswith(("kstyle_torch.", "torch."))]
    known = {name for base in bases if base not in users for name in vars(base)}
    for base in users:
        for name, value in [*vars(base).items()]:
            if value is None and not name.startswith("__") and name not in known and getattr(cls, name) is None:
                setattr(cls, name, NoneUntilSet(name))


def is_none_until_set(cls: type, name: str) -> bool:
    """Returns whether a class has a `NoneUntilSet` under a name."""
    found = next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)
    return isinstance(found, NoneUntilSet)
