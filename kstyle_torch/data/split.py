"""The part of the data that is kept for validation."""

from __future__ import annotations

import math
from typing import Any

from kstyle_torch import tree


def check_split(validation_split: float) -> None:
    """Raises a ValueError unless it is a share in [0, 1)."""
    if not isinstance(validation_split, (int, float)) or not 0 <= validation_split < 1:
        raise ValueError(f"validation_split must be in [0, 1); got {validation_split!r}.")


def split_off(arrays: Any, validation_split: float, num_samples: int) -> tuple[Any, Any]:
    """The first samples for training, the last ones, before any shuffling, for validation.

    Raises: ValueError: if one of the two would be empty.
    """
    boundary = math.floor(num_samples * (1 - validation_split))
    if boundary in (0, num_samples):
        raise ValueError(
            f"validation_split={validation_split} of {num_samples} samples leaves {boundary} for training and "
            f"{num_samples - boundary} for validation; both need at least one."
        )

    def part(rows: slice) -> Any:
        return tree.map_structure(lambda leaf: None if leaf is None else leaf[rows], arrays)

    return part(slice(None, boundary)), part(slice(boundary, None))


def unpack(data: Any) -> tuple[Any, Any, Any]:
    """`x`, `(x,)`, `(x, y)` or `(x, y, sample_weight)` -> all three, None where there is none.

    Raises: ValueError: for a tuple of another length.
    """
    if isinstance(data, list):
        data = tuple(data)
    if not isinstance(data, tuple):
        return data, None, None
    if not 1 <= len(data) <= 3:
        raise ValueError(f"Expected (x,), (x, y) or (x, y, sample_weight); got a tuple of {len(data)}.")
    return (*data, None, None)[:3]
