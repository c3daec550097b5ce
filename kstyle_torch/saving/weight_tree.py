"""Paths of a model's variables in Keras' files, for saving and loading.

Paths mirror attributes: `layers/dense/vars/0`. In a list or dict, an object is named by its class, numbered. The first path
to an object is the one that is written; files that use another of its paths are read too.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import type_before_parametrizations

from kstyle_torch.layer.lora import LoraLayer
from kstyle_torch.layer.reparametrization import effective_state, load_effective_state
from kstyle_torch.layer.weight_holder import WeightHolder
from kstyle_torch.optimizers.base import Optimizer
from kstyle_torch.registry import snake_case
from kstyle_torch.saving import hdf5

# methods of this package, which only set variables; what a user's own method accepts is unknown before it is called
CHECKED = (WeightHolder.load_own_variables, LoraLayer.load_own_variables, Optimizer.load_own_variables)


class Numbers:
    """Generator of the names `dense`, `dense_1`, ... in one container."""

    def __init__(self) -> None:
        self.used: dict[str, int] = {}

    def __call__(self, name: str) -> str:
        number = self.used[name] = self.used.get(name, -1) + 1
        return f"{name}_{number}" if number else name


def children(saveable: Any) -> Iterator[tuple[str, Any]]:
    """Yields the saved parts of an object, each with its path relative to the object."""
    if isinstance(saveable, WeightHolder):
        for name, child in saveable._saved_children():
            yield from _members(name, child)


def _members(path: str, child: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(child, (list, tuple, dict)):
        yield path, child
        return
    number = Numbers()
    for item in child.values() if isinstance(child, dict) else child:
        if isinstance(item, (list, tuple, dict)):
            yield from _members(f"{path}/{number('container')}", item)
        elif _is_saved(item):
            yield f"{path}/{number(_class_name(item))}", item


def _class_name(item: Any) -> str:
    is_bare = isinstance(item, nn.Module) and not isinstance(item, WeightHolder)
    cls: type = type_before_parametrizations(item) if isinstance(item, nn.Module) else type(item)
    return "torch_module_wrapper" if is_bare else snake_case(cls.__name__)


def _is_saved(item: Any) -> bool:
    return isinstance(item, nn.Module) or hasattr(item, "save_own_variables")


# ------------------------------------------------------------------------------------------------------------- writing


def write(root: Any, make_group: Callable[[str], Any], folder: Path | None = None, skipped: Sequence[Any] = ()) -> None:
    """Writes all variables and assets of a model.

    Args:
        root: The model.
        make_group: Returns the HDF5 group for the variables of the object at a path.
        folder: Folder for assets, such as vocabularies; they are not written if None.
        skipped: Objects that are left out, with everything in them.
    """
    met = {id(each) for each in skipped}
    waiting = [("", root)]
    while waiting:
        path, saveable = waiting.pop()
        if id(saveable) in met:
            continue
        met.add(id(saveable))
        group = make_group(path)
        if isinstance(getattr(saveable, "name", None), str):
            group.attrs["name"] = saveable.name
        save_variables(saveable, hdf5.NewEntries(group))
        if folder is not None and hasattr(saveable, "save_assets"):
            _save_assets(saveable, folder / path)
        below = [(f"{path}/{name}" if path else name, child) for name, child in children(saveable)]
        waiting += reversed(below)


def _save_assets(saveable: Any, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    saveable.save_assets(str(folder))


def save_variables(saveable: Any, store: Any) -> None:
    """Does what `saveable.save_own_variables` does, for bare modules too: their `state_dict`, by its keys."""
    if hasattr(saveable, "save_own_variables"):
        saveable.save_own_variables(store)
    else:
        for key, value in effective_state(saveable).items():
            store[key] = value


# ------------------------------------------------------------------------------------------------------------- reading


class Plan:
    """Plan of a load, checked as a whole before anything changes.

    Args:
        root: The model.
        entries_at: Returns the file's arrays for a path; empty if it has none.
        skip_mismatch: Whether objects that do not fit are left out, with a warning.
        skipped: Objects that are not loaded, with everything in them.
    Raises: ValueError: if something does not fit; the message lists everything that does not.
    """

    def __init__(
        self,
        root: Any,
        entries_at: Callable[[str], hdf5.Entries],
        skip_mismatch: bool = False,
        skipped: Sequence[Any] = (),
    ):
        self.entries_at, self.skip_mismatch = entries_at, skip_mismatch
        self.found: dict[int, tuple[Any, hdf5.Entries, str]] = {}
        self.problems: dict[int, str] = {}
        self._done = {id(each) for each in skipped}
        self._visit(root, "", ())
        if self.problems:
            self._report()

    def _report(self) -> None:
        lines = [f"\n  {problem}" for problem in self.problems.values()]
        more = f"\n  and {len(lines) - 10} more" if len(lines) > 10 else ""
        text = f"{len(lines)} part(s) of the model do not fit the file:{''.join(lines[:10])}{more}"
        if not self.skip_mismatch:
            raise ValueError(text)
        warnings.warn(f"{text}\nThey are not loaded.", stacklevel=5)

    def _visit(self, saveable: Any, path: str, above: tuple[int, ...]) -> None:
        """Looks up an object and its parts at this path; parts that were not found at one path are looked up at others."""
        key = id(saveable)
        if key in self._done or key in above:
            return
        before = len(self.problems)
        if key not in self.found:
            self._match(saveable, path)
        for name, child in children(saveable):
            self._visit(child, f"{path}/{name}" if path else name, (*above, key))
        if key in self.found and len(self.problems) <= before:
            self._done.add(key)

    def _match(self, saveable: Any, path: str) -> None:
        entries = self.entries_at(path)
        problem = misfit(saveable, entries)
        if problem is None and not entries and id(saveable) in self.problems:
            return  # an unbuilt layer may have its arrays at another of its paths
        if problem is None:
            self.found[id(saveable)] = (saveable, entries, path)
            self.problems.pop(id(saveable), None)
        elif id(saveable) not in self.problems:
            self.problems[id(saveable)] = f"{path or 'the model'}: {problem}"

    @torch.no_grad()
    def carry_out(self, folder: Path | None = None) -> None:
        """Sets the variables, and reads the assets from a folder.

        Objects with a load method of their own come first, and are restored if one of them raises; the others have been
        checked.
        """
        found = sorted(self.found.values(), key=lambda each: not decides_itself(each[0]))
        before: list[tuple[Any, Any]] = []
        try:
            for saveable, entries, _ in found:
                if decides_itself(saveable):
                    before += _values(saveable)
                load_variables(saveable, entries)
        except BaseException:
            for target, values in before:
                target.copy_(values) if isinstance(target, Tensor) else target.assign(values)
            raise
        for saveable, _, path in found:
            if folder is not None and hasattr(saveable, "load_assets") and (folder / path).is_dir():
                saveable.load_assets(os.fspath(folder / path))


def misfit(saveable: Any, entries: hdf5.Entries) -> str | None:
    """Returns why an object cannot load these arrays; None if it can, or has a load method of its own."""
    wanted: dict[str, Any]
    if decides_itself(saveable):
        return None
    if isinstance(saveable, WeightHolder):
        wanted = {str(number): view for number, view in enumerate(saveable._saved_views())}
    elif isinstance(saveable, nn.Module):
        wanted = dict(effective_state(saveable))
    else:
        wanted = {str(number): variable for number, variable in enumerate(saveable.variables)}
        if len(wanted) != len(entries):
            return None  # it warns, and is not loaded
    if len(wanted) != len(entries):
        names = [getattr(value, "name", key) for key, value in wanted.items()]
        where = f"{saveable.name!r}, " if isinstance(getattr(saveable, "name", None), str) else ""
        return f"{where}{len(wanted)} variables {names}, but the file has {len(entries)}"
    for key, value in wanted.items():
        if key not in entries:
            return f"the file has no {key!r}"
        if entries.shape(key) != tuple(value.shape):
            name = getattr(value, "path", key)
            return f"{name} has shape {tuple(value.shape)}, but the file has {entries.shape(key)}"
        computed = getattr(value, "computed", None)
        if computed is not None:
            try:
                computed.check_invertible(value.path)
            except ValueError as error:
                return str(error)
        entries.check_values(key, value if isinstance(value, Tensor) else value.parameter)
    entries.expected = True
    return None


def decides_itself(saveable: Any) -> bool:
    """Returns whether an object has a user-defined `load_own_variables`, which alone knows what fits."""
    loads = getattr(type(saveable), "load_own_variables", None)
    return loads not in CHECKED and (loads is not None or not isinstance(saveable, nn.Module))


def _values(saveable: Any) -> list[tuple[Any, Any]]:
    """Returns the tensors and variables of an object, each with a copy of its values."""
    if isinstance(saveable, nn.Module):
        tensors = (*saveable.parameters(recurse=False), *saveable.buffers(recurse=False))
        return [(tensor, tensor.clone()) for tensor in tensors]
    return [(variable, variable.read().clone()) for variable in getattr(saveable, "variables", ())]


@torch.no_grad()
def load_variables(saveable: Any, entries: hdf5.Entries) -> None:
    """Does what `saveable.load_own_variables` does, for bare modules too."""
    if hasattr(saveable, "load_own_variables"):
        saveable.load_own_variables(entries)
        return
    load_effective_state(saveable, entries)
