"""Class weights -> sample weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kstyle_torch import tree


def class_weigher(class_weight: dict[int, float] | None) -> Callable[[Any, Any], Any] | None:
    """A function `(y, sample_weight) -> sample_weight` that gives each sample its class's weight; None if there is none.

    A class that `class_weight` does not name has weight 1.

    Raises: ValueError: if it is no dict of class numbers.
    """
    if class_weight is None:
        return None
    if not isinstance(class_weight, dict) or not all(hasattr(key, "__index__") for key in class_weight):
        raise ValueError(f"class_weight must be a dict {{class number: weight}}; got {class_weight!r}.")
    table = torch.ones(max(class_weight, default=0) + 1)
    for label, weight in class_weight.items():
        table[int(label)] = float(weight)

    def weigh(y: Any, sample_weight: Any) -> Any:
        if sample_weight is not None:
            raise ValueError("class_weight and sample_weight cannot be given together.")
        if tree.is_nested(y) or y is None:
            raise ValueError("class_weight needs a model with a single output and its targets.")
        y = y if isinstance(y, Tensor) else torch.as_tensor(np.asarray(y))
        labels = _labels(y)
        known = labels < len(table)
        return torch.where(known, table.to(y.device)[labels.where(known, 0)], 1.0)

    return weigh


def _labels(y: Tensor) -> Tensor:
    """Class numbers, from class numbers or one-hot rows."""
    if y.ndim > 1:
        y = y.argmax(-1) if y.shape[-1] > 1 else y.squeeze(-1)
    return y.round().long() if y.is_floating_point() else y.long()
