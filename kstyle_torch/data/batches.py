"""Batches of an epoch, on the device. Batches of arrays are here; data that comes in batches is in `stream`.

Arrays do not go through a DataLoader: they are moved to the device once and permuted in chunks, and batches are views.
"""

from __future__ import annotations

import itertools
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from kstyle_torch import config, tree
from kstyle_torch.data.gather import Gatherer
from kstyle_torch.data.rows import ComputedRows, Rows
from kstyle_torch.data.transfer import Carrier, read_ahead
from kstyle_torch.draws import random_state, set_random_state

Batch = tuple[Any, Any, Any]  # x, y, sample_weight
HOST_CHUNK_BYTES = 2**20  # size of a permuted chunk: fits into the processor's cache, and bounds the memory of copies
DEVICE_CHUNK_BYTES = 64 * 2**20


class Batches:
    """Batches of an epoch.

    Args:
        device: Device of the batches.
        limit: Number of batches in an epoch; all if None.
        restarts: Whether each epoch begins with the first batch even if `limit` is given; otherwise it continues where the
            last one stopped.
    """

    num_batches: int | None = None  # of all the data; None if unknown in advance

    def __init__(self, device: torch.device, limit: int | None = None, restarts: bool = False):
        self.device, self.limit, self.restarts = device, limit, restarts
        self.inspect: Callable[[Any, Any, Any], None] | None = None  # checks new data on the host
        self.first_check: Any = None  # the model's check of its first step; see `training.check`
        self._running: Iterator[Any] | None = None
        self._left: int | None = None
        self._began: dict[str, Any] = {}  # random state at the start of the current pass over the data
        self._given = 0  # batches of the pass that earlier epochs used

    @property
    def steps(self) -> int | None:
        """Number of batches in an epoch; None if unknown in advance."""
        known = [number for number in (self.limit, self.num_batches) if number is not None]
        return min(known, default=None)

    def epoch(self) -> Iterable[Batch]:
        """Returns the batches of the next epoch."""
        return self._pass() if self.limit is None else self._limited()

    def _pass(self) -> Iterable[Any]:
        """Returns all batches, once."""
        raise NotImplementedError

    # ------------------------------------------------------------------------------------ resuming in another process

    @property
    def generators(self) -> list[torch.Generator]:
        """Random generators that determine the order, beside the process's own random state."""
        return []

    def position(self) -> dict[str, Any] | None:
        """Returns where the current or next epoch begins within a pass over the data; None for its beginning."""
        return None if self._running is None or self.restarts else {"began": self._began, "given": self._given}

    def go_to(self, position: dict[str, Any] | None) -> None:
        """Restores a `position()`, and the random state at the start of that pass; does nothing for None."""
        self._running, self._given = None, 0
        if position is None:
            return
        set_random_state(position["began"], self.generators)
        if position["given"]:
            self._began, self._given = position["began"], position["given"]
            self._running, self._left = iter(self._pass()), self.num_batches
            self._skip(self._given)

    def _skip(self, number: int) -> None:
        assert self._running is not None
        deque(itertools.islice(self._running, number), maxlen=0)
        self._left = None if self._left is None else self._left - number

    def _limited(self) -> Iterator[Any]:
        if self._running is None or self.restarts:
            self._began, self._given = random_state(), 0
            self._running, self._left = iter(self._pass()), self.num_batches
        taken = 0
        for batch in itertools.islice(self._running, self.limit):
            taken += 1
            yield batch
        self._given += taken
        self._left = None if self._left is None else self._left - taken
        if self._left == 0 or taken < (self.limit or 0):
            self._running = None
        if taken < (self.limit or 0):
            warn_of_end(taken, self.limit)


def warn_of_end(taken: int, wanted: int | None) -> None:
    """Warns that there were fewer batches than an epoch needs."""
    warnings.warn(
        f"The data ran out after {taken} of {wanted or 'an unknown number of'} batches. It must yield steps_per_epoch * "
        "epochs batches; a generator can loop forever.",
        stacklevel=3,
    )


class ArrayBatches(Batches):
    """Batches of arrays.

    Args:
        arrays: x, y and sample_weight: nests of tensors or `Rows` with equal numbers of rows, or None.
        batch_size: Rows in a batch; the last one may be shorter.
        shuffle: Whether each epoch has its own order; `"batch"` shuffles whole batches.
        device: See `Batches`.
        limit: See `Batches`.
        restarts: See `Batches`.
    """

    def __init__(
        self,
        arrays: Batch,
        batch_size: int,
        shuffle: Any,
        device: torch.device,
        limit: int | None = None,
        restarts: bool = False,
    ):
        super().__init__(device, limit, restarts)
        leaves = tree.flatten(arrays)
        self.kept = [leaf is not None for leaf in leaves]
        self.nest = arrays
        self.is_plain = not any(tree.is_nested(part) for part in arrays)  # then zip() of the parts makes the batches
        self.tensors: list[Any] = [leaf for leaf in leaves if leaf is not None]
        self.rows = self.tensors[0].shape[0]
        self.batch_size, self.shuffle = batch_size, shuffle
        self.num_batches = -(-self.rows // batch_size)
        row_bytes = max(1, sum(tensor.nbytes for tensor in self.tensors) // self.rows)
        self.computed = any(isinstance(tensor, ComputedRows) for tensor in self.tensors)
        self.chunk = max(1, _chunk_bytes(device) // row_bytes // batch_size) * batch_size
        if any(isinstance(tensor, ComputedRows) and tensor.varies for tensor in self.tensors):
            self.chunk = batch_size  # the shape is that of the batch
        self.resident = _fits(self.tensors, device)
        if self.resident:
            self.tensors = [_brought(tensor, device, self.chunk) for tensor in self.tensors]

    def _pass(self) -> Iterator[Batch]:
        chunks = self._chunks(self._order())
        flat: Iterator[Any] = itertools.chain.from_iterable(map(self._split, chunks))
        return flat if self.is_plain else map(partial(_packed, self.nest), flat)

    def _split(self, chunk: list[Tensor]) -> Iterable[tuple[Any, ...]]:
        """Returns the batches of a chunk, with None for missing parts."""
        columns = iter([tensor.split(self.batch_size) for tensor in chunk])
        number = -(-chunk[0].shape[0] // self.batch_size)
        return zip(*(next(columns) if kept else itertools.repeat(None, number) for kept in self.kept), strict=True)

    def _chunks(self, order: Tensor | None) -> Iterable[list[Tensor]]:
        """Yields the rows in order, several batches at a time."""
        if self.resident:
            if order is None:
                return [self.tensors]
            places = order.to(self.device).split(self.chunk)
            gatherers = [Gatherer(tensor) for tensor in self.tensors]
            return ([gather(chosen) for gather in gatherers] for chosen in places)
        starts = range(0, self.rows, self.chunk)
        parts = (
            slice(start, start + self.chunk) if order is None else order[start : start + self.chunk] for start in starts
        )
        if self.device.type == "cpu":
            if self.computed:  # by Python code on strings, which takes longer than reading
                return read_ahead(partial(self._read_to_host, part) for part in parts)
            return map(self._read_to_host, parts)
        carrier = Carrier(self.device)
        return map(carrier.receive, read_ahead(partial(self._send, carrier, part) for part in parts))

    def _read(self, rows: Any) -> list[Tensor]:
        chunk = [_taken(tensor, rows) for tensor in self.tensors]
        if self.inspect is not None and not all(isinstance(tensor, Tensor) for tensor in self.tensors):
            self.inspect(*tree.refilled(self.nest, chunk))
        return chunk

    def _read_to_host(self, rows: Any) -> list[Tensor]:
        return [tensor.cpu() for tensor in self._read(rows)]

    def _send(self, carrier: Carrier, rows: Any) -> Any:
        return carrier.send(self._read(rows))

    def _order(self) -> Tensor | None:
        if not self.shuffle:
            return None
        if self.shuffle != "batch":
            return torch.randperm(self.rows)
        whole = self.rows // self.batch_size * self.batch_size
        blocks = torch.arange(whole).view(-1, self.batch_size)[torch.randperm(whole // self.batch_size)]
        return torch.cat([blocks.flatten(), torch.arange(whole, self.rows)])


def _packed(nest: Any, leaves: tuple[Any, ...]) -> Batch:
    return tree.pack_sequence_as(nest, list(leaves))


def _taken(tensor: Any, rows: Any) -> Tensor:
    if isinstance(tensor, Rows):
        return tensor.take(rows)
    return tensor[rows] if isinstance(rows, slice) else tensor.index_select(0, rows.to(tensor.device))


def _chunk_bytes(device: torch.device) -> int:
    return HOST_CHUNK_BYTES if device.type == "cpu" else DEVICE_CHUNK_BYTES


def _fits(tensors: list[Any], device: torch.device) -> bool:
    """Returns whether all data is on the device or should be moved there; data in files stays in them."""
    if device.type == "cpu":
        return not any(isinstance(tensor, Rows) for tensor in tensors)
    if any(isinstance(tensor, Rows) and tensor.mapped for tensor in tensors):
        return False
    return sum(tensor.nbytes for tensor in tensors if tensor.device != device) <= config.resident_bytes(device)


def _brought(tensor: Any, device: torch.device, chunk: int) -> Tensor:
    """Moves all data to the device, rows in chunks, so that the host never holds two copies."""
    if isinstance(tensor, Tensor):
        return tensor.to(device)
    whole = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
    for start in range(0, len(tensor), chunk):
        whole[start : start + chunk].copy_(tensor.take(slice(start, start + chunk)))
    return whole
