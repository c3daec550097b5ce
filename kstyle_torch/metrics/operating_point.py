"""Metrics at an operating point: the best X subject to Y >= value."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kstyle_torch.metrics.base import registry
from kstyle_torch.metrics.confusion import ConfusionMetric
from kstyle_torch.metrics.thresholds import Thresholds, spaced

register = registry.register
PRECISION = ("true_positives", "false_positives")
SENSITIVITY = RECALL = ("true_positives", "false_negatives")
SPECIFICITY = ("true_negatives", "false_positives")


class _BestUnder(ConfusionMetric):
    """Base of metrics at an operating point: the best share subject to another share of at least `value`.

    Args:
        value: Smallest value of the other share, between 0 and 1.
        num_thresholds: Number of thresholds to try.
        class_id: If given, only this column is used.
        name: The key in logs and history.
        dtype: Accepted; the state is of `config.floatx()`, as in Keras.
    """

    direction = "up"
    best: tuple[str, str]  # counts (part, rest) of the share to maximize
    bound: tuple[str, str]  # counts of the share that must reach `value`

    def __init__(self, value: float, num_thresholds: int, class_id: int | None, name: str | None, dtype: Any):
        super().__init__(name=name, dtype=dtype)
        cls = type(self).__name__
        if not 0 <= value <= 1:
            raise ValueError(f"{cls}: the first argument must be between 0 and 1; got {value!r}.")
        if num_thresholds <= 0:
            raise ValueError(f"{cls}: num_thresholds must be a positive integer; got {num_thresholds!r}.")
        self.value, self.num_thresholds, self.class_id = value, num_thresholds, class_id
        even = num_thresholds > 1
        self._at = Thresholds([0.0, *spaced(num_thresholds), 1.0] if even else [0.5], even)
        self._add_counts()

    def result(self) -> Tensor:
        """Returns the best share so far; 0 if the other never reaches `value`."""
        best, bound = (self._share(*(getattr(self, name) for name in names)) for names in (self.best, self.bound))
        return torch.where(bound >= self.value, best, 0).amax()


@register()
class SensitivityAtSpecificity(_BestUnder):
    """The best sensitivity, TP / (TP + FN), at a threshold where specificity, TN / (TN + FP), is high enough.

    Args:
        specificity: Smallest value to reach, between 0 and 1.
        num_thresholds: Number of thresholds to try.
        class_id: If given, only this column is used.
        name: The key in logs and history.
        dtype: Accepted; the state is of `config.floatx()`, as in Keras.
    Raises: ValueError: for a number out of its range.

    Example:
        >>> float(SensitivityAtSpecificity(0.5)([0, 0, 0, 1, 1], [0, 0.3, 0.8, 0.3, 0.8]))
        0.5
    """

    best, bound = SENSITIVITY, SPECIFICITY

    def __init__(
        self,
        specificity: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(specificity, num_thresholds, class_id, name, dtype)
        self.specificity = specificity


@register()
class SpecificityAtSensitivity(_BestUnder):
    """The best specificity, TN / (TN + FP), at a threshold where sensitivity, TP / (TP + FN), is high enough.

    Args:
        sensitivity: Smallest value to reach, between 0 and 1.
        num_thresholds: Number of thresholds to try.
        class_id: If given, only this column is used.
        name: The key in logs and history.
        dtype: Accepted; the state is of `config.floatx()`, as in Keras.
    Raises: ValueError: for a number out of its range.

    Example:
        >>> round(float(SpecificityAtSensitivity(0.5)([0, 0, 0, 1, 1], [0, 0.3, 0.8, 0.3, 0.8])), 4)
        0.6667
    """

    best, bound = SPECIFICITY, SENSITIVITY

    def __init__(
        self,
        sensitivity: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(sensitivity, num_thresholds, class_id, name, dtype)
        self.sensitivity = sensitivity


@register()
class PrecisionAtRecall(_BestUnder):
    """The best precision, TP / (TP + FP), at a threshold where recall, TP / (TP + FN), is high enough.

    Args:
        recall: Smallest value to reach, between 0 and 1.
        num_thresholds: Number of thresholds to try.
        class_id: If given, only this column is used.
        name: The key in logs and history.
        dtype: Accepted; the state is of `config.floatx()`, as in Keras.
    Raises: ValueError: for a number out of its range.

    Example:
        >>> float(PrecisionAtRecall(0.5)([0, 0, 0, 1, 1], [0, 0.3, 0.8, 0.3, 0.8]))
        0.5
    """

    best, bound = PRECISION, RECALL

    def __init__(
        self,
        recall: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(recall, num_thresholds, class_id, name, dtype)
        self.recall = recall


@register()
class RecallAtPrecision(_BestUnder):
    """The best recall, TP / (TP + FN), at a threshold where precision, TP / (TP + FP), is high enough.

    Args:
        precision: Smallest value to reach, between 0 and 1.
        num_thresholds: Number of thresholds to try.
        class_id: If given, only this column is used.
        name: The key in logs and history.
        dtype: Accepted; the state is of `config.floatx()`, as in Keras.
    Raises: ValueError: for a number out of its range.

    Example:
        >>> float(RecallAtPrecision(0.8)([0, 0, 1, 1], [0, 0.5, 0.3, 0.9]))
        0.5
    """

    best, bound = RECALL, PRECISION

    def __init__(
        self,
        precision: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(precision, num_thresholds, class_id, name, dtype)
        self.precision = precision
