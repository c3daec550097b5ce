"""Weights in several HDF5 files, and a `.weights.json` that says what is where, as Keras writes them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from kstyle_torch.layers.reparametrization import warn_of_computed
from kstyle_torch.saving import hdf5, weight_tree
from kstyle_torch.saving.atomic import replacing, write_text


def write(model: Any, path: Path, max_bytes: int) -> None:
    """Writes the shards, each whole, and the table of them last.

    Args:
        model: A built model.
        path: Ends in `.weights.json`.
        max_bytes: Of one shard; an object whose variables need more gets one of its own.
    Raises: ValueError: if `max_bytes` is not positive.
    """
    if max_bytes <= 0:
        raise ValueError(f"max_shard_size must be positive; got {max_bytes / 1024**3} GB.")
    collected: dict[str, _Group] = {}

    def make_group(at: str) -> _Group:
        return collected.setdefault(at, _Group())

    warn_of_computed(model, f"The file of {model.name}")
    weight_tree.write(model, make_group)
    shards: list[dict[str, _Group]] = [{}]
    size = 0
    for at, group in collected.items():
        if size and size + group.size > max_bytes:
            shards.append({})
            size = 0
        shards[-1][at] = group
        size += group.size
    table: dict[str, list[str]] = {}
    stem = path.name.removesuffix(".weights.json")
    for number, shard in enumerate(shards):
        name = f"{stem}_{number:05}.weights.h5"
        with (
            replacing(path.with_name(name)) as unfinished,
            unfinished.open("wb") as file,
            hdf5.opened(file, "w") as root,
        ):
            for at, group in shard.items():
                group.write_to(root.create_group(f"{at}/vars" if at else "vars"))
                table[f"/{at}/vars" if at else "/vars"] = [name]
    total = sum(group.size for group in collected.values())
    write_text(path, json.dumps({"metadata": {"total_size": total}, "weight_map": table}, indent=4))


class _Group(dict[str, Any]):
    """Stands for an HDF5 group until it is known into which file it goes."""

    def __init__(self) -> None:
        super().__init__()
        self.attrs: dict[str, Any] = {}

    def create_dataset(self, key: str, data: Any) -> _Group:
        self[key] = data
        self.last = _Group()
        self.attributes = getattr(self, "attributes", {})
        self.attributes[key] = self.last.attrs
        return self.last

    @property
    def size(self) -> int:
        """Bytes of all arrays."""
        return sum(value.nbytes for value in self.values() if not isinstance(value, Tensor))

    def write_to(self, group: Any) -> None:
        """Writes all of it."""
        group.attrs.update(self.attrs)
        for key, value in self.items():
            group.create_dataset(key, data=value).attrs.update(self.attributes[key])


def read(model: Any, path: Path, skip_mismatch: bool = False) -> None:
    """Sets the weights from the shards that a table names; nothing changes unless all of it fits.

    Raises: ValueError: if it does not fit, or a shard lies elsewhere than beside the table.
    """
    table = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(table, dict) or not isinstance(table.get("weight_map"), dict):
        raise ValueError("it is no table of shards.")
    homes = {at.strip("/"): _checked(names, path) for at, names in table["weight_map"].items()}
    with contextlib.ExitStack() as stack:
        all_names = {name for names in homes.values() for name in names}
        files = {name: stack.enter_context(hdf5.opened(path.with_name(name))) for name in all_names}

        def entries_at(at: str) -> hdf5.Entries:
            where = f"{at}/vars" if at else "vars"
            return _Spread([hdf5.group_at(files[name], where) for name in homes.get(where, ())])

        weight_tree.Plan(model, entries_at, skip_mismatch).carry_out()


class _Spread(hdf5.Entries):
    """The arrays of one object, which may lie in several files."""

    def __init__(self, groups: list[Any]):
        super().__init__()
        self.parts = [hdf5.Entries(group) for group in groups]

    def _dataset(self, key: str) -> Any:
        part = next((part for part in self.parts if key in {*part}), None)
        if part is None:
            raise KeyError(key)
        return part._dataset(key)

    def __iter__(self) -> Iterator[str]:
        return (key for part in self.parts for key in part)

    def __len__(self) -> int:
        return sum(map(len, self.parts))


def _checked(names: Any, path: Path) -> list[str]:
    """The names of shards that lie beside the table."""
    names = names if isinstance(names, list) else [names]
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not path.with_name(name).is_file():
            raise ValueError(f"it names the shard {name!r}, which does not lie beside it.")
        if path.with_name(name).is_symlink():
            raise ValueError(f"the shard {name!r} is a link.")
    return names
