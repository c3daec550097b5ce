"""Sharded weights: several HDF5 files, and a `.weights.json` that maps objects to files, as Keras writes them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from kstyle_torch.budget import Budget
from kstyle_torch.layer.reparametrization import warn_of_computed
from kstyle_torch.saving import hdf5, untrusted, weight_tree
from kstyle_torch.saving.atomic import replacing, write_text

MAX_TABLE = 1 << 26  # bytes
SUFFIX = ".weights.json"


def write(model: Any, path: Path, max_bytes: int, skipped: Sequence[Any] = ()) -> None:
    """Writes the shards under unique names, then the table, and then removes the shards of the previous table.

    Thus a complete set exists at every moment, and exactly one at the end. Keras opens the shard that has the name of its
    own first shard before it reads the table; an empty file has that name.

    Args:
        model: A built model.
        path: Ends in `.weights.json`.
        skipped: Layers that are left out.
        max_bytes: Largest size of a shard; an object whose variables are larger gets a shard of its own.
    Raises: ValueError: if `max_bytes` is not positive.
    """
    if max_bytes <= 0:
        raise ValueError(f"max_shard_size must be positive; got {max_bytes / 1024**3} GB.")
    collected: dict[str, _Group] = {}

    def make_group(at: str) -> _Group:
        return collected.setdefault(at, _Group())

    warn_of_computed(model, f"The file of {model.name}")
    weight_tree.write(model, make_group, skipped=skipped)
    shards: list[dict[str, _Group]] = [{}]
    size = 0
    for at, group in collected.items():
        if size and size + group.size > max_bytes:
            shards.append({})
            size = 0
        shards[-1][at] = group
        size += group.size
    table: dict[str, list[str]] = {}
    stem, save = path.name.removesuffix(SUFFIX), secrets.token_hex(4)
    old = _shards_before(path)
    for number, shard in enumerate(shards):
        name = f"{stem}_{number:05}-{save}.weights.h5"
        with replacing(path.with_name(name)) as unfinished, hdf5.created(unfinished) as root:
            for at, group in shard.items():
                group.write_to(root.create_group(f"{at}/vars" if at else "vars"))
                table[f"/{at}/vars" if at else "/vars"] = [name]
    total = sum(group.size for group in collected.values())
    first = path.with_name(f"{stem}_{0:05}.weights.h5")
    if not first.exists():
        _write_empty(first)
    write_text(path, json.dumps({"metadata": {"total_size": total}, "weight_map": table}, indent=4))
    for useless in old:
        _write_empty(useless) if useless == first else useless.unlink(missing_ok=True)


def _write_empty(path: Path) -> None:
    with replacing(path) as unfinished, hdf5.created(unfinished):
        pass


def _shards_before(path: Path) -> list[Path]:
    """Returns the shards that a save to this path makes obsolete: those of its table, and of saves that were killed before.

    Shards newer than the table are kept, since another process may be saving at this moment.
    """
    if not path.is_file():
        return []
    ours = re.compile(re.escape(path.name.removesuffix(SUFFIX)) + r"_\d{5}(-[0-9a-f]{8})?\.weights\.h5")
    try:
        named = {name for names in _table(path).values() for name in (names if isinstance(names, list) else [names])}
    except ValueError:
        named = set()
    saved = path.stat().st_mtime_ns
    return [
        shard
        for shard in path.parent.iterdir()
        if (match := ours.fullmatch(shard.name))
        and (shard.name in named or (match[1] and shard.lstat().st_mtime_ns < saved))
    ]


def _table(path: Path) -> dict[str, Any]:
    """Returns the names of shards by the path of the object in them.

    Raises: ValueError: if it is not a table of shards.
    """
    table = untrusted.read_json(path, MAX_TABLE)
    if not isinstance(table, dict) or not isinstance(table.get("weight_map"), dict):
        raise ValueError("it is not a table of shards.")
    return table["weight_map"]


class _Group(dict[str, Any]):
    """Stand-in for an HDF5 group until its file is known."""

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
        """Size of all arrays in bytes."""
        return sum(value.nbytes for value in self.values() if not isinstance(value, Tensor))

    def write_to(self, group: Any) -> None:
        """Writes all arrays to a group."""
        group.attrs.update(self.attrs)
        for key, value in self.items():
            group.create_dataset(key, data=value).attrs.update(self.attributes[key])


def read(model: Any, path: Path, skip_mismatch: bool = False, skipped: Sequence[Any] = ()) -> None:
    """Sets the weights from the shards in a table; nothing changes unless everything fits.

    Raises: ValueError: if it does not fit, or a shard is not in the table's folder.
    """
    with contextlib.ExitStack() as stack:
        homes = {at.strip("/"): _checked(names, path) for at, names in _table(path).items()}
        all_names = {name for names in homes.values() for name in names}
        stack.enter_context(Budget(sum(path.with_name(name).stat().st_size for name in all_names)))
        files = {name: stack.enter_context(hdf5.opened(path.with_name(name))) for name in all_names}

        def entries_at(at: str) -> hdf5.Entries:
            where = f"{at}/vars" if at else "vars"
            return _Spread([hdf5.group_at(files[name], where) for name in homes.get(where, ())])

        weight_tree.Plan(model, entries_at, skip_mismatch, skipped).carry_out()


class _Spread(hdf5.Entries):
    """The arrays of one object, which may lie in several files."""

    def __init__(self, groups: list[Any]):
        super().__init__()
        self.parts = [hdf5.Entries(group) for group in groups]

    def _dataset(self, key: str) -> Any:
        part = next((part for part in self.parts if key in part), None)
        if part is None:
            raise KeyError(key)
        return part._dataset(key)

    def __contains__(self, key: object) -> bool:
        return any(key in part for part in self.parts)

    def __iter__(self) -> Iterator[str]:
        return (key for part in self.parts for key in part)

    def __len__(self) -> int:
        return sum(map(len, self.parts))


def _checked(names: Any, path: Path) -> list[str]:
    """Returns the names of shards, which must be in the table's folder."""
    names = names if isinstance(names, list) else [names]
    for name in names:
        is_name = isinstance(name, str) and len(name) <= untrusted.MAX_NAME and Path(name).name == name
        is_name = is_name and name not in ("", "..") and "\0" not in name
        if not is_name or not os.path.lexists(path.with_name(name)):
            raise ValueError(f"it names the shard {untrusted.shortened(name)}, which is not in its folder.")
        untrusted.check_member(path.with_name(name), path.parent)
    return names
