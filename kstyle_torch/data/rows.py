"""Arrays that are read a few rows at a time: in files, sparse, or too large to convert at once."""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kstyle_torch.initializers import as_dtype

WHOLE_BYTES = 64 * 2**20  # larger arrays that need conversion are converted in parts


class Rows:
    """An array on the host with a tensor's `shape`, `dtype` and slices, which is read by `take` only.

    Args:
        source: NumPy array, scipy sparse matrix, or another object with `shape` and `dtype` that is indexed by rows.
        start: First row.
        stop: Row after the last; None for all.
        floats: The dtype of floating-point numbers; `config.floatx()` if None.
    """

    device = torch.device("cpu")

    def __init__(self, source: Any, start: int = 0, stop: int | None = None, floats: torch.dtype | None = None):
        self.source, self.floats = source, floats
        self.start, self.stop = start, source.shape[0] if stop is None else stop
        self.shape = torch.Size((self.stop - self.start, *source.shape[1:]))
        self.dtype = torch_dtype(source.dtype, floats)
        self.mapped = is_mapped(source) or _in_file(source)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Size of all rows as tensors, in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def dim(self) -> int:
        """Returns the number of axes."""
        return len(self.shape)

    def is_floating_point(self) -> bool:
        """Returns whether the tensors from `take` are floating-point."""
        return self.dtype.is_floating_point

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Rows:
        first, last, step = rows.indices(len(self))
        if step != 1:
            raise ValueError("Rows support slices without a step only; for other rows use take().")
        return Rows(self.source, self.start + first, self.start + max(first, last), self.floats)

    def take(self, rows: Tensor | slice) -> Tensor:
        """Returns the rows at these indices as a new tensor."""
        if isinstance(rows, slice):
            first, last, _ = rows.indices(len(self))
            return self._read(slice(self.start + first, self.start + last))
        places = rows.numpy() + self.start if self.start else rows.numpy()
        if not _in_file(self.source):
            return self._read(places)
        ascending = np.argsort(places)  # files are read in ascending order
        read = self._read(places[ascending])
        return torch.empty_like(read).index_copy_(0, torch.from_numpy(ascending), read)

    def to(self, device: Any) -> Tensor:
        """Returns all rows as a tensor on the device."""
        return self.take(slice(None)).to(device)

    def _read(self, rows: Any) -> Tensor:
        part = self.source[rows]
        part = part.toarray() if hasattr(part, "toarray") else np.asarray(part)
        return as_tensor(part, not isinstance(rows, slice), self.floats)


class ComputedRows(Rows):
    """Numbers that are computed from a few rows of other data when they are read, such as indices of words.

    Args:
        columns: Arrays with the rows of the data.
        compute: Returns the tensor of some rows, on the host.
        shape: The shape of all rows; None for sizes that differ from batch to batch.
        dtype: The dtype of the numbers.
        start: First row.
        stop: Row after the last; None for all.
    """

    mapped = True  # stays where it is

    def __init__(
        self,
        columns: list[Any],
        compute: Callable[[list[Any]], Tensor],
        shape: tuple[Any, ...],
        dtype: torch.dtype,
        start: int = 0,
        stop: int | None = None,
    ):
        self.columns, self.compute, self.dtype, self.sizes = columns, compute, dtype, shape[1:]
        self.source = self.floats = None
        self.start, self.stop = start, shape[0] if stop is None else stop
        self.shape: Any = (self.stop - self.start, *self.sizes)
        self.varies = None in self.sizes

    @property
    def nbytes(self) -> int:
        """Size of all rows as tensors, in bytes; that of one number for each axis whose size varies."""
        return math.prod(size or 1 for size in self.shape) * self.dtype.itemsize

    def __getitem__(self, rows: slice) -> ComputedRows:
        first, last, step = rows.indices(len(self))
        if step != 1:
            raise ValueError("Rows support slices without a step only; for other rows use take().")
        start = self.start + first
        return ComputedRows(
            self.columns, self.compute, (self.stop, *self.sizes), self.dtype, start, max(start, self.start + last)
        )

    def _read(self, rows: Any) -> Tensor:
        return self.compute([column[rows] for column in self.columns])


def as_tensor(array: np.ndarray, fresh: bool = False, floats: torch.dtype | None = None) -> Tensor:
    """Converts the array to a tensor of a dtype that torch supports; copies it unless it is `fresh`."""
    wanted = torch_dtype(array.dtype, floats)
    name = str(wanted).removeprefix("torch.")
    if name == "bfloat16":
        return torch.from_numpy(array.astype("float32")).bfloat16()
    return torch.from_numpy(np.array(array, dtype=name, order="C", copy=None if fresh else True))


def torch_dtype(dtype: Any, floats: torch.dtype | None = None) -> torch.dtype:
    """Returns the torch dtype for a NumPy dtype: `floats` or `config.floatx()` for floats, int64 for unsupported integers."""
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return floats or as_dtype(None)
    if dtype.kind == "u" and dtype.itemsize > 1:
        return torch.int64
    return as_dtype(dtype.newbyteorder("=").name)


def is_mapped(array: Any) -> bool:
    """Returns whether the array is a memory-mapped file."""
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap):
            return True
        array = array.base
    return isinstance(array, mmap.mmap)


def _in_file(source: Any) -> bool:
    """Returns whether it is an array of h5py or zarr."""
    return type(source).__module__.partition(".")[0] in ("h5py", "zarr")


def is_lazy(array: Any) -> bool:
    """Returns whether an array other than NumPy's should be read by rows."""
    return _in_file(array) and hasattr(array, "shape") and hasattr(array, "dtype")
