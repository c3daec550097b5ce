"""Layers in a list, tuple or dict attribute: children of their owner, under `<attribute>_<index or key>`.

An assigned list or dict is replaced by a subclass that notifies its owner of changes, so that `self.blocks = []` may be
filled later.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any

from torch import nn

from kstyle_torch import tree
from kstyle_torch._torch import pytree
from kstyle_torch.variables import Variable


def _noticed(method: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a method of list or dict to notify the container's owner afterwards."""

    @functools.wraps(method)
    def change(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = method(self, *args, **kwargs)
        owner = self._owner() if hasattr(self, "_owner") else None
        if owner is not None:
            owner._track_container(self._attribute)
        return result

    return change


class TrackedList(list[Any]):
    """A list whose modules are children of a layer."""

    append = _noticed(list.append)
    extend = _noticed(list.extend)
    insert = _noticed(list.insert)
    pop = _noticed(list.pop)
    remove = _noticed(list.remove)
    clear = _noticed(list.clear)
    reverse = _noticed(list.reverse)
    __setitem__ = _noticed(list.__setitem__)
    __delitem__ = _noticed(list.__delitem__)
    __iadd__ = _noticed(list.__iadd__)

    def __reduce_ex__(self, protocol: Any) -> Any:  # the owner of a copy wraps it again
        return list, (list(self),)


class TrackedDict(dict[Any, Any]):
    """A dict whose modules are children of a layer."""

    pop = _noticed(dict.pop)
    popitem = _noticed(dict.popitem)
    clear = _noticed(dict.clear)
    update = _noticed(dict.update)
    setdefault = _noticed(dict.setdefault)
    __setitem__ = _noticed(dict.__setitem__)
    __delitem__ = _noticed(dict.__delitem__)
    __ior__ = _noticed(dict.__ior__)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return dict, (dict(self),)


pytree.register_pytree_node(
    TrackedList, lambda items: (list(items), None), lambda items, _: list(items), serialized_type_name="TrackedList"
)
pytree.register_pytree_node(
    TrackedDict,
    lambda table: (list(table.values()), list(table)),
    lambda values, keys: dict(zip(keys, values, strict=True)),
    serialized_type_name="TrackedDict",
)


def may_hold_modules(value: Any) -> bool:
    """Returns whether a value is a container with modules, or an empty one that may be filled later."""
    if type(value) not in (list, tuple, dict, TrackedList, TrackedDict):
        return tree.is_nested(value) and any(isinstance(leaf, (nn.Module, Variable)) for leaf in tree.flatten(value))
    leaves = tree.flatten(value)
    return (not leaves and type(value) is not tuple) or any(isinstance(leaf, (nn.Module, Variable)) for leaf in leaves)


def may_hold_metrics(value: Any) -> bool:
    """Returns whether a value is a metric or a container that holds metrics or may be filled with some."""
    if isinstance(value, (list, dict)):
        return True
    return any(map(may_hold_metrics, value)) if type(value) is tuple else getattr(value, "is_metric", None) is True


def metrics_in(holder: Any) -> list[Any]:
    """Returns the metrics that an object has as attributes, alone or in a list, tuple or dict that holds nothing else."""
    found: list[Any] = []
    for value in vars(holder).values():
        kind: Any = type(value)
        role = attribute_role(kind)
        if role == "other" or not (role == "metric" or value):
            continue
        for item in (value,) if role == "metric" else value.values() if role == "dict" else value:
            if getattr(item, "is_metric", None) is not True:
                break  # such as a vocabulary: a look at its first word is enough
            if not any(item is other for other in found):
                found.append(item)
    return found


@functools.cache
def attribute_role(kind: type) -> str:
    """Returns what an attribute of this class may be; asked for every attribute of every layer at the start of each epoch."""
    if getattr(kind, "is_metric", None) is True:
        return "metric"
    return "dict" if issubclass(kind, dict) else "sequence" if issubclass(kind, (list, tuple)) else "other"


def tracked(value: Any, owner: nn.Module, attribute: str) -> Any:
    """Returns the container, with every list and dict in it notifying `owner` of changes."""
    made: Any
    if isinstance(value, list):
        made = TrackedList(tracked(item, owner, attribute) for item in value)
    elif isinstance(value, dict):
        made = TrackedDict((key, tracked(item, owner, attribute)) for key, item in value.items())
    else:
        return value
    made._owner, made._attribute = weakref.ref(owner), attribute
    return made


def with_replaced(container: Any, old: nn.Module, new: nn.Module) -> Any:
    """Returns the container with `old` replaced by `new`, in place where it is mutable."""
    if isinstance(container, (list, dict)):
        plain: Any = dict if isinstance(container, dict) else list  # bypasses the methods that notify the owner
        for key, item in [*(container.items() if isinstance(container, dict) else enumerate(container))]:
            plain.__setitem__(container, key, with_replaced(item, old, new))
        return container
    if type(container) is tuple:
        return tuple(with_replaced(item, old, new) for item in container)
    return new if container is old else container


def variables_in(container: Any, prefix: str) -> dict[str, Variable]:
    """Returns the variables at any depth that are not weights of a layer yet, by key."""
    items = container.items() if isinstance(container, dict) else enumerate(container)
    found: dict[str, Variable] = {}
    for key, item in items:
        name = f"{prefix}_{str(key).replace('.', '_')}"
        if isinstance(item, Variable):
            found.update({name: item} if item.can_be_weight else {})
        elif tree.is_nested(item):
            found |= variables_in(item, name)
    return found


def modules_in(container: Any, prefix: str) -> dict[str, nn.Module]:
    """Returns the modules at any depth, by key."""
    items = container.items() if isinstance(container, dict) else enumerate(container)
    found: dict[str, nn.Module] = {}
    for key, item in items:
        name = f"{prefix}_{str(key).replace('.', '_')}"
        if isinstance(item, nn.Module):
            found[name] = item
        elif tree.is_nested(item):
            found |= modules_in(item, name)
    return found
