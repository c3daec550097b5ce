"""Batches that something else makes: a DataLoader, a PyDataset, a generator, any iterable of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kstyle_torch import tree
from kstyle_torch.data.arrays import to_tensor, to_tensors
from kstyle_torch.data.batches import Batch, Batches, warn_of_end
from kstyle_torch.data.py_dataset import PyDataset, iterate
from kstyle_torch.data.rows import Rows
from kstyle_torch.data.split import unpack
from kstyle_torch.data.transfer import Carrier, carried

AS_IT_IS = {torch.float32, torch.int64, torch.int32, torch.uint8, torch.bool}
_NOTHING = object()


class StreamBatches(Batches):
    """Batches of `x`, `(x,)`, `(x, y)` or `(x, y, sample_weight)` from an iterable.

    Args:
        source: The iterable. An iterator goes on from epoch to epoch; what has `on_epoch_begin` and `on_epoch_end` is told.
        device: See `Batches`.
        limit: See `Batches`.
        restarts: See `Batches`.
        shuffle: Whether the batches of a `PyDataset` have a new order in each epoch.
        weigh: Makes sample weights of targets and weights.
    """

    def __init__(
        self,
        source: Iterable[Any],
        device: torch.device,
        limit: int | None = None,
        restarts: bool = False,
        shuffle: Any = False,
        weigh: Callable[..., Any] | None = None,
    ):
        super().__init__(device, limit, restarts)
        self.source, self.shuffle, self.weigh = source, shuffle, weigh
        self.is_iterator = isinstance(source, Iterator)
        self.num_batches = _length(source)
        self._begun = False

    def first(self) -> Batch:
        """The first batch, with which the next epoch will begin, on the host.

        Raises: ValueError: if there is none.
        """
        if not self._begun:
            self._begin()
        assert self._running is not None
        item = next(self._running, _NOTHING)
        if item is _NOTHING:
            raise ValueError(f"The data, a {type(self.source).__name__}, gives no batches: it is empty.")
        self._running = itertools.chain([item], self._running)
        return self._prepared(item)

    def epoch(self) -> Iterator[Batch]:
        if not self._begun:
            self._begin()
        assert self._running is not None
        self._begun = False
        taken = 0
        for batch in self._on_device(itertools.islice(self._running, self.limit)):
            taken += 1
            yield batch
        self._tell("on_epoch_end")
        if self._left is not None:
            self._left -= taken
        if taken < (self.limit or 1):
            warn_of_end(taken, self.limit)
        if self.limit is None or self._left == 0 or taken < self.limit:
            self._running = None
        if self.limit is None and not self.is_iterator:
            self.num_batches = taken

    def _begin(self) -> None:
        self._tell("on_epoch_begin")
        if self._running is None or self.restarts:
            self._running, self._left = self._items(), self.num_batches
        self._begun = True

    def _items(self) -> Iterator[Any]:
        if self.is_iterator:
            return self.source  # type: ignore[return-value]
        return iterate(self.source, self.shuffle) if isinstance(self.source, PyDataset) else iter(self.source)

    def _tell(self, hook: str) -> None:
        if not self.is_iterator and hasattr(self.source, hook):
            getattr(self.source, hook)()

    def _on_device(self, items: Iterator[Any]) -> Iterator[Batch]:
        batches = map(self._prepared, items)
        return batches if self.device.type == "cpu" else self._carried(batches)

    def _carried(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches on the device; the next one is on its way while one is used."""
        nests: list[Any] = []

        def pieces() -> Iterator[list[Tensor]]:
            for batch in batches:
                nests.append(batch)
                yield [leaf for leaf in tree.flatten(batch) if leaf is not None]

        for moved in carried(pieces(), Carrier(self.device)):
            leaves = iter(moved)
            yield tree.map_structure(lambda leaf, leaves=leaves: None if leaf is None else next(leaves), nests.pop(0))

    def _prepared(self, item: Any) -> Batch:
        """A batch as tensors on the host, weighed and looked at."""
        x, y, weight = unpack(item if isinstance(item, (tuple, list)) else (item,))
        x, y, weight = _tensors(x, "x"), _tensors(y, "y"), _tensors(weight, "sample_weight")
        if self.weigh is not None:
            weight = self.weigh(y, weight)
        if self.inspect is not None:
            self.inspect(x, y, weight)
        if self.device.type == "cpu" and type(x) is Tensor and x.device.type != "cpu":
            x, y, weight = tree.map_structure(lambda leaf: None if leaf is None else leaf.cpu(), (x, y, weight))
        return x, y, weight


def _tensors(part: Any, what: str) -> Any:
    """x, y or weights of a batch, as tensors; the common cases first."""
    if part is None or (type(part) is Tensor and part.dtype in AS_IT_IS and part.ndim and not part.requires_grad):
        return part
    if isinstance(part, (Tensor, np.ndarray)):
        return _read(to_tensor(part, what))
    return tree.map_structure(_read, to_tensors(part, what))


def _read(leaf: Any) -> Any:
    return leaf.take(slice(None)) if isinstance(leaf, Rows) else leaf


def _length(source: Any) -> int | None:
    """How many batches it has, if it says so."""
    if isinstance(source, PyDataset):
        return source.num_batches
    try:
        return len(source)
    except (TypeError, NotImplementedError):  # also of what has __len__, and does not know
        return None
