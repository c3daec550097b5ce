"""Checks of the data before the first step, once, on the host."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from torch import Tensor

from kstyle_torch import tree
from kstyle_torch.errors import OutOfRangeError


def warn_of_nan(structure: Any, what: str) -> None:
    """Warns of NaN and infinity, with the number of samples that have them."""
    for leaf in tree.flatten(structure):
        if isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.device.type == "cpu":
            if not math.isfinite(leaf.sum().item()):  # one pass; an overflow of the sum is ruled out below
                bad = (
                    int((~leaf.isfinite()).flatten(1).any(1).sum()) if leaf.ndim > 1 else int((~leaf.isfinite()).sum())
                )
                if bad:
                    warnings.warn(
                        f"{what} contains NaN or infinity in {bad} of {len(leaf)} samples; the loss will become NaN.",
                        stacklevel=2,
                    )


def check_labels(y: Tensor, num_classes: int, name: str, ignored: int | None = None) -> None:
    """Raises a ValueError for a class number without an output unit. The host waits if y is on a device."""
    if not isinstance(y, Tensor) or not y.numel():
        return
    low, high = map(int, _bounds(y))
    if ignored in (low, high):
        kept = y[y != ignored]
        low, high = map(int, _bounds(kept)) if kept.numel() else (0, 0)
    worst = low if low < 0 else high
    if low < 0 or high >= num_classes:
        raise OutOfRangeError(
            f"Loss {name!r}: label {worst} is out of range for {num_classes} classes (labels must be 0 to "
            f"{num_classes - 1})."
        )


def check_probabilities(y: Tensor, name: str) -> None:
    """Raises a ValueError for a target that is not a probability. The host waits if y is on a device."""
    if not isinstance(y, Tensor) or not y.numel() or y.dtype is torch.bool:
        return
    low, high = _bounds(y)
    if low < 0 or high > 1:
        raise ValueError(
            f"Loss {name!r}: targets must be between 0 and 1; got numbers from {low:g} to {high:g}. Write classes of -1 "
            "and 1, or 1 and 2, as 0 and 1; for more than two classes use sparse_categorical_crossentropy."
        )


def check_table(x: Tensor, size: int, name: str) -> None:
    """Raises a ValueError for an index outside of an Embedding's table. The host waits if x is on a device."""
    if not isinstance(x, Tensor) or not x.numel():
        return
    low, high = map(int, _bounds(x))
    if low < 0 or high >= size:
        raise ValueError(
            f"Layer {name!r}: x contains {low if low < 0 else high}, which is not in its table; with input_dim={size} "
            f"indices go from 0 to {size - 1}."
        )


def _bounds(x: Tensor) -> tuple[float, float]:
    bounds = x.aminmax()
    low, high = (
        (bounds.min.item(), bounds.max.item()) if x.is_cpu else torch.stack(bounds).tolist()
    )  # both at once, so that the host waits once
    return low, high
