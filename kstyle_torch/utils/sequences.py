"""Padding of sequences of different lengths to one array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["pad_sequences"]


def pad_sequences(
    sequences: Sequence[Any],
    maxlen: int | None = None,
    dtype: Any = "int32",
    padding: str = "pre",
    truncating: str = "pre",
    value: Any = 0.0,
) -> np.ndarray:
    """Pads or truncates sequences to the same length.

    Args:
        sequences: Lists or arrays; their items may be arrays of the same shape.
        maxlen: The length; that of the longest sequence if None.
        dtype: Dtype of the result; `object` for strings.
        padding: Whether to pad before (`"pre"`) or after (`"post"`) a sequence.
        truncating: Whether to remove the beginning (`"pre"`) or the end (`"post"`) of longer sequences.
        value: Padding value.
    Returns: Array of shape (number of sequences, maxlen, ...).
    Raises: ValueError: if an item's shape differs from the others', or `value` does not fit `dtype`.

    Example:
        >>> pad_sequences([[1], [2, 3], [4, 5, 6]], maxlen=2)
        array([[0, 1],
               [2, 3],
               [5, 6]], dtype=int32)
    """
    for argument, name in ((padding, "padding"), (truncating, "truncating")):
        if argument not in ("pre", "post"):
            raise ValueError(f"pad_sequences: {name} must be 'pre' or 'post'; got {argument!r}.")
    if not hasattr(sequences, "__len__"):
        raise ValueError(f"pad_sequences: sequences must be a list of sequences; got {type(sequences).__name__}.")
    lone = [item for item in sequences if not hasattr(item, "__len__")]
    if lone:
        raise ValueError(f"pad_sequences: every item must be a sequence; got {lone[0]!r}.")
    if isinstance(value, str) and np.dtype(dtype).kind not in "OUS":
        raise ValueError(f"pad_sequences: the value {value!r} does not fit dtype={dtype!r}; pass dtype=object.")
    length = max(map(len, sequences)) if maxlen is None else maxlen
    item_shape = next((np.asarray(sequence).shape[1:] for sequence in sequences if len(sequence)), ())
    padded = np.full((len(sequences), length, *item_shape), value, dtype=dtype)
    for row, (place, sequence) in enumerate(zip(padded, sequences, strict=True)):
        if len(sequence):
            cut = np.asarray(sequence[-length:] if truncating == "pre" else sequence[:length], dtype=dtype)
            if cut.shape[1:] != item_shape:
                raise ValueError(
                    f"pad_sequences: items of sequence {row} have shape {cut.shape[1:]}, not {item_shape}."
                )
            place[slice(-len(cut), None) if padding == "pre" else slice(len(cut))] = cut
    return padded
