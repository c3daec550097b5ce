"""True and false positives and negatives at thresholds, for a whole batch and all thresholds at once.

N predictions, L labels, T thresholds. A prediction is positive at the thresholds below it. Predictions are binned by the
number of these thresholds, and cumulative sums of the bins from either end are the counts. That takes N + T operations,
while comparing each prediction with each threshold takes N * T.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kstyle_torch import budget, config
from kstyle_torch.losses.base import same_rank
from kstyle_torch.metrics.reduction import fitting, pair
from kstyle_torch.ops.operation import as_tensor

BYTES_A_THRESHOLD = 150  # three lists, a number and its place in the order
LOWEST = -1e10  # below all predictions, except those that `top_k` excludes


class Counts(NamedTuple):
    """Counts at each threshold: (T,), or (T, L) by label."""

    true_positives: Tensor
    false_positives: Tensor
    true_negatives: Tensor
    false_negatives: Tensor


class Thresholds:
    """The thresholds of a metric.

    Args:
        values: The thresholds in any order.
        even: Whether they are 0, 1 / (T - 1), ..., 1, except that the ends may lie outside; detected if None.
    """

    def __init__(self, values: Any, even: bool | None = None):
        self.values = [float(value) for value in values]
        self.even = _are_even(self.values) if even is None else even
        self.order = sorted(range(len(self.values)), key=self.values.__getitem__)
        self._tensors: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def __len__(self) -> int:
        return len(self.values)

    def num_below(self, y_pred: Tensor) -> Tensor:
        """Returns the number of thresholds below each prediction; 0 for NaN."""
        if self.even:
            last = len(self) - 1
            number = (y_pred.clamp(0, 1) * last).ceil()
            if self.values[0] < 0:
                number = number.clamp(min=1)
            return number.nan_to_num(0).long()
        rising, _ = self._on(y_pred)
        return torch.searchsorted(rising, y_pred.nan_to_num(-math.inf, math.inf, -math.inf))

    def in_given_order(self, counts: Tensor) -> Tensor:
        """Reorders counts at the sorted thresholds, (T, ...), to the user's order."""
        if self.even or self.order == [*range(len(self))]:
            return counts
        return counts[self._on(counts)[1]]

    def _on(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the sorted thresholds and the inverse order, cached for each device, since copying them would wait for it."""
        found = self._tensors.get(like.device)
        if found is None:
            rising = torch.tensor([self.values[index] for index in self.order], dtype=torch.float32)
            found = rising.to(like.device), torch.tensor(self.order).argsort().to(like.device)
            self._tensors[like.device] = found
        return found


def given_thresholds(thresholds: Any, default: float) -> Thresholds:
    """Returns the thresholds from an argument: a number, several, or None.

    Raises: ValueError: for one that is not between 0 and 1.
    """
    if thresholds is None:
        return Thresholds([default])
    values = list(thresholds) if isinstance(thresholds, (list, tuple, np.ndarray)) else [thresholds]
    wrong = [value for value in values if value is None or not 0 <= value <= 1]
    if wrong or not values:
        raise ValueError(f"thresholds must be between 0 and 1; got {thresholds!r}.")
    return Thresholds(values)


def spaced(number: int) -> list[float]:
    """Returns evenly spaced numbers between 0 and 1, without the ends."""
    budget.take(BYTES_A_THRESHOLD * number, "thresholds")
    return [index / (number - 1) for index in range(1, number - 1)]


def _are_even(values: list[float]) -> bool:
    if len(values) < 3:
        return False
    even = np.arange(len(values), dtype=np.float32) / (len(values) - 1)
    return bool(np.allclose(values, even, atol=config.epsilon()))


def prepared(
    y_true: Any, y_pred: Any, weight: Any, top_k: int | None, class_id: int | None, name: str
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Returns targets (bool), predictions (float32) and weights, of the same shape.

    Args:
        y_true: 0 or 1.
        y_pred: Scores of the same shape; one of the two may have an additional last axis of size 1.
        weight: A weight for each sample or value, or one for all; None for no weights.
        top_k: If given, only the `top_k` largest of each row can be positive.
        class_id: If given, only this column is used.
        name: Name of the metric, for messages.
    Raises: ValueError: if the shapes do not fit.
    """
    y_true, y_pred = pair(y_true, y_pred)
    y_pred, y_true = same_rank(y_pred.to(torch.float32), y_true != 0)
    if y_true.shape != y_pred.shape:
        raise ValueError(_mismatch(name, y_true, y_pred))
    if weight is not None:
        weight = as_tensor(weight, device=y_pred.device).to(y_pred.device, torch.float32).unsqueeze(-1)
        if weight.ndim == y_true.ndim + 1 and weight.shape[-1] == 1:
            weight = weight.squeeze(-1)
        weight = weight.reshape(weight.shape + (1,) * (y_true.ndim - weight.ndim))
    if top_k is not None:
        y_pred = _only_largest(y_pred, top_k, name)
    if class_id is not None:
        if y_pred.ndim == 1 or not 0 <= class_id < y_pred.shape[-1]:
            raise ValueError(
                f"Metric {name!r}: class_id {class_id} needs predictions of shape (samples, classes) with more than "
                f"{class_id} classes; got {tuple(y_pred.shape)}."
            )
        y_true, y_pred = y_true[..., class_id, None], y_pred[..., class_id, None]
    return y_true, y_pred, None if weight is None else fitting(weight, y_pred)


def _only_largest(y_pred: Tensor, top_k: int, name: str) -> Tensor:
    if not 0 < top_k <= y_pred.shape[-1]:
        raise ValueError(
            f"Metric {name!r}: top_k must be between 1 and the number of classes; got {top_k} for predictions of shape "
            f"{tuple(y_pred.shape)}."
        )
    largest = y_pred.topk(top_k).indices
    return torch.full_like(y_pred, LOWEST).scatter(-1, largest, y_pred.gather(-1, largest))


def _mismatch(name: str, y_true: Tensor, y_pred: Tensor) -> str:
    hint = ""
    if y_true.numel() * y_pred.shape[-1] == y_pred.numel():
        hint = f" If the targets are class numbers, make them one-hot: utils.to_categorical(y, {y_pred.shape[-1]})."
    shapes = f"targets of shape {tuple(y_true.shape)} do not fit predictions of shape {tuple(y_pred.shape)}"
    return f"Metric {name!r}: {shapes}.{hint}"


def count(y_true: Tensor, y_pred: Tensor, weight: Tensor | None, thresholds: Thresholds) -> Counts:
    """Returns the counts, or sums of weights, at each threshold.

    Args:
        y_true: bool, (N,), or (N, L) to count by label.
        y_pred: float32, likewise.
        weight: float32, likewise; None to count. Counts are integers, since float32 would lose ones beyond 2**24.
        thresholds: T of them.
    """
    if len(thresholds) == 1:
        return _count_at(y_true, y_pred > thresholds.values[0], weight)
    bins, labels = len(thresholds) + 1, y_pred.shape[1:]
    index = thresholds.num_below(y_pred) + bins * y_true
    if labels:
        index = index * labels[0] + torch.arange(labels[0], device=index.device)
    values = torch.ones_like(index) if weight is None else weight
    size = 2 * bins * (labels[0] if labels else 1)
    sums = values.new_zeros(size).scatter_add_(0, index.flatten(), values.flatten()).view(2, bins, *labels)
    negatives = sums.cumsum(1)[:, :-1]
    positives = sums.flip(1).cumsum(1).flip(1)[:, 1:]
    found = positives[1], positives[0], negatives[0], negatives[1]
    return Counts(*map(thresholds.in_given_order, found))


def _count_at(y_true: Tensor, positive: Tensor, weight: Tensor | None) -> Counts:
    def total(which: Tensor) -> Tensor:
        return (which if weight is None else weight * which).sum(0, keepdim=True)

    return Counts(
        total(y_true & positive), total(positive & ~y_true), total(~(y_true | positive)), total(y_true & ~positive)
    )
