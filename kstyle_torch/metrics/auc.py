"""The area under a curve of a classifier's rates over all thresholds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kstyle_torch import config
from kstyle_torch.metrics.base import registry
from kstyle_torch.metrics.confusion import ConfusionMetric
from kstyle_torch.metrics.thresholds import Thresholds, prepared, spaced
from kstyle_torch.ops.arithmetic import divide_no_nan
from kstyle_torch.ops.operation import as_tensor

CURVES = ("ROC", "PR", "PRGAIN")
METHODS = ("interpolation", "majoring", "minoring")


@registry.register()
class AUC(ConfusionMetric):
    """Area under the ROC curve (or another), approximated by a sum over intervals between thresholds.

    Args:
        num_thresholds: Number of evenly spaced thresholds; more than 1.
        curve: `"ROC"`, `"PR"` (precision over recall) or `"PRGAIN"`.
        summation_method: `"interpolation"` (trapezoids; for PR, counts and not precision are interpolated),
            `"majoring"` (the larger value of each interval) or `"minoring"` (the smaller).
        name: The key in logs and history.
        dtype: Accepted; the state is of `config.floatx()`, as in Keras.
        thresholds: Thresholds to use instead, without the ends.
        multi_label: Whether to average the areas of the columns.
        num_labels: Number of columns, for `multi_label`; inferred from the first batch if None.
        label_weights: Weight of each column's area with `multi_label`, else of its predictions.
        from_logits: Whether predictions are logits, to which a sigmoid is applied.
    Raises: ValueError: for arguments out of their range.
    Source: Davis & Goadrich 2006 (interpolation of the PR curve); Flach & Kull 2015 (PRGAIN).

    Example:
        >>> float(AUC(num_thresholds=3)([0, 0, 1, 1], [0, 0.5, 0.3, 0.9]))
        0.75
    """

    rowwise = True
    direction = "up"

    def __init__(
        self,
        num_thresholds: int = 200,
        curve: str = "ROC",
        summation_method: str = "interpolation",
        name: str | None = None,
        dtype: Any = None,
        thresholds: Any = None,
        multi_label: bool = False,
        num_labels: int | None = None,
        label_weights: Any = None,
        from_logits: bool = False,
    ):
        self.curve = _choice("curve", str(curve).upper(), CURVES)
        self.summation_method = _choice("summation_method", str(summation_method).lower(), METHODS)
        if thresholds is None and num_thresholds <= 1:
            raise ValueError(f"AUC: num_thresholds must be greater than 1; got {num_thresholds!r}.")
        if num_labels and not multi_label:
            raise ValueError("AUC: num_labels is for multi_label=True only.")
        super().__init__(name=name, dtype=dtype)
        inner = spaced(num_thresholds) if thresholds is None else sorted(map(float, thresholds))
        even = True if thresholds is None else Thresholds([0.0, *inner, 1.0]).even
        epsilon = config.epsilon()
        self._at = Thresholds([0.0 - epsilon, *inner, 1.0 + epsilon], even)
        self.num_thresholds = len(self._at)
        self.multi_label = self.by_label = multi_label
        self.num_labels, self.from_logits = num_labels, from_logits
        self.label_weights = None if label_weights is None else as_tensor(label_weights).to(torch.float32)
        if not multi_label:
            self._add_counts()
        elif num_labels:
            self._add_counts((num_labels,))

    @torch.no_grad()
    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Updates the state with a batch.

        Args:
            y_true: Targets; nonzero values are positive. (samples, labels) with `multi_label`, else of any shape.
            y_pred: Predictions of the same shape; one of the two may have an additional last axis of size 1.
            sample_weight: Weight of each sample or value, or one for all.
        Raises: ValueError: if the shapes do not fit.
        """
        if self.from_logits:
            y_pred = as_tensor(y_pred).to(torch.float32).sigmoid()
        y_true, y_pred, weight = prepared(y_true, y_pred, sample_weight, None, None, self.name)
        labels = self._weights_on(y_pred)
        if self.multi_label:
            self._check_labels(y_pred)
        elif labels is not None:
            weight = labels.expand_as(y_pred) if weight is None else weight * labels
        self._take(y_true, y_pred, weight)

    def _check_labels(self, y_pred: Tensor) -> None:
        known = self.true_positives.shape[1] if self._variables else None
        if y_pred.ndim != 2 or known not in (None, y_pred.shape[1]):
            raise ValueError(
                f"Metric {self.name!r}: multi_label=True needs predictions of shape (samples, {known or 'labels'}); got "
                f"{tuple(y_pred.shape)}."
            )
        if known is None:
            self._add_counts((y_pred.shape[1],))

    def _weights_on(self, like: Tensor) -> Tensor | None:
        if self.label_weights is not None and self.label_weights.device != like.device:
            self.label_weights = self.label_weights.to(like.device)
        return self.label_weights

    def result(self) -> Tensor:
        """Returns the area so far; 0 before the first batch."""
        if not self._variables:
            return torch.zeros((), device=config.device())
        if self.curve == "PR" and self.summation_method == "interpolation":
            return self.interpolate_pr_auc()
        x, y = self._curve()
        return self._of_strips((x[:-1] - x[1:]) * _heights(y, self.summation_method))

    def _of_strips(self, areas: Tensor) -> Tensor:
        """Returns the area under the curve, averaged over the labels."""
        by_label = areas.sum(0)
        if not self.multi_label:
            return by_label
        labels = self._weights_on(by_label)
        return by_label.mean() if labels is None else divide_no_nan((by_label * labels).sum(), labels.sum())

    def _curve(self) -> tuple[Tensor, Tensor]:
        recall = self._share(self.true_positives, self.false_negatives)
        if self.curve == "ROC":
            return self._share(self.false_positives, self.true_negatives), recall
        if self.curve == "PR":
            return recall, self._share(self.true_positives, self.false_positives)
        return self._gain(self.false_negatives.value, 0.0).clamp(min=0), self._gain(self.false_positives.value, 1.0)

    def _gain(self, wrong: Tensor, without_hits: float) -> Tensor:
        """Returns recall or precision on Flach and Kull's scale, where the always-positive classifier is at 0."""
        hits = self.true_positives.value
        odds = divide_no_nan(hits + self.false_negatives.value, self.true_negatives.value + self.false_positives.value)
        return torch.where(hits == 0, without_hits, 1 - odds * divide_no_nan(wrong, hits))

    def interpolate_pr_auc(self) -> Tensor:
        """Returns the area under the PR curve, with TP and FP linear between two thresholds A and B.

        Precision is then (TP_A + slope (P - P_A)) / P with P = TP + FP, and its integral has a logarithm in it.
        """
        hits = self.true_positives.value
        positives = hits + self.false_positives.value
        step = hits[:-1] - hits[1:]
        slope = divide_no_nan(step, (positives[:-1] - positives[1:]).clamp(min=0))
        intercept = hits[1:] - slope * positives[1:]
        both = (positives[:-1] > 0) & (positives[1:] > 0)
        ratio = torch.where(both, divide_no_nan(positives[:-1], positives[1:].clamp(min=0)), 1)
        true = (hits[1:] + self.false_negatives.value[1:]).clamp(min=0)
        return self._of_strips(divide_no_nan(slope * (step + intercept * ratio.log()), true))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments as plain data."""
        own = {"curve": self.curve, "summation_method": self.summation_method, "num_thresholds": self.num_thresholds}
        found = {**super().get_config(), **own}
        if found["label_weights"] is not None and self.label_weights is not None:
            found["label_weights"] = self.label_weights.tolist()
        if found["thresholds"] is None:
            del found["thresholds"]
        else:
            found["thresholds"] = self.thresholds[1:-1]
        return found


def _heights(y: Tensor, method: str) -> Tensor:
    if method == "interpolation":
        return (y[:-1] + y[1:]) / 2
    return torch.minimum(y[:-1], y[1:]) if method == "minoring" else torch.maximum(y[:-1], y[1:])


def _choice(argument: str, value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise ValueError(f"AUC: {argument} must be one of {', '.join(map(repr, choices))}; got {value!r}.")
    return value
