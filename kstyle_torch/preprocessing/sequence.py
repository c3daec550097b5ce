"""Preprocessing of sequences in older Keras programs."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from kstyle_torch.data.py_dataset import PyDataset
from kstyle_torch.utils.sequences import pad_sequences

__all__ = ["TimeseriesGenerator", "make_sampling_table", "pad_sequences", "skipgrams"]


class TimeseriesGenerator(PyDataset):
    """Batches of windows, each with the target of the step after it; `utils.timeseries_dataset_from_array` is newer.

    Args:
        data: The series, (steps, ...).
        targets: Targets, as many as steps.
        length: Number of steps that a window covers.
        sampling_rate: Distance between steps in a window.
        stride: Distance between windows.
        start_index: First step that is used.
        end_index: Last step that is used; all if None.
        shuffle: Whether windows are drawn randomly.
        reverse: Whether windows are in reverse order.
        batch_size: Windows in a batch.
        kwargs: Arguments of `PyDataset`.
    Raises: ValueError: if the lengths differ, or no window is left.
    """

    keeps_order = True

    def __init__(
        self,
        data: Any,
        targets: Any,
        length: int,
        sampling_rate: int = 1,
        stride: int = 1,
        start_index: int = 0,
        end_index: int | None = None,
        shuffle: bool = False,
        reverse: bool = False,
        batch_size: int = 128,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if len(data) != len(targets):
            raise ValueError(
                f"data and targets must have the same number of steps; got {len(data)} and {len(targets)}."
            )
        self.data, self.targets, self.length = data, targets, length
        self.sampling_rate, self.stride, self.batch_size = sampling_rate, stride, batch_size
        self.start_index = start_index + length
        self.end_index = len(data) - 1 if end_index is None else end_index
        self.shuffle, self.reverse = shuffle, reverse
        if self.start_index > self.end_index:
            raise ValueError(
                f"start_index + length = {self.start_index} is above end_index = {self.end_index}: no window is left."
            )

    def __len__(self) -> int:
        return (self.end_index - self.start_index) // (self.batch_size * self.stride) + 1

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if not 0 <= index < len(self):
            raise IndexError(f"There are {len(self)} batches; got the number {index}.")
        first = self.start_index + index * self.batch_size * self.stride
        last = min(first + self.batch_size * self.stride, self.end_index + 1)
        rows = np.arange(first, last, self.stride)
        if self.shuffle:
            rows = np.random.randint(self.start_index, self.end_index + 1, size=self.batch_size)
        windows = np.array([self.data[row - self.length : row : self.sampling_rate] for row in rows])
        return windows[:, ::-1] if self.reverse else windows, np.array([self.targets[row] for row in rows])


def make_sampling_table(size: int, sampling_factor: float = 1e-05) -> np.ndarray:
    """Returns the sampling probability of each word rank for `skipgrams`, which is lower for frequent words.

    Args:
        size: Number of words.
        sampling_factor: Frequency above which words are subsampled, as in word2vec.
    Source: Mikolov et al. 2013; frequencies by Zipf's law.

    Example:
        >>> make_sampling_table(3).round(4)
        array([0.0032, 0.0032, 0.0055])
    """
    rank = np.maximum(np.arange(size), 1)
    share = sampling_factor * (rank * (np.log(rank) + 0.577) + 0.5 - 1 / (12 * rank))  # factor / frequency
    return np.minimum(1.0, np.sqrt(share))


def skipgrams(
    sequence: Any,
    vocabulary_size: int,
    window_size: int = 4,
    negative_samples: float = 1.0,
    shuffle: bool = True,
    categorical: bool = False,
    sampling_table: Any = None,
    seed: int | None = None,
) -> tuple[list[list[int]], list[Any]]:
    """Returns pairs of neighboring words, label 1, and pairs of a word with a random one, label 0.

    Args:
        sequence: The text as word indices; 0 is padding.
        vocabulary_size: Upper bound, exclusive, of random words.
        window_size: Largest distance of neighbors.
        negative_samples: Number of random pairs for each pair of neighbors.
        shuffle: Whether to shuffle the pairs.
        categorical: Whether labels are [0, 1] and [1, 0].
        sampling_table: See `make_sampling_table`.
        seed: Seed of the order.
    Source: Mikolov et al. 2013.

    Example:
        >>> skipgrams([1, 2, 0, 3], 4, window_size=2, negative_samples=0, shuffle=False)
        ([[1, 2], [2, 1], [2, 3], [3, 2]], [1, 1, 1, 1])
    """
    positive, negative = ([0, 1], [1, 0]) if categorical else (1, 0)
    couples: list[list[int]] = []
    for place, word in enumerate(sequence):
        if not word or (sampling_table is not None and sampling_table[word] < random.random()):
            continue
        near = range(max(0, place - window_size), min(len(sequence), place + window_size + 1))
        couples += [[word, sequence[other]] for other in near if other != place and sequence[other]]
    labels: list[Any] = [positive] * len(couples)
    words = [word for word, _ in couples]
    random.shuffle(words)
    drawn = range(int(len(couples) * negative_samples))
    couples += [[words[number % len(words)], random.randint(1, vocabulary_size - 1)] for number in drawn]
    labels += [negative] * len(drawn)
    if shuffle:
        order = list(range(len(couples)))
        random.Random(random.random() if seed is None else seed).shuffle(order)
        couples, labels = [couples[place] for place in order], [labels[place] for place in order]
    return couples, labels
