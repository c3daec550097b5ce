"""Names of the layers in a model, and their keys among its children."""

from __future__ import annotations

import keyword
import re
from typing import Any

from torch import nn

from kstyle_torch.registry import snake_case


def free_key(owner: nn.Module, module: nn.Module) -> str:
    """Returns the key of a child: its name if the user gave it one, else its class name numbered within the owner.

    Characters that are invalid in keys are replaced in the key only.
    """
    given = getattr(module, "_name_given", False)
    base = re.sub(r"[.\s/]", "_", str(module.name) if given else snake_case(type(module).__name__)) or "layer"
    base = f"{base}_" if keyword.iskeyword(base) else base
    keys = (f"{base}_{number}" if number else base for number in range(len(owner._modules) + 2))
    key = next(key for key in keys if key not in owner._modules)
    while hasattr(owner, key):
        key += "_"
    return key


def check_names(modules: list[Any]) -> None:
    """Checks the names of a graph's layers and operations.

    Raises: ValueError: if two have the same name, unless both names were generated.
    """
    names: dict[str, Any] = {}
    for module in modules:
        name = getattr(module, "name", None)
        if not isinstance(name, str):
            continue
        other = names.setdefault(name, module)
        if other is not module and any(getattr(each, "_name_given", True) for each in (module, other)):
            raise ValueError(f"Two layers or operations of one model have the name {name!r}; names must be unique.")
