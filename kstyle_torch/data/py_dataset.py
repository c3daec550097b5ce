"""User-defined datasets of batches, and the workers that read them ahead."""

from __future__ import annotations

import itertools
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch.utils import data as torch_data

from kstyle_torch._torch import stop_workers


class PyDataset:
    """A dataset whose items are whole batches: override `__getitem__` and `__len__`.

    An infinite dataset defines a property `num_batches` that is None instead of `__len__`. `on_epoch_begin` and
    `on_epoch_end` may be overridden too, to change the data between epochs.

    Args:
        workers: Number of threads or processes that read ahead; with 0 or 1 and no processes, `fit` reads the batches itself.
        use_multiprocessing: Whether the workers are processes, each with a copy of the dataset.
        max_queue_size: Largest number of batches that are read ahead.
    Raises: ValueError: if the number of workers or batches is not a valid integer.

    Example:
        >>> class Squares(PyDataset):
        ...     def __len__(self):
        ...         return 3
        ...     def __getitem__(self, index):
        ...         x = torch.arange(4.0)[:, None] + 4 * index
        ...         return x, x**2
        >>> [x.shape for x, y in Squares()]
        [torch.Size([4, 1]), torch.Size([4, 1]), torch.Size([4, 1])]
    """

    keeps_order = False  # whether `fit(shuffle=True)` keeps the order of the batches

    def __init__(self, workers: int = 1, use_multiprocessing: bool = False, max_queue_size: int = 10):
        for name, value, least in (("workers", workers, 0), ("max_queue_size", max_queue_size, 1)):
            if not hasattr(value, "__index__") or value < least:
                raise ValueError(f"{type(self).__name__}: {name} must be an int of at least {least}; got {value!r}.")
        self._workers, self._use_multiprocessing, self._max_queue_size = workers, use_multiprocessing, max_queue_size

    def _setting(self, name: str) -> Any:
        if not hasattr(self, name):
            warnings.warn(
                f"{type(self).__name__}.__init__() does not call super().__init__(**kwargs), which takes workers, "
                "use_multiprocessing and max_queue_size; their defaults are used.",
                stacklevel=3,
            )
            for setting, usual in (("_workers", 1), ("_use_multiprocessing", False), ("_max_queue_size", 10)):
                if not hasattr(self, setting):
                    setattr(self, setting, usual)
        return getattr(self, name)

    @property
    def workers(self) -> int:
        """The number of threads or processes that read ahead."""
        return self._setting("_workers")

    @workers.setter
    def workers(self, value: int) -> None:
        self._workers = value

    @property
    def use_multiprocessing(self) -> bool:
        """True if they are processes."""
        return self._setting("_use_multiprocessing")

    @use_multiprocessing.setter
    def use_multiprocessing(self, value: bool) -> None:
        self._use_multiprocessing = value

    @property
    def max_queue_size(self) -> int:
        """The largest number of batches that are read ahead."""
        return self._setting("_max_queue_size")

    @max_queue_size.setter
    def max_queue_size(self, value: int) -> None:
        self._max_queue_size = value

    def __getitem__(self, index: int) -> Any:
        """Returns a batch: `(x,)`, `(x, y)` or `(x, y, sample_weight)`, or x as an array or dict."""
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__(self, index), which returns a batch.")

    @property
    def num_batches(self) -> int | None:
        """The number of batches; None if it is infinite."""
        if hasattr(self, "__len__"):
            return len(self)
        raise NotImplementedError(f"{type(self).__name__} must define __len__(self) or the property num_batches.")

    def on_epoch_begin(self) -> None:
        """Runs before an epoch."""

    def on_epoch_end(self) -> None:
        """Runs after an epoch."""

    def __iter__(self) -> Iterator[Any]:
        number = self.num_batches
        for index in itertools.count() if number is None else range(number):
            yield self[index]


class PyDatasetPart(PyDataset):
    """Some batches of a dataset, read by its workers.

    Args:
        dataset: The whole dataset.
        batches: Indices of the batches.
        hooks: Whether the epoch hooks of the dataset are called.
    """

    def __init__(self, dataset: PyDataset, batches: range, hooks: bool):
        super().__init__(dataset.workers, dataset.use_multiprocessing, dataset.max_queue_size)
        self.dataset, self.batches, self.hooks = dataset, batches, hooks

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[self.batches[index]]

    def on_epoch_begin(self) -> None:
        if self.hooks:
            self.dataset.on_epoch_begin()

    def on_epoch_end(self) -> None:
        if self.hooks:
            self.dataset.on_epoch_end()


def iterate(dataset: PyDataset, shuffle: Any) -> Iterator[Any]:
    """Returns the batches of an epoch, read ahead by the dataset's workers; shuffled if requested and the dataset is finite."""
    number = dataset.num_batches
    indices: Iterable[int] = itertools.count() if number is None else range(number)
    if shuffle and number is not None and not dataset.keeps_order:
        indices = torch.randperm(number).tolist()
    workers = dataset.workers
    if dataset.use_multiprocessing and workers > 0:
        return _in_processes(dataset, indices, workers)
    if workers > 1:
        return _threaded(dataset, iter(indices), workers)
    return map(dataset.__getitem__, indices)


def _threaded(dataset: PyDataset, indices: Iterator[int], workers: int) -> Iterator[Any]:
    pool = ThreadPoolExecutor(workers, thread_name_prefix=type(dataset).__name__)
    try:
        ahead = itertools.islice(indices, dataset.max_queue_size)
        waiting = deque(pool.submit(dataset.__getitem__, index) for index in ahead)
        while waiting:
            batch = waiting.popleft().result()
            waiting.extend(pool.submit(dataset.__getitem__, index) for index in itertools.islice(indices, 1))
            yield batch
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _in_processes(dataset: PyDataset, indices: Iterable[int], workers: int) -> Iterator[Any]:
    """Yields batches from torch's worker processes: in order, through shared memory, with a seed for each worker."""
    ahead = max(1, dataset.max_queue_size // workers)
    loader = torch_data.DataLoader(
        _Items(dataset), batch_size=None, sampler=indices, num_workers=workers, prefetch_factor=ahead
    )
    batches: Any = iter(loader)
    try:
        yield from batches
    finally:
        stop_workers(batches)  # the garbage collector would take 5 s to do it after an error


class _Items(torch_data.Dataset[Any]):
    """Dataset without `__len__` for torch's DataLoader, whose sampler knows the number of batches."""

    def __init__(self, dataset: PyDataset):
        self.dataset = dataset

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index]
