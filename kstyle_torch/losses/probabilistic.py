"""Losses of predicted probabilities."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kstyle_torch import config
from kstyle_torch.data.checks import check_labels, check_probabilities
from kstyle_torch.losses.base import (
    KernelLoss,
    PlainLoss,
    mismatch,
    registry,
    rowwise,
    same_shape,
    same_values_as,
    tensors,
)
from kstyle_torch.ops.safe_binary_crossentropy import crossentropy_of

register = registry.register


@register("bce", "BCE")
@rowwise
def binary_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Tensor:
    """Returns `-(y log p + (1 - y) log(1 - p))`, averaged over the last axis.

    Args:
        y_true: 0, 1 or between, (batch, ..., values).
        y_pred: Probabilities (clipped at 1e-7), or logits.
        from_logits: Whether `y_pred` are logits.
        label_smoothing: Share by which targets are moved towards 0.5; 0 to 1.
        axis: Axis of the mean.
    Returns: (batch, ...).
    Raises: ValueError: if the shapes differ.
    """
    return mean_over(_binary(*tensors(y_true, y_pred), from_logits, label_smoothing, "none"), axis)


@register()
@rowwise
def categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Tensor:
    """Returns `-sum(y log p)` over the classes.

    Args:
        y_true: A probability for each class, such as one-hot rows, (batch, ..., classes).
        y_pred: Probabilities (rescaled to sum 1, clipped at 1e-7), or logits; same shape.
        from_logits: Whether `y_pred` are logits.
        label_smoothing: Share by which targets are moved towards the uniform distribution; 0 to 1.
        axis: Axis of the classes.
    Returns: (batch, ...).
    Raises: ValueError: if the shapes differ.
    """
    return _categorical(*tensors(y_true, y_pred), from_logits, label_smoothing, axis)


@register()
@rowwise
def sparse_categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, ignore_class: int | None = None, axis: int = -1
) -> Tensor:
    """Returns `-log p` of the true class.

    Args:
        y_true: Class numbers, (batch, ...) or (batch, ..., 1).
        y_pred: Probabilities (rescaled to sum 1, clipped at 1e-7), or logits, (batch, ..., classes).
        from_logits: Whether `y_pred` are logits.
        ignore_class: Class number whose samples have loss 0.
        axis: Axis of the classes.
    Returns: (batch, ...).
    Raises: ValueError: if the shapes do not fit.
    """
    return _sparse(*tensors(y_true, y_pred), from_logits, ignore_class, axis, "none")


@register()
@same_values_as(binary_crossentropy)
class BinaryCrossentropy(KernelLoss):
    """Crossentropy of binary targets.

    Args:
        from_logits: Whether the predictions are logits instead of probabilities.
        label_smoothing: Share by which targets are moved towards 0.5; 0 to 1.
        axis: Axis of the mean.
        reduction: See `Loss`.
        name: Name of the loss.
        dtype: See `Loss`.

    Example:
        >>> BinaryCrossentropy()(torch.tensor([[1.0], [0.0]]), torch.tensor([[0.9], [0.1]]))
        tensor(0.1054)
    """

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "binary_crossentropy",
        dtype: Any = None,
    ):
        super().__init__(name, reduction, dtype)
        self.from_logits, self.axis = from_logits, axis
        self.label_smoothing = check_smoothing(label_smoothing)

    def check_targets(self, y_true: Tensor, output: torch.Size) -> None:
        if not self.from_logits:  # with logits, the formula allows any targets
            check_probabilities(y_true, self.name)

    def values(self, y_true: Tensor, y_pred: Tensor, reduction: str) -> Tensor:
        values = _binary(y_true, y_pred, self.from_logits, self.label_smoothing, reduction)
        return values if reduction == "mean" else mean_over(values, self.axis)


@register()
@same_values_as(categorical_crossentropy)
class CategoricalCrossentropy(PlainLoss):
    """Crossentropy of one-hot (or other) class probabilities.

    Args:
        from_logits: Whether the predictions are logits instead of probabilities.
        label_smoothing: Share by which targets are moved towards the uniform distribution; 0 to 1.
        axis: Axis of the classes.
        reduction: See `Loss`.
        name: Name of the loss.
        dtype: See `Loss`.

    Example:
        >>> CategoricalCrossentropy()(torch.eye(2), torch.tensor([[0.9, 0.1], [0.1, 0.9]]))
        tensor(0.1054)
    """

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "categorical_crossentropy",
        dtype: Any = None,
    ):
        super().__init__(name, reduction, dtype)
        self.from_logits, self.axis = from_logits, axis
        self.label_smoothing = check_smoothing(label_smoothing)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return _categorical(y_true, y_pred, self.from_logits, self.label_smoothing, self.axis)


@register()
@same_values_as(sparse_categorical_crossentropy)
class SparseCategoricalCrossentropy(KernelLoss):
    """Crossentropy with class numbers as targets.

    Args:
        from_logits: Whether the predictions are logits instead of probabilities.
        ignore_class: Class number whose samples have loss 0.
        reduction: See `Loss`.
        axis: Axis of the classes.
        name: Name of the loss.
        dtype: See `Loss`.

    Example:
        >>> SparseCategoricalCrossentropy()(torch.tensor([0, 1]), torch.tensor([[0.9, 0.1], [0.1, 0.9]]))
        tensor(0.1054)
    """

    sparse = True

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        axis: int = -1,
        name: str = "sparse_categorical_crossentropy",
        dtype: Any = None,
    ):
        super().__init__(name, reduction, dtype)
        self.from_logits, self.ignore_class, self.axis = from_logits, ignore_class, axis
        self.makes_mask = ignore_class is not None

    def check_targets(self, y_true: Tensor, output: torch.Size) -> None:
        if y_true.ndim < len(output) or y_true.shape[self.axis] == 1:
            check_labels(y_true, output[self.axis], self.name, self.ignore_class)

    def values(self, y_true: Tensor, y_pred: Tensor, reduction: str) -> Tensor:
        return _sparse(y_true, y_pred, self.from_logits, self.ignore_class, self.axis, reduction)


def _binary(y_true: Tensor, y_pred: Tensor, from_logits: bool, smoothing: float, reduction: str) -> Tensor:
    y_true, y_pred = same_shape(y_true, y_pred, "binary_crossentropy")
    if smoothing:
        y_true = y_true * (1 - smoothing) + 0.5 * smoothing
    if from_logits:
        return F.binary_cross_entropy_with_logits(y_pred, y_true, reduction=reduction)
    epsilon = config.epsilon()
    return crossentropy_of(y_pred.clamp(epsilon, 1 - epsilon), y_true, reduction)


def _categorical(y_true: Tensor, y_pred: Tensor, from_logits: bool, smoothing: float, axis: int) -> Tensor:
    y_true = categorical_targets(y_true, y_pred, smoothing, axis, "categorical_crossentropy")
    return -(y_true * _log_probabilities(y_pred, from_logits, axis)).sum(axis)


def _sparse(
    y_true: Tensor, y_pred: Tensor, from_logits: bool, ignore_class: int | None, axis: int, reduction: str
) -> Tensor:
    y_true = class_numbers(y_true, y_pred, axis, "sparse_categorical_crossentropy")
    valid = None
    if ignore_class is not None:
        valid = y_true != ignore_class
        y_true = y_true.where(valid, 0)
    log_p = _log_probabilities(y_pred, from_logits, axis)
    if log_p.ndim != 2:  # the backward pass of torch's kernel for images fails for channels_last views
        log_p = log_p.movedim(axis, -1).reshape(-1, log_p.shape[axis])
    values = F.nll_loss(log_p, y_true.flatten(), reduction=reduction)
    values = values.reshape(y_true.shape) if reduction == "none" else values
    if valid is not None:
        values = values.masked_fill(~valid, 0)
        values._keras_mask = valid  # type: ignore[attr-defined]
    return values


def categorical_targets(y_true: Tensor, y_pred: Tensor, smoothing: float, axis: int, name: str) -> Tensor:
    """Returns smoothed target probabilities in the predictions' dtype.

    Raises: ValueError: if the shapes differ.
    """
    if y_true.dtype is not y_pred.dtype:
        y_true = y_true.to(y_pred.dtype)
    if y_true.shape != y_pred.shape:
        raise ValueError(_looks_sparse(y_true, y_pred, name))
    if y_pred.shape[axis] == 1:
        warnings.warn(
            f"Loss {name!r} got a single class: predictions of shape {tuple(y_pred.shape)}; for two classes use "
            f"{name.replace('categorical', 'binary')!r} after a sigmoid.",
            SyntaxWarning,
            stacklevel=2,
        )
    return y_true * (1 - smoothing) + smoothing / y_true.shape[-1] if smoothing else y_true


def class_numbers(y_true: Tensor, y_pred: Tensor, axis: int, name: str) -> Tensor:
    """Returns class numbers, int64, without an axis in place of the classes.

    Raises: ValueError: if the shapes do not fit.
    """
    if y_true.ndim == y_pred.ndim and y_true.shape[axis] == 1:
        y_true = y_true.squeeze(axis)
    classes = axis % y_pred.ndim
    if y_true.shape != y_pred.shape[:classes] + y_pred.shape[classes + 1 :]:
        raise ValueError(_looks_dense(y_true, y_pred, name))
    return y_true if y_true.dtype is torch.int64 else y_true.long()


def _log_probabilities(y_pred: Tensor, from_logits: bool, axis: int) -> Tensor:
    """Returns the log-softmax from which a softmax's output comes: the same numbers in fewer kernels, without underflow."""
    if from_logits:
        return y_pred.log_softmax(axis)
    epsilon = config.epsilon()
    logits = getattr(y_pred, "_keras_logits", None)
    if logits is not None and axis in (-1, y_pred.ndim - 1):
        top = float(torch.tensor(1 - epsilon, dtype=y_pred.dtype).log()) if epsilon != 1e-7 else LOG_TOP
        return logits.log_softmax(-1).clamp(math.log(epsilon), top)
    return (y_pred / y_pred.sum(axis, keepdim=True)).clamp(epsilon, 1 - epsilon).log()


LOG_TOP = math.log1p(-(2.0**-23))  # log(1 - 1e-7) in float32


def mean_over(values: Tensor, axis: int) -> Tensor:
    """Returns the mean over an axis; a scalar is returned unchanged."""
    return values.mean(axis) if values.ndim else values


def check_smoothing(value: float) -> float:
    """Returns a `label_smoothing` after checking its range."""
    if not 0 <= value <= 1:
        raise ValueError(f"label_smoothing must be between 0 and 1; got {value!r}.")
    return value


def _looks_sparse(y_true: Tensor, y_pred: Tensor, name: str) -> str:
    text = mismatch(name, y_true.shape, y_pred.shape)
    if y_true.ndim == y_pred.ndim - 1 or y_true.shape[-1:] == (1,):
        return (
            f"{text.split('. ')[0].rstrip('.')}. The targets look like class numbers: use "
            f"'sparse_categorical_crossentropy', or utils.to_categorical(y, {y_pred.shape[-1]})."
        )
    return text


def _looks_dense(y_true: Tensor, y_pred: Tensor, name: str) -> str:
    text = mismatch(name, y_true.shape, y_pred.shape)
    if y_true.shape == y_pred.shape:
        return f"{text.split('. ')[0].rstrip('.')}. The targets look one-hot: use 'categorical_crossentropy'."
    return text
