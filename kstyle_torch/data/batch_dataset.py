"""Datasets that read batches on demand, with the methods map, take, skip and cache."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from kstyle_torch.data.py_dataset import PyDataset

FORMATS = ("tf", "grain")


def check_format(value: str) -> None:
    """Checks the `format` of Keras' functions that make datasets, which has no effect here.

    Raises: ValueError: for a format that Keras does not have.
    """
    if value not in FORMATS:
        raise ValueError(f"format must be {' or '.join(map(repr, FORMATS))}; got {value!r}. Both give torch tensors.")


class Chainable(PyDataset):
    """A `PyDataset` with the methods that programs call on the datasets of TensorFlow; `fit` keeps its order."""

    keeps_order = True  # `fit(shuffle=True)` does not change it

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} must define __len__(self).")

    def map(self, function: Callable[..., Any], **kwargs: Any) -> Chainable:
        """Returns a dataset of `function(*batch)`.

        Args:
            function: Called with x, or x and y.
            kwargs: Accepted, such as `num_parallel_calls`; the workers of the dataset call the function.
        """
        return Derived(self, lambda batch: function(*batch) if isinstance(batch, tuple) else function(batch))

    def take(self, count: int) -> Chainable:
        """Returns the first `count` batches; all if it is -1."""
        return Derived(self, batches=range(len(self)) if count == -1 else range(min(count, len(self))))

    def skip(self, count: int) -> Chainable:
        """Returns all but the first `count` batches."""
        return Derived(self, batches=range(min(count, len(self)), len(self)))

    def cache(self) -> Chainable:
        """Returns the same batches, each read only once and then kept in memory."""
        return Cached(self)

    def prefetch(self, buffer_size: Any = None) -> Chainable:
        """Returns the dataset itself, whose workers already read ahead."""
        return self

    def cardinality(self) -> int:
        """Returns the number of batches."""
        return len(self)


class BatchDataset(Chainable):
    """Dataset of samples that are read by index, one batch at a time.

    Args:
        num_samples: Number of samples.
        read: Returns the batch for an array of indices.
        batch_size: Samples in a batch; the last one may be shorter.
        shuffle: Whether samples are in random order.
        seed: Seed of that order.
        reshuffle: Whether each epoch has a new order.
        kwargs: Arguments of `PyDataset`.
    """

    def __init__(
        self,
        num_samples: int,
        read: Callable[[np.ndarray], Any],
        batch_size: int,
        shuffle: bool = False,
        seed: int | None = None,
        reshuffle: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_samples, self.read, self.batch_size = num_samples, read, batch_size
        self.shuffle, self.reshuffle = shuffle, reshuffle
        self.random = np.random.default_rng(np.random.randint(2**31) if seed is None and shuffle else seed)
        self.order = self.random.permutation(num_samples) if shuffle else np.arange(num_samples)

    def __len__(self) -> int:
        return -(-self.num_samples // self.batch_size)

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(f"There are {len(self)} batches; got the index {index}.")
        return self.read(self.order[index * self.batch_size : (index + 1) * self.batch_size])

    def on_epoch_end(self) -> None:
        if self.shuffle and self.reshuffle:
            self.order = self.random.permutation(self.num_samples)


class Derived(Chainable):
    """Some batches of a dataset, transformed by a function.

    Args:
        base: The dataset.
        function: Transforms a batch; None for no change.
        batches: Indices of the batches; all if None.
    """

    def __init__(self, base: PyDataset, function: Callable[[Any], Any] | None = None, batches: range | None = None):
        super().__init__(base.workers, base.use_multiprocessing, base.max_queue_size)
        self.base, self.function, self.batches = base, function, batches

    def __getattr__(self, name: str) -> Any:  # for attributes such as class_names
        if name.startswith("_") or "base" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.base, name)

    def __len__(self) -> int:
        return len(self.base) if self.batches is None else len(self.batches)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        batch = self.base[index if self.batches is None else self.batches[index]]
        return batch if self.function is None else self.function(batch)

    def on_epoch_begin(self) -> None:
        self.base.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self.base.on_epoch_end()


class Cached(Derived):
    """Cache of the batches of a dataset; shuffles their order if the dataset shuffles its samples."""

    def __init__(self, base: PyDataset):
        super().__init__(base)
        self.kept: dict[int, Any] = {}
        self.order: Any = None
        self.lock = threading.Lock()

    def __getitem__(self, index: int) -> Any:
        place = index if self.order is None else int(self.order[index])
        if place not in self.kept:
            batch = self.base[place]
            with self.lock:
                self.kept.setdefault(place, batch)
        return self.kept[place]

    def on_epoch_end(self) -> None:
        if getattr(self.base, "shuffle", False):
            self.order = np.random.permutation(len(self))
