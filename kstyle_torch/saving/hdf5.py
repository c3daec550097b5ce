"""HDF5 files, written in Keras' layout and read with distrust: the file may be anybody's.

Nothing outside the file is opened: soft and external links, virtual datasets and external storage are refused. An array
is read only if it says no larger than what is stored for it.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import re
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from kstyle_torch.arrays import from_array

MAX_EXPANSION = 1000  # how many times its stored size an array may have, as in Keras
HEAP = re.compile(b"GCOL\x01\0\0\0")
FREE_SIZE = 1 << 20  # bytes; smaller ones are not worth a look


@contextlib.contextmanager
def opened(file: str | os.PathLike[str] | IO[bytes], mode: str = "r") -> Iterator[Any]:
    """An `h5py.File`.

    Raises: ValueError: if what is to be read is no HDF5 file, or is broken.
    """
    import h5py

    if mode == "w":
        with h5py.File(file, "w") as handle:
            yield handle
        return
    try:
        handle = h5py.File(file, "r")
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise ValueError(f"This is no HDF5 file, or it is truncated: {error}.") from error
    with handle, readable():
        yield handle


@contextlib.contextmanager
def readable() -> Iterator[None]:
    """Turns whatever h5py raises about a broken file into a ValueError."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, TypeError, UnicodeDecodeError, OverflowError) as error:
        raise ValueError(f"The HDF5 file is broken: {error}.") from error


def check_heaps(path: Path) -> None:
    """Looks through the heaps that a file's long attributes are in: the HDF5 library runs in circles in a broken one.

    Raises: ValueError: if one is broken.
    """
    if not path.stat().st_size:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for found in HEAP.finditer(content):
            _check_heap(content, found.start())


def _check_heap(content: mmap.mmap, start: int) -> None:
    """The objects of a heap, each with its size in front, fill it; number 0 is what is free at its end."""
    place = start + 16
    end = start + int.from_bytes(content[start + 8 : place], "little")
    while place + 16 <= end <= len(content):
        size = int.from_bytes(content[place + 8 : place + 16], "little")
        if content[place : place + 2] == bytes(2):
            place += size
            break
        place += 16 + -(-size // 8) * 8
    if not end - 16 < place <= end <= len(content):
        raise ValueError("The HDF5 file is broken: the sizes in a heap do not add up.")


# ------------------------------------------------------------------------------------------------------------- reading


def child(group: Any, name: str) -> Any:
    """The group or dataset called `name` in a group, where it is in the file itself; None if there is none.

    Raises: ValueError: for a link to elsewhere, a virtual dataset, or one with external storage.
    """
    import h5py

    kind = group.get(name, getclass=True, getlink=True)
    if kind is None:
        return None
    if kind is not h5py.HardLink:
        raise ValueError(f"The HDF5 file has a {kind.__name__} at {group.name}/{name}; links are not followed.")
    found = group[name]
    if isinstance(found, h5py.Dataset):
        if found.is_virtual or found.external:
            raise ValueError(f"The HDF5 dataset {found.name} takes its values from elsewhere, which is not allowed.")
    elif not isinstance(found, h5py.Group):
        raise ValueError(f"The HDF5 file has a {type(found).__name__} at {group.name}/{name}; expected weights.")
    return found


def group_at(root: Any, path: str) -> Any:
    """The group at a path, each step of it checked; None if there is none.

    Raises: ValueError: see `child`.
    """
    import h5py

    for part in path.split("/") if path else ():
        root = child(root, part) if isinstance(root, h5py.Group) else None
        if root is None:
            return None
    return root if isinstance(root, h5py.Group) else None


def shape_of(dataset: Any) -> tuple[int, ...]:
    """The shape of an array that may be read.

    Raises: ValueError: if it has none, or is said to be much larger than what is stored for it.
    """
    if dataset.shape is None:
        raise ValueError(f"The HDF5 dataset {dataset.name} holds nothing.")
    declared = math.prod(dataset.shape) * dataset.dtype.itemsize
    if declared > FREE_SIZE and declared > MAX_EXPANSION * dataset.id.get_storage_size():
        raise ValueError(
            f"The HDF5 dataset {dataset.name} claims {declared} bytes, but {dataset.id.get_storage_size()} are stored."
        )
    return tuple(dataset.shape)


def array_of(dataset: Any) -> Any:
    """The values: an array, or a tensor of bfloat16, which NumPy does not have.

    Raises: ValueError: if they are no numbers, or see `shape_of`.
    """
    shape_of(dataset)
    is_bfloat16 = dataset.dtype.kind == "V" and dataset.dtype.itemsize == 2  # no other numbers are kept that way
    if dataset.dtype.kind not in "biufc" and not is_bfloat16:
        raise ValueError(f"The HDF5 dataset {dataset.name} holds {dataset.dtype}, not numbers.")
    with readable():
        values = np.asarray(dataset[()])
    if is_bfloat16:
        return torch.from_numpy(values.view(np.int16).copy()).view(torch.bfloat16)
    return values


class Entries(Mapping[str, Any]):
    """The arrays of one group, each read when it is asked for.

    Args:
        group: An `h5py.Group`; None stands for an empty one.
    """

    def __init__(self, group: Any = None):
        self.group = group

    def shape(self, key: str) -> tuple[int, ...]:
        """An array's shape; nothing is read."""
        return shape_of(self._dataset(key))

    def __getitem__(self, key: str) -> Any:
        return array_of(self._dataset(key))

    def _dataset(self, key: str) -> Any:
        import h5py

        found = None if self.group is None else child(self.group, key)
        if found is None:
            raise KeyError(key)
        if not isinstance(found, h5py.Dataset):
            raise ValueError(f"The HDF5 file has a group at {found.name}; expected an array.")
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(() if self.group is None else self.group)

    def __len__(self) -> int:
        return 0 if self.group is None else len(self.group)


# ------------------------------------------------------------------------------------------------------------- writing


class NewEntries(MutableMapping[str, Any]):
    """The arrays of one group that is being written: whatever is set is in the file.

    Args:
        group: An `h5py.Group`.
    """

    def __init__(self, group: Any):
        self.group = group

    def __setitem__(self, key: str, value: Any) -> None:
        write_array(self.group, key, value)

    def __getitem__(self, key: str) -> Any:
        return array_of(self.group[key])

    def __delitem__(self, key: str) -> None:
        del self.group[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.group)

    def __len__(self) -> int:
        return len(self.group)


def write_array(group: Any, key: str, value: Any) -> Any:
    """Writes a variable, tensor, array or number; gives the dataset."""
    value = value.read() if hasattr(value, "read") else getattr(value, "value", value)
    value = from_array(value) if str(getattr(value, "dtype", "")) == "bfloat16" else value
    if isinstance(value, Tensor):
        value = value.detach().cpu().contiguous()
        if value.dtype == torch.bfloat16:
            dataset = group.create_dataset(key, data=value.view(torch.int16).numpy().view("V2"))
            dataset.attrs["dtype"] = "bfloat16"
            return dataset
        value = value.numpy()
    return group.create_dataset(key, data=np.asarray(value))
