"""Datasets of sliding windows of time series."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from kstyle_torch.data.arrays import to_tensors
from kstyle_torch.data.batch_dataset import BatchDataset, check_format


def timeseries_dataset_from_array(
    data: Any,
    targets: Any,
    sequence_length: int,
    sequence_stride: int = 1,
    sampling_rate: int = 1,
    batch_size: int | None = 128,
    shuffle: bool = False,
    seed: int | None = None,
    start_index: int | None = None,
    end_index: int | None = None,
    format: str = "tf",
) -> BatchDataset:
    """Returns batches of sliding windows of a series, for `fit`.

    Args:
        data: The series, (steps, ...).
        targets: `targets[i]` belongs to the window that begins at step i; None for windows without targets.
        sequence_length: Steps in a window.
        sequence_stride: Distance between windows.
        sampling_rate: Distance between steps in a window.
        batch_size: Windows in a batch; None for single windows.
        shuffle: Whether to shuffle the windows.
        seed: Seed of the order.
        start_index: First step that is used; 0 if None.
        end_index: Step after the last one that is used; all if None.
        format: `"tf"` or `"grain"`, as in Keras; batches are torch tensors with both.
    Returns: A dataset of `(windows, targets)`, windows of shape (batch, sequence_length, ...).
    Raises: ValueError: for numbers that leave no window.

    Example:
        >>> dataset = timeseries_dataset_from_array(torch.arange(10), torch.arange(10) + 3, sequence_length=3)
        >>> windows, targets = dataset[0]
        >>> windows[0], targets[0]
        (tensor([0, 1, 2]), tensor(3))
    """
    check_format(format)
    series = to_tensors(data, "data")
    series = series if isinstance(series, torch.Tensor) else series.to("cpu")
    _check(len(series), sequence_stride, sampling_rate, start_index, end_index)
    first, last = start_index or 0, len(series) if end_index is None else end_index
    number = last - first - (sequence_length - 1) * sampling_rate
    wanted = None if targets is None else to_tensors(targets, "targets").to("cpu")[first:last]
    if wanted is not None:
        number = min(number, len(targets))
    if number <= 0:
        raise ValueError(
            f"Steps {first} to {last} hold no window of {sequence_length} steps with sampling_rate={sampling_rate}."
        )
    starts = torch.arange(0, number, sequence_stride)
    within = torch.arange(sequence_length) * sampling_rate
    used = series[first:last]

    def read(numbers: np.ndarray) -> Any:
        begins = starts[torch.from_numpy(numbers)]
        windows = used[begins[:, None] + within]
        batch: tuple[Any, ...] = (windows,) if wanted is None else (windows, wanted[begins])
        batch = batch if batch_size is not None else tuple(part[0] for part in batch)
        return batch if len(batch) > 1 else batch[0]

    return BatchDataset(len(starts), read, batch_size or 1, shuffle, seed, reshuffle=False)


def _check(steps: int, stride: int, rate: int, first: int | None, last: int | None) -> None:
    for name, value in (("sequence_stride", stride), ("sampling_rate", rate)):
        if not 0 < value < steps:
            raise ValueError(f"{name} must be above 0 and below the length of the data, {steps}; got {value}.")
    if first is not None and not 0 <= first < steps:
        raise ValueError(f"start_index must be in [0, {steps}), the length of the data; got {first}.")
    if last is not None and not (first or 0) < last < steps:
        raise ValueError(f"end_index must be above start_index and below {steps}, the length of the data; got {last}.")
