"""Fast access to modules and their attributes, for the inner loops."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import nn


def modules_of(root: nn.Module) -> list[nn.Module]:
    """Returns the module and all below it, each once, in the order of `root.modules()`."""
    found: dict[int, nn.Module] = {}
    _gather(root, found)
    return [*found.values()]


def _gather(module: nn.Module, found: dict[int, nn.Module]) -> None:
    found[id(module)] = module
    for child in module._modules.values():
        if child is not None and id(child) not in found:
            _gather(child, found)


def first_parameter(root: nn.Module) -> nn.Parameter | None:
    """Returns the first parameter of a module and of all below it, None if there is none."""
    return _first_parameter(root, set())


def _first_parameter(module: nn.Module, seen: set[nn.Module]) -> nn.Parameter | None:
    seen.add(module)
    for parameter in module._parameters.values():
        if parameter is not None:
            return parameter
    for child in module._modules.values():
        if child is not None and child not in seen:
            found = _first_parameter(child, seen)
            if found is not None:
                return found
    return None


def set_unnoticed(module: nn.Module, **attributes: Any) -> None:
    """Sets attributes without `__setattr__`, which would invalidate recorded steps and register modules as children."""
    module.__dict__.update(attributes)  # the only place that bypasses `__setattr__`


@contextlib.contextmanager
def uncounted_calls(root: nn.Module) -> Iterator[None]:
    """Keeps symbolic calls of the layers inside `root`, made in the block, out of `layer.input` and `layer.output`."""
    known = [(calls, [*calls]) for module in root.modules() if (calls := vars(module).get("_calls")) is not None]
    try:
        yield
    finally:
        for calls, before in known:
            calls[:] = before


class OwnList(list[Any]):
    """A list of internal state. Its content changes during training without invalidating recorded steps."""


class OwnDict(dict[Any, Any]):
    """A dict of internal state; see `OwnList`."""
