"""Batches from other sources: a DataLoader, a PyDataset, a generator, or any iterable of batches."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import data as torch_data

from kstyle_torch import tree
from kstyle_torch.data.arrays import to_tensor, to_tensors
from kstyle_torch.data.batches import Batch, Batches, warn_of_end
from kstyle_torch.data.labelled import Naming
from kstyle_torch.data.py_dataset import PyDataset, iterate
from kstyle_torch.data.rows import Rows
from kstyle_torch.data.split import unpack
from kstyle_torch.data.transfer import Carrier, carried
from kstyle_torch.draws import random_state, set_random_state

AS_IT_IS = {torch.float32, torch.int64, torch.int32, torch.uint8, torch.bool}
_NOTHING = object()


class StreamBatches(Batches):
    """Batches of `x`, `(x,)`, `(x, y)` or `(x, y, sample_weight)` from an iterable.

    Args:
        source: The iterable. An iterator continues from epoch to epoch; its `on_epoch_begin` and `on_epoch_end` are called.
        device: See `Batches`.
        limit: See `Batches`.
        restarts: See `Batches`.
        shuffle: Whether the batches of a `PyDataset` have a new order in each epoch.
        weigh: Computes sample weights from targets and weights.
        floats: The dtype of floating-point data; `config.floatx()` if None.
        without_text: Converts text in the x of a batch to numbers.
        naming: Splits batches that are dicts into inputs and targets; None if they are inputs.
    """

    def __init__(
        self,
        source: Iterable[Any],
        device: torch.device,
        limit: int | None = None,
        restarts: bool = False,
        shuffle: Any = False,
        weigh: Callable[..., Any] | None = None,
        floats: torch.dtype | None = None,
        without_text: Callable[[Any], Any] | None = None,
        naming: Naming | None = None,
    ):
        super().__init__(device, limit, restarts)
        self.naming = naming
        self.source, self.shuffle, self.weigh, self.floats = source, shuffle, weigh, floats
        self.without_text = without_text
        self.is_iterator = isinstance(source, Iterator) and not isinstance(source, PyDataset)
        self.num_batches = _length(source)
        self._begun = False

    def first(self) -> Batch:
        """Returns the first batch, with which the next epoch will begin, on the host.

        Raises: ValueError: if the data is empty.
        """
        if not self._begun:
            self._begin()
        assert self._running is not None
        item = next(self._running, _NOTHING)
        if item is _NOTHING:
            raise ValueError(f"The data, a {type(self.source).__name__}, yields no batches: it is empty.")
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
        self._given += taken
        if self._left is not None:
            self._left -= taken
        if taken < (self.limit or 1):
            warn_of_end(taken, self.limit)
        if self.limit is None or self._left == 0 or taken < self.limit or self.restarts:
            self._running = None
            for owner in self._counters:  # such as a DistributedSampler, whose order depends on its epoch
                owner.set_epoch(owner.epoch + 1)
        if self.limit is None and not self.is_iterator:
            self.num_batches = taken

    def _begin(self) -> None:
        now = {} if self.is_iterator else random_state(self.generators)
        self._tell("on_epoch_begin")
        if self._running is None or self.restarts:
            if not self.is_iterator:
                self._began, self._given = now, 0
            self._running, self._left = self._items(), self.num_batches
        self._begun = True

    @property
    def _counters(self) -> list[Any]:
        """Returns the samplers and datasets with `set_epoch` and `epoch`, which need the number of the epoch."""
        if not isinstance(self.source, torch_data.DataLoader):
            return []
        batches = self.source.batch_sampler
        owners = (self.source.dataset, self.source.sampler, batches, getattr(batches, "sampler", None))
        found = [owner for owner in owners if hasattr(owner, "set_epoch") and hasattr(owner, "epoch")]
        return list({id(each): each for each in found}.values())

    @property
    def generators(self) -> list[torch.Generator]:
        """Random generators of a DataLoader and its sampler."""
        if not isinstance(self.source, torch_data.DataLoader):
            return []
        found = [getattr(owner, "generator", None) for owner in (self.source, self.source.sampler)]
        return list({id(each): each for each in found if each is not None}.values())

    def position(self) -> dict[str, Any] | None:
        """Returns the position; see `Batches`. It includes the `state_dict` of a dataset that has one."""
        kept = self._owner()
        state: dict[str, Any] = {} if kept is None else {"source": kept.state_dict()}
        if self._counters:
            state["epochs"] = [owner.epoch for owner in self._counters]
        if self._running is None and not self.is_iterator:
            return state or None
        return {**state, "began": self._began, "given": self._given, "begun": self._begun}

    def go_to(self, position: dict[str, Any] | None) -> None:
        """Restores a position; see `Batches`. Skips the batches that were used of an iterator, which must repeat them."""
        position = position or {}
        if "source" in position:
            self._owner().load_state_dict(position["source"])
        for owner, epoch in zip(self._counters, position.get("epochs", ())):
            owner.set_epoch(epoch)
        if not self.is_iterator:
            self._running, self._begun, self._given = None, False, 0
        if "began" not in position:
            return
        if position["began"]:
            set_random_state(position["began"], self.generators)
        self._given = position["given"]
        if self._given:
            self._began = position["began"]
            self._running = self._items() if self._running is None else self._running
            self._left = self.num_batches
            self._skip(self._given)
        elif position["begun"]:
            self.first()

    def _owner(self) -> Any:
        """Returns the dataset if it saves its own state, such as its shuffled order."""
        owner = self.source.dataset if isinstance(self.source, torch_data.DataLoader) else self.source
        return owner if hasattr(owner, "state_dict") and hasattr(owner, "load_state_dict") else None

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
        """Yields the batches on the device; the next one is copied while one is used."""
        nests: list[Any] = []

        def pieces() -> Iterator[list[Tensor]]:
            for batch in batches:
                nests.append(batch)
                yield [leaf for leaf in tree.flatten(batch) if leaf is not None]

        for moved in carried(pieces(), Carrier(self.device)):
            yield tree.refilled(nests.pop(0), moved)

    def _prepared(self, item: Any) -> Batch:
        """Returns a batch as tensors on the host, with sample weights, after checking it."""
        x, y, weight = unpack(item if isinstance(item, (tuple, list)) else self._named(item))
        if self.without_text is not None and x is not None:
            x = self.without_text(x)
        floats = self.floats
        x, y, weight = _tensors(x, "x", floats), _tensors(y, "y", floats), _tensors(weight, "sample_weight", floats)
        if x is not None and 0 in [leaf.shape[0] for leaf in ([x] if type(x) is Tensor else tree.flatten(x))]:
            raise ValueError(f"The data, a {type(self.source).__name__}, yields a batch of 0 samples; remove it.")
        if self.weigh is not None:
            weight = self.weigh(y, weight)
        if self.inspect is not None:
            self.inspect(x, y, weight)
        if self.device.type == "cpu" and type(x) is Tensor and x.device.type != "cpu":
            x, y, weight = tree.map_structure(lambda leaf: None if leaf is None else leaf.cpu(), (x, y, weight))
        return x, y, weight

    def _named(self, item: Any) -> tuple[Any, ...]:
        """Returns a batch that is not a tuple as x, or as x and y."""
        if not isinstance(item, Mapping):
            return (item,)
        return (dict(item),) if self.naming is None else self.naming.split(item)


def _tensors(part: Any, what: str, floats: torch.dtype | None) -> Any:
    """Returns x, y or weights of a batch as tensors, with fast paths for the common cases."""
    if part is None or (type(part) is Tensor and part.dtype in AS_IT_IS and part.ndim and not part.requires_grad):
        return part
    if isinstance(part, (Tensor, np.ndarray)):
        return _read(to_tensor(part, what, floats))
    return tree.map_structure(_read, to_tensors(part, what, floats))


def _read(leaf: Any) -> Any:
    return leaf.take(slice(None)) if isinstance(leaf, Rows) else leaf


def _length(source: Any) -> int | None:
    """Returns the number of batches; None if unknown."""
    if isinstance(source, PyDataset):
        return source.num_batches
    try:
        return len(source)
    except (TypeError, NotImplementedError):  # TypeError also from a __len__ that does not know
        return None
