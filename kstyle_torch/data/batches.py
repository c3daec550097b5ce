"""Batches on the device, from arrays, a Dataset, a DataLoader or any iterable of batches.

Arrays never go through a DataLoader: they are on the device once, permuted once an epoch, and batches are views.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import data as torch_data

from kstyle_torch import tree
from kstyle_torch.data.arrays import check_lengths, num_samples, to_tensors
from kstyle_torch.data.split import unpack
from kstyle_torch.initializers import as_dtype

Batch = tuple[Any, Any, Any]  # x, y, sample_weight
RESIDENT_BYTES = 2 * 2**30  # larger arrays stay on the host and are gathered a batch at a time


class Batches:
    """What an epoch runs over. `steps` is the number of batches, None if only the end will tell."""

    steps: int | None = None

    def epoch(self) -> Iterable[Batch]:
        """The batches of the next epoch."""
        raise NotImplementedError


class ArrayBatches(Batches):
    """Batches of arrays in memory.

    Args:
        arrays: x, y and sample_weight: nests of tensors with as many rows, or None.
        batch_size: Rows in a batch; the last one may be shorter.
        shuffle: Whether each epoch has its own order; `"batch"` shuffles whole batches.
        device: Where the batches are.
        steps: How many batches make an epoch; all if None.
    """

    def __init__(self, arrays: Batch, batch_size: int, shuffle: Any, device: torch.device, steps: int | None = None):
        leaves = tree.flatten(arrays)
        self.kept = [leaf is not None for leaf in leaves]
        tensors = [leaf for leaf in leaves if leaf is not None]
        self.nest = arrays
        self.rows = tensors[0].shape[0]
        self.batch_size, self.shuffle, self.device = batch_size, shuffle, device
        self.resident = sum(tensor.nbytes for tensor in tensors) <= RESIDENT_BYTES
        if self.resident:
            tensors = [tensor.to(device) for tensor in tensors]
        self.tensors = tensors
        self.pattern = _pattern(arrays)
        self.limit = steps
        self.steps = -(-self.rows // batch_size) if steps is None else min(steps, -(-self.rows // batch_size))

    def epoch(self) -> Iterable[Batch]:
        columns = self._columns()
        flat: Iterable[Any] = zip(*columns, strict=True)
        if self.limit is not None:
            flat = itertools.islice(flat, self.limit)
        return flat if self.pattern == "xyw" else self._packed(flat)

    def _columns(self) -> list[Iterable[Any]]:
        """For each array its batches, a row of None for what is missing."""
        order = self._order()
        if not self.resident:
            indices = (torch.arange(self.rows) if order is None else order).split(self.batch_size)
            split: list[Iterable[Tensor]] = [self._gathered(tensor, indices) for tensor in self.tensors]
        else:
            order = None if order is None else order.to(self.device)
            chosen = self.tensors if order is None else [tensor.index_select(0, order) for tensor in self.tensors]
            split = [tensor.split(self.batch_size) for tensor in chosen]
        num_batches = -(-self.rows // self.batch_size)
        columns = iter(split)
        return [next(columns) if kept else itertools.repeat(None, num_batches) for kept in self.kept]

    def _gathered(self, tensor: Tensor, indices: Iterable[Tensor]) -> Iterator[Tensor]:
        for chosen in indices:
            yield tensor.index_select(0, chosen.to(tensor.device)).to(self.device, non_blocking=True)

    def _order(self) -> Tensor | None:
        if not self.shuffle:
            return None
        if self.shuffle != "batch":
            return torch.randperm(self.rows)
        whole = self.rows // self.batch_size * self.batch_size
        blocks = torch.arange(whole).view(-1, self.batch_size)[torch.randperm(whole // self.batch_size)]
        return torch.cat([blocks.flatten(), torch.arange(whole, self.rows)])

    def _packed(self, flat: Iterable[tuple[Any, ...]]) -> Iterator[Batch]:
        for leaves in flat:
            yield tree.pack_sequence_as(self.nest, list(leaves))


class IterableBatches(Batches):
    """Batches that something else makes: a DataLoader, a generator, any iterable of `(x, y)` or `(x, y, weight)`.

    Args:
        source: The iterable; an iterator goes on from epoch to epoch.
        device: Where the batches are brought.
        steps: How many batches make an epoch; all that there are if None.
        weigh: Makes sample weights of the targets, for class weights.
    """

    def __init__(
        self, source: Iterable[Any], device: torch.device, steps: int | None, weigh: Callable[..., Any] | None = None
    ):
        self.source, self.device, self.limit, self.weigh = source, device, steps, weigh
        length = len(source) if isinstance(source, Sized) else None
        self.steps = steps if length is None else length if steps is None else min(steps, length)
        self.running = source if isinstance(source, Iterator) else None
        self._begun: Iterator[Any] | None = None

    def first(self) -> Batch | None:
        """The first batch, which the next epoch still begins with; None if there is none."""
        batches = iter(self.source) if self.running is None else self.running
        item = next(batches, _NOTHING)
        if item is _NOTHING:
            return None
        self._begun = itertools.chain([item], batches)
        return self._on_device(item)

    def epoch(self) -> Iterator[Batch]:
        batches, self._begun = self._begun, None
        if batches is None:
            batches = iter(self.source) if self.running is None else self.running
        taken = 0
        for item in batches if self.limit is None else itertools.islice(batches, self.limit):
            taken += 1
            yield self._on_device(item)
        if self.running is None and hasattr(self.source, "on_epoch_end"):
            self.source.on_epoch_end()
        if self.limit is not None and taken < self.limit:
            warnings.warn(
                f"The data ran out after {taken} of {self.limit} batches. It must give steps_per_epoch * epochs "
                "batches; a generator can loop forever.",
                stacklevel=2,
            )
        if self.steps is None:
            self.steps = taken

    def _on_device(self, item: Any) -> Batch:
        x, y, weight = unpack(item if isinstance(item, (tuple, list)) else (item,))
        if self.weigh is not None:
            weight = self.weigh(y, weight)
        return tree.map_structure(self._moved, (x, y, weight))

    def _moved(self, leaf: Any) -> Any:
        if leaf is None:
            return None
        tensor = leaf if isinstance(leaf, Tensor) else torch.as_tensor(np.asarray(leaf))
        if tensor.dtype is torch.float64:
            tensor = tensor.to(as_dtype(None))
        return tensor.to(self.device, non_blocking=True)


_NOTHING = object()


def make_batches(
    x: Any,
    y: Any,
    sample_weight: Any,
    *,
    batch_size: int | None,
    shuffle: Any,
    device: torch.device,
    steps: int | None = None,
    weigh: Callable[..., Any] | None = None,
    prepare: Callable[[Any, Any, Any], Batch] | None = None,
) -> Batches:
    """Batches of whatever the user brings.

    Args:
        x: Arrays, or an iterable of batches.
        y: Targets; None where x brings them.
        sample_weight: Weights; None where x brings them.
        batch_size: Rows in a batch of arrays; 32 if None.
        shuffle: See `ArrayBatches`.
        device: Where the batches are.
        steps: How many batches make an epoch.
        weigh: Makes sample weights of targets and weights.
        prepare: Checks and changes x, y and weights of arrays, once.
    Raises: ValueError: for data that cannot be used, or arguments that do not go together.
    """
    if is_iterable_data(x):
        for name, value in (("y", y), ("sample_weight", sample_weight)):
            if value is not None:
                raise ValueError(f"{name} must not be given when x is a {type(x).__name__}, whose batches bring it.")
        return IterableBatches(_loader(x, batch_size, shuffle), device, steps, weigh)
    x, y, sample_weight = as_arrays(x, y, sample_weight)
    if weigh is not None:
        sample_weight = weigh(y, sample_weight)
    if prepare is not None:
        x, y, sample_weight = prepare(x, y, sample_weight)
    return ArrayBatches((x, y, sample_weight), checked_batch_size(batch_size), shuffle, device, steps)


def as_arrays(x: Any, y: Any = None, sample_weight: Any = None) -> Batch:
    """All three as tensors on the host, with as many rows.

    Raises: ValueError: if that cannot be.
    """
    if x is None:
        raise ValueError("x is None: there is nothing to run on.")
    x = to_tensors(x, "x")
    num_samples(x, "x")
    if isinstance(y, tuple):
        y = list(y)
    y, sample_weight = to_tensors(y, "y"), to_tensors(sample_weight, "sample_weight")
    check_lengths(x=x, y=y, sample_weight=sample_weight)
    return x, y, sample_weight


def is_iterable_data(x: Any) -> bool:
    """Whether x brings batches, or items to make them of, instead of being an array or a nest of arrays."""
    if isinstance(x, (torch_data.Dataset, torch_data.DataLoader)):
        return True
    if isinstance(x, (list, tuple, dict, Tensor, np.ndarray, str)) or hasattr(x, "__array__"):
        return False
    return isinstance(x, (Iterator, Iterable)) and not hasattr(x, "to_numpy")


def _loader(x: Any, batch_size: int | None, shuffle: Any) -> Iterable[Any]:
    if isinstance(x, torch_data.DataLoader) or not isinstance(x, torch_data.Dataset):
        return x
    shuffled = bool(shuffle) and not isinstance(x, torch_data.IterableDataset)
    return torch_data.DataLoader(x, batch_size=checked_batch_size(batch_size), shuffle=shuffled)


def checked_batch_size(batch_size: int | None) -> int:
    """The batch size, 32 if None.

    Raises: ValueError: if it is no positive whole number.
    """
    if batch_size is None:
        return 32
    if isinstance(batch_size, bool) or not hasattr(batch_size, "__index__") or int(batch_size) <= 0:
        raise ValueError(f"batch_size must be a positive int; got {batch_size!r}.")
    return int(batch_size)


def _pattern(arrays: Batch) -> str:
    """`"xyw"` where each of the three is one tensor or None, so that a zip of their batches is the batch."""
    return "xyw" if not any(tree.is_nested(part) for part in arrays) else "nest"
