"""Splitting of datasets, such as for training and testing."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import data as torch_data

from kstyle_torch import tree
from kstyle_torch.data.batch_dataset import BatchDataset
from kstyle_torch.data.py_dataset import PyDataset

Size = int | float | None


def split_dataset(
    dataset: Any,
    left_size: Size = None,
    right_size: Size = None,
    shuffle: bool = False,
    seed: int | None = None,
    preferred_backend: str | None = None,
) -> tuple[Any, Any]:
    """Splits a dataset into a left and a right part.

    Args:
        dataset: An array or tensor; a list or tuple of them with equal lengths; a torch `Dataset` with a length; or a
            dataset of batches, such as a result of `image_dataset_from_directory` or a `PyDataset`.
        left_size: Number of samples of the left part, or its share from 0 to 1; the rest if None.
        right_size: Likewise for the right part. If both are given, samples between them may be unused.
        shuffle: Whether the samples are in random order. (Keras on torch shuffles with False too.)
        seed: Seed of that order.
        preferred_backend: `"torch"` or None.
    Returns: Two torch `Dataset`s of tuples; for a dataset of batches two of batches, in a fixed order.
    Raises: ValueError: for sizes that are too large or leave a part empty. TypeError: for sizes that are not numbers,
        and other kinds of datasets.

    Example:
        >>> left, right = split_dataset(np.arange(10), left_size=0.8)
        >>> len(left), right[1]
        (8, (tensor(9),))
    """
    if preferred_backend not in (None, "torch"):
        raise ValueError(f"preferred_backend must be 'torch' or None; got {preferred_backend!r}.")
    dataset = _standardized(dataset)
    total = dataset.num_samples if isinstance(dataset, BatchDataset) else len(dataset)
    left, right = _sizes(left_size, right_size, total)
    order = torch.arange(total)
    if shuffle:
        generator = torch.Generator()
        generator.seed() if seed is None else generator.manual_seed(seed)
        order = torch.randperm(total, generator=generator)
    return _part(dataset, order[:left]), _part(dataset, order[total - right :])


def _standardized(dataset: Any) -> Any:
    """Returns a dataset whose samples can be read by index: of torch, or a `BatchDataset`."""
    if isinstance(dataset, (np.ndarray, Tensor)):
        return torch_data.TensorDataset(torch.as_tensor(dataset))
    if isinstance(dataset, (list, tuple)):
        if wrong := [type(each).__name__ for each in dataset if not isinstance(each, (np.ndarray, Tensor))]:
            raise ValueError(f"split_dataset() needs a {type(dataset).__name__} of arrays or tensors; got {wrong[0]}.")
        lengths = {len(each) for each in dataset}
        if len(lengths) != 1:
            raise ValueError(f"split_dataset() needs arrays of equal length; got the lengths {sorted(lengths)}.")
        return torch_data.TensorDataset(*map(torch.as_tensor, dataset))
    if isinstance(dataset, BatchDataset):
        return dataset
    if isinstance(dataset, PyDataset) and dataset.num_batches is not None:
        return _in_memory(dataset)
    if isinstance(dataset, torch_data.Dataset) and hasattr(dataset, "__len__"):
        return dataset
    raise TypeError(
        "split_dataset() needs an array, a list or tuple of arrays, or a Dataset of known length; "
        f"got {type(dataset).__name__}."
    )


def _in_memory(dataset: PyDataset) -> BatchDataset:
    """Reads all batches of a dataset whose samples cannot be read individually."""
    batches = [*dataset]
    if not batches:
        raise ValueError("split_dataset() got a dataset without batches.")
    columns = tree.map_structure(lambda *parts: torch.cat([*map(torch.as_tensor, parts)]), *batches)
    size, total = (len(tree.flatten(each)[0]) for each in (batches[0], columns))

    def read(places: np.ndarray) -> Any:
        return tree.map_structure(lambda column: column[torch.from_numpy(places)], columns)

    return BatchDataset(total, read, size, workers=dataset.workers, max_queue_size=dataset.max_queue_size)


def _part(dataset: Any, places: Tensor) -> Any:
    """Returns the samples of a dataset at some indices, in their order."""
    if not isinstance(dataset, BatchDataset):
        return torch_data.Subset(dataset, places.tolist())
    numbers_of = dataset.order[places.numpy()]
    part = BatchDataset(
        len(numbers_of),
        lambda chosen: dataset.read(numbers_of[chosen]),
        dataset.batch_size,
        workers=dataset.workers,
        use_multiprocessing=dataset.use_multiprocessing,
        max_queue_size=dataset.max_queue_size,
    )
    if hasattr(dataset, "file_paths"):
        part.file_paths = [dataset.file_paths[number] for number in numbers_of]  # type: ignore[attr-defined]
        part.class_names = dataset.class_names  # type: ignore[attr-defined]
    return part


def _sizes(left: Size, right: Size, total: int) -> tuple[int, int]:
    """Returns both sizes in samples."""
    if left is None and right is None:
        raise ValueError("split_dataset() needs left_size or right_size; got None for both.")
    sizes = [_samples(name, size, total) for name, size in (("left_size", left), ("right_size", right))]
    given = [total - sum(filter(None, sizes)) if size is None else size for size in sizes]
    if min(given) < 1 or sum(given) > total:
        raise ValueError(
            f"split_dataset() cannot split {total} samples into left_size={left!r} and right_size={right!r}: "
            f"that is {given[0]} and {given[1]} samples."
        )
    return given[0], given[1]


def _samples(name: str, size: Size, total: int) -> int | None:
    if size is None:
        return None
    if isinstance(size, bool) or not isinstance(size, numbers.Real):
        raise TypeError(f"{name} must be an int, a float or None; got {size!r}.")
    is_count = isinstance(size, numbers.Integral)
    if not 0 < size < (total if is_count else 1):
        limit = f"{total}, the number of samples" if is_count else "1"
        raise ValueError(f"{name} must be above 0 and below {limit}; got {size!r}.")
    return int(size) if is_count else round(size * total)
