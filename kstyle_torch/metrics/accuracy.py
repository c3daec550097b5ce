"""How often predictions are right."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kstyle_torch.initializers import DType
from kstyle_torch.losses.base import rowwise, same_rank
from kstyle_torch.metrics.base import MeanMetricWrapper, registry

register = registry.register


@rowwise
def accuracy(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """1 where targets and predictions are equal, else 0; shape of the targets."""
    y_true, y_pred = same_rank(y_true, y_pred)
    return (y_true == y_pred).to(torch.float32)


@rowwise
def binary_accuracy(y_true: Tensor, y_pred: Tensor, threshold: float = 0.5) -> Tensor:
    """1 where `y_pred > threshold` is what `y_true` says, else 0; shape of the targets."""
    y_true, y_pred = same_rank(y_true, y_pred)
    return (y_true == (y_pred > threshold).to(y_true.dtype)).to(torch.float32)


@rowwise
def categorical_accuracy(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """1 where the largest prediction is at the largest target; (batch, ..., classes) -> (batch, ...)."""
    return (y_true.argmax(-1) == y_pred.argmax(-1)).to(torch.float32)


@rowwise
def sparse_categorical_accuracy(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """1 where the largest prediction is at the class number `y_true`, (batch, ...) or (batch, ..., 1); (batch, ...)."""
    if y_true.ndim == y_pred.ndim and y_true.shape[-1] == 1:
        y_true = y_true.squeeze(-1)
    return (y_true == y_pred.argmax(-1).to(y_true.dtype)).to(torch.float32)


@register()
class Accuracy(MeanMetricWrapper):
    """How often predictions equal targets.

    Args:
        name: The key in logs and history.
        dtype: Of the state.
    Example:
        >>> float(Accuracy()(torch.tensor([1, 2]), torch.tensor([1, 3])))
        0.5
    """

    direction = "up"

    def __init__(self, name: str = "accuracy", dtype: DType = None):
        super().__init__(accuracy, name, dtype)


@register()
class BinaryAccuracy(MeanMetricWrapper):
    """How often predictions are on the right side of a threshold.

    Args:
        name: The key in logs and history.
        dtype: Of the state.
        threshold: Predictions above it mean 1.
    Raises: ValueError: if the threshold is not between 0 and 1.
    Example:
        >>> float(BinaryAccuracy()(torch.tensor([[1.0], [0.0]]), torch.tensor([[0.8], [0.6]])))
        0.5
    """

    direction = "up"

    def __init__(self, name: str = "binary_accuracy", dtype: DType = None, threshold: float = 0.5):
        if threshold is not None and not 0 < threshold < 1:
            raise ValueError(f"BinaryAccuracy: threshold must be between 0 and 1; got {threshold!r}.")
        super().__init__(binary_accuracy, name, dtype, threshold=threshold)
        self.threshold = threshold


@register()
class CategoricalAccuracy(MeanMetricWrapper):
    """How often the largest prediction is the class of a one-hot target.

    Args:
        name: The key in logs and history.
        dtype: Of the state.
    Example:
        >>> float(CategoricalAccuracy()(torch.eye(2), torch.tensor([[0.9, 0.1], [0.8, 0.2]])))
        0.5
    """

    direction = "up"

    def __init__(self, name: str = "categorical_accuracy", dtype: DType = None):
        super().__init__(categorical_accuracy, name, dtype)


@register()
class SparseCategoricalAccuracy(MeanMetricWrapper):
    """How often the largest prediction is the class whose number is the target.

    Args:
        name: The key in logs and history.
        dtype: Of the state.
    Example:
        >>> float(SparseCategoricalAccuracy()(torch.tensor([0, 1]), torch.tensor([[0.9, 0.1], [0.8, 0.2]])))
        0.5
    """

    direction = "up"

    def __init__(self, name: str = "sparse_categorical_accuracy", dtype: DType = None):
        super().__init__(sparse_categorical_accuracy, name, dtype)


def resolve_accuracy(name: str, y_true: Any, y_pred: Any) -> MeanMetricWrapper:
    """What `"accuracy"` means for targets and predictions of these shapes; it keeps the user's name."""
    if y_pred.shape[-1] == 1:
        return BinaryAccuracy(name)
    if y_true.ndim < y_pred.ndim or y_true.shape[-1] == 1:
        return SparseCategoricalAccuracy(name)
    return CategoricalAccuracy(name)
