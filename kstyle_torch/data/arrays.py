"""What a user passes as x, y or sample_weight -> tensors on the host, with clear errors for what cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kstyle_torch import config, tree
from kstyle_torch.initializers import as_dtype


def to_tensors(structure: Any, what: str) -> Any:
    """A nest of arrays, frames, lists of numbers and tensors -> the same nest of tensors.

    Args:
        structure: What the user passed; None stays None.
        what: What it is called, for messages (`"x"`).
    Raises: ValueError: for text, objects, rows of different lengths, or no rows at all.
    """
    return tree.map_structure(lambda leaf: _to_tensor(leaf, what), _as_nest(structure))


def num_samples(structure: Any, what: str = "x") -> int:
    """How many rows the tensors have.

    Raises: ValueError: if they differ, or there is none.
    """
    sizes = [leaf.shape[0] for leaf in tree.flatten(structure) if leaf is not None]
    if len(set(sizes)) > 1:
        raise ValueError(f"All of {what} must have as many samples; got {', '.join(map(str, sizes))}.")
    if sizes[0] == 0:
        raise ValueError(f"{what} has 0 samples.")
    return sizes[0]


def check_lengths(**named: Any) -> None:
    """Raises a ValueError that lists the number of samples of each, if they differ."""
    sizes = {name: [t.shape[0] for t in tree.flatten(nest) if t is not None] for name, nest in named.items()}
    if len({size for listed in sizes.values() for size in listed}) > 1:
        listed = "; ".join(f"{name}: {', '.join(map(str, size))}" for name, size in sizes.items() if size)
        raise ValueError(f"x, y and sample_weight must have as many samples; got {listed}.")


def _as_nest(structure: Any) -> Any:
    """Lists of numbers become arrays; lists and dicts of arrays stay nests."""
    if isinstance(structure, dict):
        return {key: _as_nest(item) for key, item in structure.items()}
    if isinstance(structure, (list, tuple)):
        if not structure:
            raise ValueError("Got an empty list where data was expected.")
        if any(isinstance(leaf, (int, float, bool, str, np.generic)) for leaf in _leaves(structure)):
            return _from_lists(structure)
        return [_as_nest(item) for item in structure]
    return structure


def _leaves(structure: Any) -> Any:
    """The first leaf of each item: enough to tell numbers from arrays, without walking through all."""
    for item in structure:
        while isinstance(item, (list, tuple)) and item:
            item = item[0]
        yield item


def _from_lists(structure: Any) -> np.ndarray:
    try:
        array = np.asarray(structure)
    except ValueError as error:
        raise ValueError(
            "Got a list whose rows have different lengths; bring them to one length, such as with pad_sequences."
        ) from error
    return array.astype(config.floatx()) if array.dtype == np.float64 else array


def _to_tensor(leaf: Any, what: str) -> Tensor | None:
    if leaf is None:
        return None
    if isinstance(leaf, Tensor):
        tensor = leaf.detach()
    elif hasattr(leaf, "to_numpy"):
        tensor = torch.as_tensor(_contiguous(_from_frame(leaf, what)))
    else:
        array = np.asarray(leaf)
        if array.dtype.kind not in "biuf":
            raise ValueError(_not_numbers(array, what))
        tensor = torch.as_tensor(_contiguous(array))
    if tensor.dtype in (torch.float64, torch.float16, torch.bfloat16) and tensor.dtype != as_dtype(None):
        tensor = tensor.to(as_dtype(None))
    if tensor.ndim == 0:
        raise ValueError(f"{what} must have an axis of samples; got a single number.")
    return tensor


def _contiguous(array: np.ndarray) -> np.ndarray:
    """Without negative strides and foreign byte order, and writable: what torch can share memory with."""
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype in (np.uint16, np.uint32, np.uint64):
        array = array.astype(np.int64)
    if not array.flags.writeable or any(stride < 0 for stride in array.strides):
        array = array.copy()
    return array


def _from_frame(frame: Any, what: str) -> np.ndarray:
    """The values of a pandas (or polars) frame or series, numbers and booleans mixed at will."""
    array = np.asarray(frame.to_numpy())
    if array.dtype.kind in "biuf":
        return array
    columns = getattr(frame, "columns", None)
    if columns is None:
        return _numbers_of(array, what)
    text = [str(name) for name in columns if not _is_numeric(np.asarray(frame[name].to_numpy()))]
    if text:
        raise ValueError(
            f"{what} has columns that are not numbers: {', '.join(map(repr, text))}. Encode them (pandas.get_dummies, "
            "LabelEncoder) or leave them out."
        )
    return array.astype(config.floatx())


def _is_numeric(column: np.ndarray) -> bool:
    if column.dtype.kind == "O":
        return all(isinstance(value, (bool, int, float, np.generic)) for value in column)
    return column.dtype.kind in "biuf"


def _numbers_of(array: np.ndarray, what: str) -> np.ndarray:
    if _is_numeric(array.ravel()):
        return array.astype(config.floatx())
    raise ValueError(_not_numbers(array, what))


def _not_numbers(array: np.ndarray, what: str) -> str:
    if array.dtype.kind == "O" and array.size and all(hasattr(item, "__len__") for item in array.flat):
        if not any(isinstance(item, str) for item in array.flat):
            return f"{what} has rows of different lengths; bring them to one length, such as with pad_sequences."
    if array.dtype.kind in "US" or any(isinstance(item, str) for item in array.flat):
        first = next((item for item in array.flat if isinstance(item, (str, bytes))), "")
        return (
            f"{what} contains text, such as {str(first)[:40]!r}; turn it into numbers first (scikit-learn's "
            "LabelEncoder, or a StringLookup layer)."
        )
    if array.dtype.kind == "O" and any(item is None for item in array.flat):
        return f"{what} is None, or contains None, where numbers are expected."
    return f"{what} must hold numbers; got an array of dtype {array.dtype}."


def first_leaf(structure: Any, condition: Callable[[Any], bool] = lambda leaf: leaf is not None) -> Any:
    """The first leaf for which `condition` holds; None if there is none."""
    return next((leaf for leaf in tree.flatten(structure) if condition(leaf)), None)
