"""Splitting of data into training and validation parts."""

from __future__ import annotations

import math
from typing import Any

from torch.utils import data as torch_data

from kstyle_torch import tree
from kstyle_torch.data.py_dataset import PyDataset, PyDatasetPart
from kstyle_torch.errors import WrongTypeError


def check_split(validation_split: float) -> None:
    """Raises a ValueError unless it is a share in [0, 1)."""
    is_number = isinstance(validation_split, (int, float))
    if not is_number or not 0 <= validation_split < 1:
        raise (ValueError if is_number else WrongTypeError)(
            f"validation_split must be in [0, 1); got {validation_split!r}."
        )


def split_off(arrays: Any, validation_split: float, num_samples: int) -> tuple[Any, Any]:
    """Splits samples, before any shuffling: the first for training, the last for validation.

    Raises: ValueError: if one of the two would be empty.
    """
    boundary = _boundary(validation_split, num_samples, "samples")

    def part(rows: slice) -> Any:
        return tree.map_structure(lambda leaf: None if leaf is None else leaf[rows], arrays)

    return part(slice(None, boundary)), part(slice(boundary, None))


def split_source(source: Any, validation_split: float) -> tuple[Any, Any]:
    """Splits a Dataset or PyDataset: the first samples or batches for training, the last for validation.

    Raises: ValueError: for data that is not read by index, or if one of the two would be empty.
    """
    if isinstance(source, PyDataset) and source.num_batches is not None:
        number = source.num_batches
        boundary = _boundary(validation_split, number, "batches")
        training = PyDatasetPart(source, range(boundary), hooks=True)
        return training, PyDatasetPart(source, range(boundary, number), hooks=False)
    by_number = isinstance(source, torch_data.Dataset) and not isinstance(source, torch_data.IterableDataset)
    if not by_number or not hasattr(source, "__len__"):
        raise ValueError(
            "validation_split needs arrays or tensors, a map-style Dataset, or a finite PyDataset; x is a "
            f"{type(source).__name__}. Pass validation_data instead."
        )
    if type(source) is torch_data.TensorDataset:
        parts = split_off(source.tensors, validation_split, len(source))
        return torch_data.TensorDataset(*parts[0]), torch_data.TensorDataset(*parts[1])
    number = len(source)
    boundary = _boundary(validation_split, number, "samples")
    return torch_data.Subset(source, range(boundary)), torch_data.Subset(source, range(boundary, number))


def _boundary(validation_split: float, number: int, what: str) -> int:
    boundary = math.floor(number * (1 - validation_split))
    if boundary in (0, number):
        raise ValueError(
            f"validation_split={validation_split} of {number} {what} leaves {boundary} for training and "
            f"{number - boundary} for validation; both need at least one."
        )
    return boundary


def unpack(data: Any) -> tuple[Any, Any, Any]:
    """Converts `x`, `(x,)`, `(x, y)` or `(x, y, sample_weight)` to all three, None for missing parts.

    Raises: ValueError: for a tuple of another length.
    """
    if isinstance(data, list):
        data = tuple(data)
    if not isinstance(data, tuple):
        return data, None, None
    if not 1 <= len(data) <= 3:
        raise ValueError(f"Expected (x,), (x, y) or (x, y, sample_weight); got a tuple of {len(data)}.")
    return (*data, None, None)[:3]


def unpack_x_y_sample_weight(data: Any) -> tuple[Any, Any, Any]:
    """Converts the argument of `train_step` to x, y and sample_weight, None for missing parts.

    Raises: ValueError: for a tuple of another length than 1 to 3.

    Example:
        >>> unpack_x_y_sample_weight(([1.0], [0]))
        ([1.0], [0], None)
    """
    return unpack(data)


def pack_x_y_sample_weight(x: Any, y: Any = None, sample_weight: Any = None) -> Any:
    """Packs the parts that are not None into a tuple, as for `train_step`; x alone is not packed unless it is a list or tuple.

    Example:
        >>> pack_x_y_sample_weight(1, 2), pack_x_y_sample_weight([1, 2])
        ((1, 2), ([1, 2],))
    """
    if y is None:
        return (x,) if isinstance(x, (list, tuple)) else x
    return (x, y) if sample_weight is None else (x, y, sample_weight)
