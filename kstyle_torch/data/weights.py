"""Conversion of class weights to sample weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kstyle_torch import tree
from kstyle_torch.initializers import as_dtype


def class_weigher(class_weight: dict[int, float] | None) -> Callable[[Any, Any], Any] | None:
    """Returns a function `(y, sample_weight) -> sample_weight` that weights samples by class; None without class weights.

    Classes that are not in `class_weight` have weight 1.

    Raises: ValueError: if it is not a dict of class numbers.
    """
    if class_weight is None:
        return None
    if not isinstance(class_weight, dict) or not class_weight or not all(map(_is_whole, class_weight)):
        raise ValueError(
            f"class_weight must be a dict {{class number: weight}}, such as dict(enumerate(weights)); got {class_weight!r}."
        )
    labels = torch.tensor(sorted(int(label) for label in class_weight))
    weights = {int(label): float(weight) for label, weight in class_weight.items()}
    table = torch.tensor([weights[int(label)] for label in labels], dtype=as_dtype(None))

    def weigh(y: Any, sample_weight: Any) -> Any:
        if sample_weight is not None:
            raise ValueError("class_weight and sample_weight cannot be given together.")
        if tree.is_nested(y) or y is None:
            raise ValueError("class_weight needs a model with a single output and its targets.")
        given = _labels(y if isinstance(y, Tensor) else y.to("cpu"))
        known = labels.to(given.device)
        places = torch.searchsorted(known, given).clamp_(max=len(known) - 1)
        return torch.where(known[places] == given, table.to(given.device)[places], 1.0)

    return weigh


def _is_whole(label: Any) -> bool:
    return hasattr(label, "__index__") or (isinstance(label, float) and label.is_integer())


def _labels(y: Tensor) -> Tensor:
    """Returns class numbers, from class numbers or one-hot rows."""
    if y.ndim > 1:
        y = y.argmax(-1) if y.shape[-1] > 1 else y.squeeze(-1)
    return y.round().long() if y.is_floating_point() else y.long()
