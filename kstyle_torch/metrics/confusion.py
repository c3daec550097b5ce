"""Counts of true and false positives and negatives at thresholds, and metrics computed from them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kstyle_torch.metrics.base import Metric, registry
from kstyle_torch.metrics.thresholds import LOWEST, Counts, Thresholds, count, given_thresholds, prepared
from kstyle_torch.ops.arithmetic import divide_no_nan
from kstyle_torch.variables import Variable

register = registry.register


class ConfusionMetric(Metric):
    """Base of metrics that accumulate counts at thresholds."""

    rowwise = True
    kept: tuple[str, ...] = Counts._fields  # which counts are state, in the order of `variables`
    top_k: int | None = None
    class_id: int | None = None
    by_label = False
    true_positives: Variable
    false_positives: Variable
    true_negatives: Variable
    false_negatives: Variable
    _at: Thresholds

    @property
    def thresholds(self) -> list[float]:
        """The thresholds."""
        return self._at.values

    def _add_counts(self, labels: tuple[int, ...] = ()) -> None:
        for name in self.kept:
            setattr(self, name, self.add_variable((len(self._at), *labels), "zeros", name=name))

    @torch.no_grad()
    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Updates the state with a batch.

        Args:
            y_true: Targets; nonzero values are positive.
            y_pred: Predictions of the same shape; one of the two may have an additional last axis of size 1.
            sample_weight: Weight of each sample or value, or one for all.
        Raises: ValueError: if the shapes do not fit.
        """
        self._take(*prepared(y_true, y_pred, sample_weight, self.top_k, self.class_id, self.name))

    def _take(self, y_true: Tensor, y_pred: Tensor, weight: Tensor | None) -> None:
        if not self.by_label:
            y_true, y_pred = y_true.flatten(), y_pred.flatten()
            weight = None if weight is None else weight.flatten()
        counts = count(y_true, y_pred, weight, self._at)
        for name in self.kept:
            getattr(self, name).assign_add(getattr(counts, name))

    def _share(self, part: Variable, rest: Variable) -> Tensor:
        """Returns `part / (part + rest)`; 0 where both are 0."""
        return divide_no_nan(part.value, part.value + rest.value)

    def _single(self, values: Tensor) -> Tensor:
        return values[0] if len(self._at) == 1 else values


class _Count(ConfusionMetric):
    """Base of the four counts.

    Args:
        thresholds: One or several numbers between 0 and 1; predictions above are positive. 0.5 if None.
        name: The key in logs and history.
        dtype: Accepted; the state is of `config.floatx()`, as in Keras.
    Raises: ValueError: for a threshold that is not between 0 and 1.
    """

    counted: str

    def __init__(self, thresholds: Any = None, name: str | None = None, dtype: Any = None):
        super().__init__(name=name, dtype=dtype)
        self._at = given_thresholds(thresholds, 0.5)
        self.accumulator = self.add_variable((len(self._at),), "zeros", name="accumulator")

    def _take(self, y_true: Tensor, y_pred: Tensor, weight: Tensor | None) -> None:
        weight = None if weight is None else weight.flatten()
        counts = count(y_true.flatten(), y_pred.flatten(), weight, self._at)
        self.accumulator.assign_add(getattr(counts, self.counted))

    def result(self) -> Tensor:
        """Returns the count so far: a scalar for one threshold, else (thresholds,)."""
        return self._single(self.accumulator.value)


@register()
class TruePositives(_Count):
    """Number of positive targets with a prediction above the threshold; for the arguments see `FalsePositives`.

    Example:
        >>> float(TruePositives()([0, 1, 1, 1], [1, 0, 1, 1]))
        2.0
    """

    counted = "true_positives"


@register()
class FalsePositives(_Count):
    """Number of negative targets with a prediction above the threshold.

    Args:
        thresholds: One or several numbers between 0 and 1; 0.5 if None.
        name: The key in logs and history.
        dtype: Accepted; the state is of `config.floatx()`, as in Keras.
    Raises: ValueError: for a threshold that is not between 0 and 1.

    Example:
        >>> float(FalsePositives()([0, 1, 0, 0], [0, 0, 1, 1]))
        2.0
    """

    counted = "false_positives"


@register()
class TrueNegatives(_Count):
    """Number of negative targets with a prediction up to the threshold; for the arguments see `FalsePositives`.

    Example:
        >>> float(TrueNegatives()([0, 1, 0, 0], [1, 1, 0, 0]))
        2.0
    """

    counted = "true_negatives"


@register()
class FalseNegatives(_Count):
    """Number of positive targets with a prediction up to the threshold; for the arguments see `FalsePositives`.

    Example:
        >>> float(FalseNegatives()([0, 1, 1, 1], [0, 1, 0, 0]))
        2.0
    """

    counted = "false_negatives"


class _Share(ConfusionMetric):
    """Base of precision and recall."""

    direction = "up"

    def __init__(
        self,
        thresholds: Any = None,
        top_k: int | None = None,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(name=name, dtype=dtype)
        self.top_k, self.class_id = top_k, class_id
        self._at = given_thresholds(thresholds, 0.5 if top_k is None else LOWEST)
        self._add_counts()

    def result(self) -> Tensor:
        """Returns the value so far: a scalar for one threshold, else (thresholds,)."""
        return self._single(self._share(*(getattr(self, name) for name in self.kept)))


@register()
class Precision(_Share):
    """Share of positive predictions that are correct: TP / (TP + FP).

    Args:
        thresholds: One or several numbers between 0 and 1; predictions above are positive. 0.5 if this and `top_k` are None.
        top_k: If given, only the `top_k` largest predictions of each row are positive.
        class_id: If given, only this column is used.
        name: The key in logs and history.
        dtype: Accepted; the state is of `config.floatx()`, as in Keras.
    Raises: ValueError: for a threshold that is not between 0 and 1.

    Example:
        >>> round(float(Precision()([0, 1, 1, 1], [1, 0, 1, 1])), 4)
        0.6667
    """

    kept = ("true_positives", "false_positives")


@register()
class Recall(_Share):
    """Share of positive targets with a positive prediction: TP / (TP + FN); for the arguments see `Precision`.

    Example:
        >>> round(float(Recall()([0, 1, 1, 1], [1, 0, 1, 1])), 4)
        0.6667
    """

    kept = ("true_positives", "false_negatives")
