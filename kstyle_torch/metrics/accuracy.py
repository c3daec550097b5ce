"""Accuracies: the share of correct predictions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kstyle_torch.losses.base import rowwise
from kstyle_torch.metrics.base import registry
from kstyle_torch.metrics.reduction import FUNCTIONS, MeanMetricWrapper, aligned, largest, pair
from kstyle_torch.ops.math import in_top_k

register = registry.register


@rowwise
def accuracy(y_true: Any, y_pred: Any) -> Tensor:
    """Returns 1 where targets and predictions are equal, else 0; shape of the targets."""
    y_true, y_pred = aligned(y_true, y_pred, "accuracy")
    return (y_true.to(y_pred.dtype) == y_pred).to(torch.float32)


@rowwise
def binary_accuracy(y_true: Any, y_pred: Any, threshold: float = 0.5) -> Tensor:
    """Returns 1 where `y_pred > threshold` equals `y_true`, else 0; shape of the targets."""
    y_true, y_pred = aligned(y_true, y_pred, "binary_accuracy")
    return (y_true == (y_pred > threshold).to(y_true.dtype)).to(torch.float32)


@rowwise
def categorical_accuracy(y_true: Any, y_pred: Any) -> Tensor:
    """Returns 1 where the largest prediction is at the largest target; (batch, ..., classes) -> (batch, ...)."""
    y_true, y_pred = pair(y_true, y_pred)
    return _equal(largest(y_true), largest(y_pred), "categorical_accuracy")


@rowwise
def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> Tensor:
    """Returns 1 where the largest prediction is at the class number `y_true`, (batch, ...) or (batch, ..., 1); (batch, ...)."""
    y_true, y_pred = pair(y_true, y_pred)
    if y_true.ndim == y_pred.ndim and y_true.shape[-1] == 1:
        y_true = y_true.squeeze(-1)
    matches = _equal(y_true, largest(y_pred), "sparse_categorical_accuracy")
    return matches.squeeze(-1) if matches.ndim > 1 and matches.shape[-1] == 1 else matches


@rowwise
def top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> Tensor:
    """Returns 1 where the largest target is at one of the `k` largest predictions; (batch, ..., classes) -> (batch, ...)."""
    y_true, y_pred = pair(y_true, y_pred)
    return _in_top(largest(y_true), y_pred, k)


@rowwise
def sparse_top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5, from_sorted_ids: bool = False) -> Tensor:
    """Returns 1 where the class number `y_true` is at one of the `k` largest predictions.

    Args:
        y_true: (batch, ...) or (batch, ..., 1).
        y_pred: Scores, (batch, ..., classes); or class numbers, the best first.
        k: Number of predictions that count.
        from_sorted_ids: Whether `y_pred` holds class numbers.
    Returns: Tensor shaped like `y_true`.
    """
    y_true, y_pred = pair(y_true, y_pred)
    if from_sorted_ids:
        numbers = y_pred.flatten(0, -2)[:, :k]
        return (y_true.flatten().unsqueeze(1) == numbers).any(1).to(torch.float32).reshape(y_true.shape)
    return _in_top(y_true, y_pred, k)


def _equal(y_true: Tensor, y_pred: Tensor, name: str) -> Tensor:
    if y_true.shape != y_pred.shape:
        raise ValueError(
            f"Metric {name!r}: targets for {tuple(y_true.shape)} do not fit predictions for {tuple(y_pred.shape)}."
        )
    return (y_true == y_pred).to(torch.float32)


def _in_top(y_true: Tensor, y_pred: Tensor, k: int) -> Tensor:
    if k > y_pred.shape[-1]:
        raise ValueError(f"k must not be above the number of classes; got k={k} for {y_pred.shape[-1]} classes.")
    if y_true.numel() * y_pred.shape[-1] != y_pred.numel():
        raise ValueError(
            f"Targets for {tuple(y_true.shape)} do not fit predictions of shape {tuple(y_pred.shape)} in a top-{k} accuracy."
        )
    matches = in_top_k(y_true.flatten(), y_pred.flatten(0, -2), k)
    return matches.to(torch.float32).reshape(y_true.shape)


OF_THIS_FILE = (
    accuracy,
    binary_accuracy,
    categorical_accuracy,
    sparse_categorical_accuracy,
    top_k_categorical_accuracy,
    sparse_top_k_categorical_accuracy,
)
FUNCTIONS.update({function.__name__: function for function in OF_THIS_FILE})


@register()
class Accuracy(MeanMetricWrapper):
    """Share of predictions that equal their targets.

    Args:
        name: The key in logs and history.
        dtype: Dtype of the state.

    Example:
        >>> float(Accuracy()(torch.tensor([1, 2]), torch.tensor([1, 3])))
        0.5
    """

    direction = "up"

    def __init__(self, name: str | None = "accuracy", dtype: Any = None):
        super().__init__(accuracy, name, dtype)


@register()
class BinaryAccuracy(MeanMetricWrapper):
    """Share of predictions on the right side of a threshold.

    Args:
        name: The key in logs and history.
        dtype: Dtype of the state.
        threshold: Predictions above it mean 1.
    Raises: ValueError: if the threshold is not between 0 and 1.

    Example:
        >>> float(BinaryAccuracy()(torch.tensor([[1.0], [0.0]]), torch.tensor([[0.8], [0.6]])))
        0.5
    """

    direction = "up"

    def __init__(self, name: str | None = "binary_accuracy", dtype: Any = None, threshold: float = 0.5):
        if threshold is not None and not 0 < threshold < 1:
            raise ValueError(f"BinaryAccuracy: threshold must be between 0 and 1; got {threshold!r}.")
        super().__init__(binary_accuracy, name, dtype, threshold=threshold)
        self.threshold = threshold


@register()
class CategoricalAccuracy(MeanMetricWrapper):
    """Share of samples whose largest prediction is the class of a one-hot target.

    Args:
        name: The key in logs and history.
        dtype: Dtype of the state.

    Example:
        >>> float(CategoricalAccuracy()(torch.eye(2), torch.tensor([[0.9, 0.1], [0.8, 0.2]])))
        0.5
    """

    direction = "up"

    def __init__(self, name: str | None = "categorical_accuracy", dtype: Any = None):
        super().__init__(categorical_accuracy, name, dtype)


@register()
class SparseCategoricalAccuracy(MeanMetricWrapper):
    """Share of samples whose largest prediction is the class whose number is the target.

    Args:
        name: The key in logs and history.
        dtype: Dtype of the state.

    Example:
        >>> float(SparseCategoricalAccuracy()(torch.tensor([0, 1]), torch.tensor([[0.9, 0.1], [0.8, 0.2]])))
        0.5
    """

    direction = "up"

    def __init__(self, name: str | None = "sparse_categorical_accuracy", dtype: Any = None):
        super().__init__(sparse_categorical_accuracy, name, dtype)


@register()
class TopKCategoricalAccuracy(MeanMetricWrapper):
    """Share of samples whose class, in a one-hot target, is among those with the largest predictions.

    Args:
        k: Number of predictions that count.
        name: The key in logs and history.
        dtype: Dtype of the state.

    Example:
        >>> float(TopKCategoricalAccuracy(k=2)(torch.eye(3)[:2], torch.tensor([[0.5, 0.9, 0], [0.3, 0, 0.1]])))
        0.5
    """

    direction = "up"

    def __init__(self, k: int = 5, name: str | None = "top_k_categorical_accuracy", dtype: Any = None):
        super().__init__(top_k_categorical_accuracy, name, dtype, k=k)
        self.k = k


@register()
class SparseTopKCategoricalAccuracy(MeanMetricWrapper):
    """Share of samples whose class, given by its number, is among those with the largest predictions.

    Args:
        k: Number of predictions that count.
        name: The key in logs and history.
        dtype: Dtype of the state.
        from_sorted_ids: Whether predictions are class numbers, the best first.

    Example:
        >>> float(SparseTopKCategoricalAccuracy(k=1)([2, 1], [[0.1, 0.9, 0.8], [0.05, 0.95, 0]]))
        0.5
    """

    direction = "up"

    def __init__(
        self,
        k: int = 5,
        name: str | None = "sparse_top_k_categorical_accuracy",
        dtype: Any = None,
        from_sorted_ids: bool = False,
    ):
        super().__init__(sparse_top_k_categorical_accuracy, name, dtype, k=k, from_sorted_ids=from_sorted_ids)
        self.k, self.from_sorted_ids = k, from_sorted_ids


def resolve_accuracy(name: str, y_true: Any, y_pred: Any) -> MeanMetricWrapper:
    """Returns the metric for `"accuracy"` by the shapes of targets and predictions, under the user's name."""
    if y_pred.shape[-1] == 1:
        return BinaryAccuracy(name)
    if y_true.ndim < y_pred.ndim or y_true.shape[-1] == 1:
        return SparseCategoricalAccuracy(name)
    return CategoricalAccuracy(name)
