"""Conversion of the user's x, y and sample_weight to tensors on the host, with clear errors for unusable data."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from kstyle_torch import config, tree
from kstyle_torch.arrays import from_array
from kstyle_torch.data.frames import NUMERIC, frame_to_array, is_frame, numbers_in
from kstyle_torch.data.rows import WHOLE_BYTES, Rows, as_tensor, is_lazy, is_mapped, torch_dtype
from kstyle_torch.initializers import as_dtype

# dtypes that NumPy and torch share, so that a tensor can share an array's memory
SAME_IN_TORCH = {
    np.dtype(name): getattr(torch, name)
    for name in ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
}


def to_tensors(structure: Any, what: str, floats: torch.dtype | None = None) -> Any:
    """Converts a nest of arrays, frames, lists of numbers and tensors to the same nest of tensors.

    Data that is in a file, sparse, or large and in need of conversion becomes `Rows`, which are read on demand.

    Args:
        structure: The user's data; None stays None.
        what: Its name for messages (`"x"`).
        floats: The dtype of floating-point data; `config.floatx()` if None.
    Raises: ValueError: for text, objects, rows of different lengths, or data without rows.
    """
    return tree.map_structure(lambda leaf: to_tensor(leaf, what, floats), _as_nest(structure, what, floats))


def is_array(data: Any) -> bool:
    """Returns whether it is a single array, tensor, frame or matrix of any library."""
    known = isinstance(data, (Tensor, Rows, np.ndarray, np.generic)) or is_frame(data)
    return known or any(hasattr(data, name) for name in ("__array__", "toarray", "numpy"))


def num_samples(structure: Any, what: str = "x") -> int:
    """Returns the number of rows of the tensors.

    Raises: ValueError: if the numbers differ, or there are no rows.
    """
    sizes = [leaf.shape[0] for leaf in tree.flatten(structure) if leaf is not None]
    if len(set(sizes)) > 1:
        raise ValueError(
            f"All arrays in {what} must have the same number of samples; got {', '.join(map(str, sizes))}."
        )
    if not sizes or sizes[0] == 0:
        raise ValueError(f"{what} has 0 samples.")
    return sizes[0]


def check_lengths(**named: Any) -> None:
    """Raises a ValueError that lists the number of samples of each, if they differ."""
    sizes = {name: [t.shape[0] for t in tree.flatten(nest) if t is not None] for name, nest in named.items()}
    if len({size for listed in sizes.values() for size in listed}) > 1:
        listed = "; ".join(f"{name}: {', '.join(map(str, size))}" for name, size in sizes.items() if size)
        raise ValueError(f"x, y and sample_weight must have the same number of samples; got {listed}.")


def _as_nest(structure: Any, what: str, floats: torch.dtype | None) -> Any:
    """Converts lists of numbers to arrays; lists and dicts of arrays stay nests."""
    if isinstance(structure, dict):
        if not structure:
            raise ValueError(f"{what} is an empty dict; it must hold arrays.")
        return {key: _as_nest(item, what, floats) for key, item in structure.items()}
    if isinstance(structure, (list, tuple)):
        if not structure:
            raise ValueError(f"{what} is an empty list where data was expected: it has 0 samples.")
        if any(_is_number(leaf) for leaf in _leaves(structure)):
            return _from_lists(structure, what, floats)
        return [_as_nest(item, what, floats) for item in structure]
    return structure


def _is_number(leaf: Any) -> bool:
    return isinstance(leaf, (int, float, bool, str, np.generic)) or (isinstance(leaf, Tensor) and leaf.dim() == 0)


def _leaves(structure: Any) -> Any:
    """Yields the first leaf of each item, which tells numbers from arrays without a walk over all leaves."""
    for item in structure:
        while isinstance(item, (list, tuple)) and item:
            item = item[0]
        yield item


def _from_lists(structure: Any, what: str, floats: torch.dtype | None) -> np.ndarray:
    try:
        array = np.asarray(structure)
    except ValueError as error:
        raise ValueError(
            f"{what} is a list whose rows have different lengths; make them equal, for example with pad_sequences."
        ) from error
    narrow = array.dtype == np.float64 and floats is None
    return array.astype(config.floatx()) if narrow else array


def to_tensor(leaf: Any, what: str, floats: torch.dtype | None = None) -> Any:
    """Returns a single array as a tensor, or as `Rows`; see `to_tensors`."""
    if leaf is None or isinstance(leaf, Rows):
        return leaf
    tensor: Tensor | Rows
    if isinstance(leaf, Tensor):
        tensor = _usable(leaf, what, floats)
    elif is_lazy(leaf):
        tensor = Rows(_checked(leaf, what), floats=floats)
    elif hasattr(leaf, "toarray"):
        tensor = _from_sparse(leaf, what, floats)
    else:
        tensor = _from_array(frame_to_array(leaf, what) if is_frame(leaf) else _as_array(leaf), what, floats)
    if len(tensor.shape) == 0:
        raise ValueError(f"{what} must have an axis of samples; got a single number.")
    return tensor


def _as_array(leaf: Any) -> np.ndarray:
    if hasattr(leaf, "numpy") and not hasattr(leaf, "__array__"):
        leaf = leaf.numpy()
    return np.asarray(leaf)


def _usable(tensor: Tensor, what: str, floats: torch.dtype | None) -> Tensor:
    """Returns a dense tensor without gradient, floats cast to one dtype."""
    tensor = tensor.detach()
    if tensor.is_complex():
        raise ValueError(f"{what} must hold real numbers; got a tensor of dtype {tensor.dtype}.")
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    return tensor.to(floats or as_dtype(None)) if tensor.is_floating_point() else tensor


def _from_sparse(matrix: Any, what: str, floats: torch.dtype | None) -> Tensor | Rows:
    """Converts a scipy matrix: small ones at once, others one batch at a time."""
    rows = Rows(_checked(matrix.tocsr() if hasattr(matrix, "tocsr") else matrix, what), floats=floats)
    return rows if rows.nbytes > WHOLE_BYTES else rows.to("cpu")


def _from_array(array: np.ndarray, what: str, floats: torch.dtype | None) -> Tensor | Rows:
    if array.dtype.kind == "O" and array.ndim == 1:
        array = _from_object_rows(array)
    if array.dtype.kind == "V" and array.dtype.name == "bfloat16":  # from ml_dtypes
        return _usable(from_array(array), what, floats)
    _checked(array, what)
    if is_mapped(array):
        return Rows(array, floats=floats)
    shared = array.flags.writeable and array.dtype.isnative and all(stride >= 0 for stride in array.strides)
    if shared and torch_dtype(array.dtype, floats) is SAME_IN_TORCH.get(array.dtype):
        return torch.from_numpy(array)
    is_large = array.ndim and array.nbytes > WHOLE_BYTES
    return Rows(array, floats=floats) if is_large else as_tensor(array, floats=floats)


def _from_object_rows(array: np.ndarray) -> np.ndarray:
    """Converts an array of objects that holds numbers, or rows of equal length."""
    numeric = numbers_in(array)
    if numeric is not None and None not in array:
        return numeric
    if array.size and all(isinstance(item, (list, tuple, np.ndarray)) for item in array):
        try:
            return np.asarray(array.tolist())
        except ValueError:
            pass
    return array


def _checked(array: Any, what: str) -> Any:
    if array.dtype.kind not in NUMERIC:
        raise ValueError(_not_numbers(array, what))
    return array


def _not_numbers(array: Any, what: str) -> str:
    kind = array.dtype.kind
    if array.dtype.names:
        return (
            f"{what} is a structured array with the fields {', '.join(array.dtype.names)}; pass its columns as a dict "
            "{name: array}, or stack them into one array."
        )
    if kind in "mM":
        return f"{what} holds dates or times ({array.dtype}); convert them to numbers first, such as seconds or days."
    if kind == "c":
        return f"{what} must hold real numbers; got an array of dtype {array.dtype}."
    items = [] if kind not in "OSU" else array.ravel()[:1000]
    if kind == "O" and len(items) and all(hasattr(item, "__len__") for item in items):
        if not any(isinstance(item, (str, bytes)) for item in items):
            return f"{what} has rows of different lengths; make them equal, for example with pad_sequences."
    text = next((item for item in items if isinstance(item, (str, bytes))), "" if kind in "US" else None)
    if text is not None:
        return (
            f"{what} contains text, such as {str(text)[:40]!r}; convert it to numbers first (scikit-learn's "
            "LabelEncoder, or a StringLookup layer)."
        )
    if any(item is None for item in items):
        return f"{what} is None, or contains None, where numbers are expected."
    return f"{what} must hold numbers; got an array of dtype {array.dtype}."
