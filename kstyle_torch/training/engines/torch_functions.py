"""Functions of torch that steps and forward passes reach by name, and those of them that a user has replaced.

`torch.nn.functional.linear = ...`, or `unittest.mock.patch`, takes effect at the next call of a layer. What was recorded or
compiled holds the functions of its own time.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kstyle_torch.ownership import is_ours

_SPACES: dict[str, Any] = {  # what `setattr` changes; the methods that Tensor inherits are immutable
    "torch": vars(torch),
    "torch.nn.functional": vars(F),
    "torch.Tensor": vars(Tensor),
}
_INHERITED = frozenset(dir(Tensor.__base__)) - vars(Tensor).keys()
_NUM_OWN = len(vars(Tensor))


def _names(space: dict[str, Any]) -> list[str]:
    """Returns the names of torch's public functions in a namespace."""
    if space is not _SPACES["torch"]:
        return [name for name, value in space.items() if callable(value) and not isinstance(value, type)]
    kernel, others = type(torch.relu), {*torch.functional.__all__}
    return [name for name, value in space.items() if name[0] != "_" and (type(value) is kernel or name in others)]


_NAMES = {path: _names(space) for path, space in _SPACES.items()}
_of_torch, _of_functional, _of_tensor = (operator.itemgetter(*names) for names in _NAMES.values())


def torch_functions() -> tuple[Any, ...]:
    """Returns the functions as they are now; it takes 10 microseconds."""
    return _of_torch(vars(torch)), _of_functional(vars(F)), _of_tensor(vars(Tensor)), _shadowing()


def _shadowing() -> dict[str, Any]:
    """Returns the methods that Tensor inherits from its C base class and that have been overridden since."""
    own = vars(Tensor)
    return {} if len(own) == _NUM_OWN else {name: own[name] for name in own.keys() & _INHERITED}


_ORIGINAL = torch_functions()  # as they are when the package is imported


def replaced_functions() -> dict[str, Any]:
    """Returns the functions that have been replaced since the import, by path."""
    now = torch_functions()
    if now == _ORIGINAL:
        return {}
    found = {f"torch.Tensor.{name}": method for name, method in now[3].items()}
    for (path, names), before, values in zip(_NAMES.items(), _ORIGINAL, now):
        pairs = zip(names, before, values, strict=True)
        found |= {f"{path}.{name}": value for name, old, value in pairs if value is not old}
    return found


def users_function() -> str | None:
    """Returns where a function of torch is replaced by one of a user's, which may decide anything; None if none is.

    Steps are neither recorded nor compiled meanwhile: torch's own tracers call such a function twice, or not at all.
    """
    return next((path for path, function in replaced_functions().items() if not is_ours(function)), None)
