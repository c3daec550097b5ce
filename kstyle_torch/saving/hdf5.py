"""HDF5 files in Keras' layout; files that are read are untrusted input.

Nothing outside the file is opened: soft and external links, virtual datasets and external storage are refused. An array
is read only if its declared size is in proportion to what is stored for it.
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

from kstyle_torch import budget
from kstyle_torch.arrays import from_array
from kstyle_torch.saving import untrusted

LARGEST_CHUNK = 1 << 24  # bytes of a chunk of a dataset that is smaller: a whole chunk is read for any value in it
MAX_EXPANSION = 1000  # how many times its stored size an array may have, as in Keras
HEAP = re.compile(b"GCOL\x01\0\0\0")
FREE_SIZE = 1 << 20  # bytes; smaller arrays are not checked


@contextlib.contextmanager
def created(path: Path) -> Iterator[Any]:
    """Yields an `h5py.File` for writing.

    It writes through a Python file, whose errors tell of a full disk. That must be readable too: the HDF5 library reads
    back what no longer fits into its cache, from some 300 groups on.
    """
    import h5py

    with path.open("w+b") as file, h5py.File(file, "w") as handle:
        yield handle


@contextlib.contextmanager
def opened(file: str | os.PathLike[str] | IO[bytes]) -> Iterator[Any]:
    """Opens an `h5py.File` for reading.

    Raises: ValueError: if the file is not an HDF5 file, or is broken.
    """
    import h5py

    if isinstance(file, (str, os.PathLike)):
        untrusted.check_file(file)
    try:
        handle = h5py.File(file, "r")
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise ValueError(f"This is not an HDF5 file, or it is truncated: {error}.") from error
    with handle, readable():
        yield handle


@contextlib.contextmanager
def readable() -> Iterator[None]:
    """Converts the errors of h5py for a broken file to ValueError."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, TypeError, UnicodeDecodeError, OverflowError) as error:
        raise ValueError(f"The HDF5 file is broken: {error}.") from error


def check_heaps(path: Path) -> int:
    """Checks the heaps that hold a file's long attributes: the HDF5 library loops forever in a broken one.

    Returns: Size in bytes of the longest text in them.
    Raises: ValueError: if one is broken, or the path is not that of an ordinary file.
    """
    untrusted.check_file(path)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        starts = [found.start() for found in HEAP.finditer(content)]  # keeps no match, which would keep the map open
        return max((_check_heap(content, start) for start in starts), default=0)


def _check_heap(content: mmap.mmap, start: int) -> int:
    """Returns the size of the largest object. Each object follows its size; number 0 is the free space at the end."""
    place, largest = start + 16, 0
    end = start + int.from_bytes(content[start + 8 : place], "little")
    while place + 16 <= end <= len(content):
        size = int.from_bytes(content[place + 8 : place + 16], "little")
        if content[place : place + 2] == bytes(2):
            place += size
            break
        largest = max(largest, size)
        place += 16 + -(-size // 8) * 8
    if not end - 16 < place <= end <= len(content):
        raise ValueError("The HDF5 file is broken: the sizes in a heap do not add up.")
    return largest


# ------------------------------------------------------------------------------------------------------------- reading


def child(group: Any, name: str) -> Any:
    """Returns the group or dataset `name` in a group, which must be stored in the file itself; None if it does not exist.

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
            raise ValueError(f"The HDF5 dataset {found.name} refers to values outside the file, which is not allowed.")
    elif not isinstance(found, h5py.Group):
        raise ValueError(f"The HDF5 file has a {type(found).__name__} at {group.name}/{name}; expected weights.")
    return found


def group_at(root: Any, path: str) -> Any:
    """Returns the group at a path, after a check of each step; None if it does not exist.

    Raises: ValueError: see `child`.
    """
    import h5py

    for part in path.split("/") if path else ():
        root = child(root, part) if isinstance(root, h5py.Group) else None
        if root is None:
            return None
    return root if isinstance(root, h5py.Group) else None


def shape_of(dataset: Any) -> tuple[int, ...]:
    """Returns the shape of an array, after checking that it is safe to read.

    Raises: ValueError: if it has none, or its declared size is much larger than what is stored for it.
    """
    if dataset.shape is None:
        raise ValueError(f"The HDF5 dataset {dataset.name} holds nothing.")
    declared = math.prod(dataset.shape) * dataset.dtype.itemsize
    if declared > FREE_SIZE and declared > MAX_EXPANSION * dataset.id.get_storage_size():
        raise ValueError(
            f"The HDF5 dataset {dataset.name} claims {declared} bytes, but {dataset.id.get_storage_size()} are stored."
        )
    return tuple(dataset.shape)


def _is_bfloat16(dataset: Any) -> bool:
    return dataset.dtype.kind == "V" and dataset.dtype.itemsize == 2  # h5py reads bfloat16 as opaque pairs of bytes


def _check_numbers(dataset: Any) -> None:
    shape_of(dataset)
    is_number = dataset.dtype.kind in "biufc" and dataset.dtype.itemsize <= (16 if dataset.dtype.kind == "c" else 8)
    if not is_number and not _is_bfloat16(dataset):
        raise ValueError(f"The HDF5 dataset {dataset.name} holds {untrusted.shortened(dataset.dtype)}, not numbers.")
    chunk = math.prod(dataset.chunks or (0,)) * dataset.dtype.itemsize
    if chunk > max(LARGEST_CHUNK, math.prod(dataset.shape) * dataset.dtype.itemsize) * budget.times():
        raise ValueError(
            f"The HDF5 dataset {dataset.name} has the shape {dataset.shape} and chunks of {chunk:.3g} bytes, far more than its "
            f"values. {budget.ADVICE}"
        )


def check_values(dataset: Any, target: Tensor) -> None:
    """Checks that a tensor can hold the values of a dataset of its shape, so that a load does not fail half-way.

    Raises: ValueError: if the tensor has no memory, or the values are not numbers, are complex while the tensor is real,
        or cannot be read.
    """
    if target.is_meta:
        raise ValueError(
            "a weight of the model is on the meta device, and has no memory; call to_empty(device=...) first."
        )
    _check_numbers(dataset)
    if dataset.dtype.kind == "c" and not target.is_complex():
        raise ValueError(f"The HDF5 dataset {dataset.name} holds complex numbers; the weight is real.")
    with readable():
        if dataset.dtype.kind == "f" and not target.dtype.is_floating_point and not np.isfinite(dataset[()]).all():
            raise ValueError(f"The HDF5 dataset {dataset.name} holds NaN or infinity; the weight is an integer.")
        if dataset.chunks is not None:  # chunks may be compressed, and a broken one is found only by reading it
            for piece in dataset.iter_chunks():
                dataset[piece]
            return
        end = (dataset.id.get_offset() or 0) + dataset.id.get_storage_size()
    if end > dataset.file.id.get_filesize():
        raise ValueError(f"The HDF5 dataset {dataset.name} ends beyond the file: it is truncated.")


def attribute(home: Any, name: str) -> Any:
    """Returns an attribute of a group, text as `str`; None if it does not exist.

    Raises: ValueError: if it claims to be larger than the file, or is longer than the budget allows.
    """
    with readable():
        if name not in home.attrs:
            return None
        kept = home.attrs.get_id(name)
        count = math.prod(kept.shape or ())
        if count * kept.dtype.itemsize > home.file.id.get_filesize():
            raise ValueError(f"The attribute {name!r} claims to be larger than the file.")
        if count > 1 and kept.dtype.kind == "O":  # many elements may refer to one long text
            budget.take(count * check_heaps(Path(home.file.filename)), f"the attribute {name!r}")
        value = home.attrs[name]
        return value.decode() if isinstance(value, bytes) else value


def array_of(dataset: Any) -> Any:
    """Returns the values: an array, or a tensor of bfloat16, which NumPy does not have.

    Raises: ValueError: if they are not numbers; see also `shape_of`.
    """
    _check_numbers(dataset)
    with readable():
        values = np.asarray(dataset[()])
        values = values.astype(values.dtype.newbyteorder("="), copy=False)  # torch takes the native byte order only
    if _is_bfloat16(dataset):
        return torch.from_numpy(values.view(np.int16).copy()).view(torch.bfloat16)
    return values


def counted_array_of(dataset: Any) -> Any:
    """Reads like `array_of`, for a dataset whose shape was not compared with a model's: the current budget limits it."""
    budget.take(math.prod(shape_of(dataset)) * dataset.dtype.itemsize, "an array")
    return array_of(dataset)


class Entries(Mapping[str, Any]):
    """The arrays of one group, each read on access.

    Args:
        group: An `h5py.Group`; None stands for an empty one.
    """

    expected = False  # whether shapes have been compared, so that the model's sizes bound what is read

    def __init__(self, group: Any = None):
        self.group = group

    def shape(self, key: str) -> tuple[int, ...]:
        """Returns an array's shape without reading its values."""
        return shape_of(self._dataset(key))

    def check_values(self, key: str, target: Tensor) -> None:
        """Checks that a tensor of the array's shape can take it; see the function `check_values`."""
        check_values(self._dataset(key), target)

    def __getitem__(self, key: str) -> Any:
        dataset = self._dataset(key)
        return array_of(dataset) if self.expected else counted_array_of(dataset)

    def _dataset(self, key: str) -> Any:
        import h5py

        found = None if self.group is None else child(self.group, key)
        if found is None:
            raise KeyError(key)
        if not isinstance(found, h5py.Dataset):
            raise ValueError(f"The HDF5 file has a group at {found.name}; expected an array.")
        return found

    def __contains__(self, key: object) -> bool:
        return self.group is not None and key in self.group  # Mapping's own test would read the array

    def __iter__(self) -> Iterator[str]:
        return iter(() if self.group is None else self.group)

    def __len__(self) -> int:
        return 0 if self.group is None else len(self.group)


# ------------------------------------------------------------------------------------------------------------- writing


class NewEntries(MutableMapping[str, Any]):
    """The arrays of one group that is being written; each assignment writes to the file.

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

    def __contains__(self, key: object) -> bool:
        return key in self.group

    def __iter__(self) -> Iterator[str]:
        return iter(self.group)

    def __len__(self) -> int:
        return len(self.group)


def write_array(group: Any, key: str, value: Any) -> Any:
    """Writes a variable, tensor, array or number. Returns: The dataset."""
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
