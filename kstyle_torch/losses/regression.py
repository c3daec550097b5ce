"""Regression losses."""

from __future__ import annotations

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from kstyle_torch import config, ops
from kstyle_torch.losses.base import (
    KernelLoss,
    PlainLoss,
    broadcast,
    registry,
    rowwise,
    same_rank,
    same_values_as,
    tensors,
)

register = registry.register


@register("mse", "MSE")
@rowwise
def mean_squared_error(y_true: Any, y_pred: Any) -> Tensor:
    """Returns `mean((y_true - y_pred)**2)` over the last axis; (batch, ..., values) -> (batch, ...)."""
    return MeanSquaredError().call(*tensors(y_true, y_pred))


@register("mae", "MAE")
@rowwise
def mean_absolute_error(y_true: Any, y_pred: Any) -> Tensor:
    """Returns `mean(|y_true - y_pred|)` over the last axis; (batch, ..., values) -> (batch, ...)."""
    return MeanAbsoluteError().call(*tensors(y_true, y_pred))


@register("mape", "MAPE")
@rowwise
def mean_absolute_percentage_error(y_true: Any, y_pred: Any) -> Tensor:
    """Returns `100 * mean(|y_true - y_pred| / max(|y_true|, epsilon))` over the last axis."""
    y_true, y_pred = broadcast(*tensors(y_true, y_pred), "mean_absolute_percentage_error")
    return 100 * _mean(((y_true - y_pred) / y_true.abs().clamp(min=config.epsilon())).abs())


@register("msle", "MSLE")
@rowwise
def mean_squared_logarithmic_error(y_true: Any, y_pred: Any) -> Tensor:
    """Returns `mean((log(1 + y_true) - log(1 + y_pred))**2)` over the last axis, of values clipped to at least epsilon."""
    y_true, y_pred = broadcast(*tensors(y_true, y_pred), "mean_squared_logarithmic_error")
    logs = [(y.clamp(min=config.epsilon()) + 1).log() for y in (y_pred, y_true)]
    return _mean((logs[0] - logs[1]).square())


@register()
@rowwise
def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> Tensor:
    """Returns the negative cosine similarity of vectors along `axis`: -1 for the same direction.

    Args:
        y_true: Vectors.
        y_pred: Predictions of the same shape.
        axis: Axis or axes of the vectors.
    Raises: ValueError: if the shapes differ.
    """
    y_true, y_pred = (ops.normalize(vectors, axis) for vectors in same_rank(*tensors(y_true, y_pred)))
    y_true, y_pred = broadcast(y_true, y_pred, "cosine_similarity")
    return -(y_true * y_pred).sum(axis)


@register("logcosh")
@rowwise
def log_cosh(y_true: Any, y_pred: Any) -> Tensor:
    """Returns `mean(log(cosh(y_pred - y_true)))` over the last axis: quadratic for small errors, linear for large ones."""
    y_true, y_pred = broadcast(*tensors(y_true, y_pred), "log_cosh")
    error = y_pred - y_true
    return _mean(error + F.softplus(-2 * error) - math.log(2))  # this form does not overflow


@register()
@rowwise
def huber(y_true: Any, y_pred: Any, delta: float = 1.0) -> Tensor:
    """Returns half the squared error up to `delta`, linear beyond, averaged over the last axis. Source: Huber 1964."""
    return Huber(delta).call(*tensors(y_true, y_pred))


class _RegressionLoss(KernelLoss):
    def values(self, y_true: Tensor, y_pred: Tensor, reduction: str) -> Tensor:
        values = self._kernel(*broadcast(y_true, y_pred, self.name), reduction)
        return values if reduction == "mean" else _mean(values)

    def _kernel(self, y_true: Tensor, y_pred: Tensor, reduction: str) -> Tensor:
        raise NotImplementedError


@register()
@same_values_as(mean_squared_error)
class MeanSquaredError(_RegressionLoss):
    """Mean of `(y_true - y_pred)**2`.

    Args:
        reduction: See `Loss`.
        name: Name of the loss.
        dtype: See `Loss`.

    Example:
        >>> MeanSquaredError()(torch.zeros(2, 1), torch.tensor([[1.0], [3.0]]))
        tensor(5.)
    """

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str = "mean_squared_error", dtype: Any = None
    ):
        super().__init__(name, reduction, dtype)

    def _kernel(self, y_true: Tensor, y_pred: Tensor, reduction: str) -> Tensor:
        return F.mse_loss(y_pred, y_true, reduction=reduction)


@register()
@same_values_as(mean_absolute_error)
class MeanAbsoluteError(_RegressionLoss):
    """Mean of `|y_true - y_pred|`.

    Args:
        reduction: See `Loss`.
        name: Name of the loss.
        dtype: See `Loss`.

    Example:
        >>> MeanAbsoluteError()(torch.zeros(2, 1), torch.tensor([[1.0], [3.0]]))
        tensor(2.)
    """

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str = "mean_absolute_error", dtype: Any = None
    ):
        super().__init__(name, reduction, dtype)

    def _kernel(self, y_true: Tensor, y_pred: Tensor, reduction: str) -> Tensor:
        return F.l1_loss(y_pred, y_true, reduction=reduction)


@register()
@same_values_as(huber)
class Huber(_RegressionLoss):
    """Half the squared error up to `delta`, linear beyond. Source: Huber 1964.

    Args:
        delta: Start of the linear part; positive.
        reduction: See `Loss`.
        name: Name of the loss.
        dtype: See `Loss`.
    Raises: ValueError: if `delta` is not positive.

    Example:
        >>> Huber()(torch.zeros(2, 1), torch.tensor([[1.0], [3.0]]))
        tensor(1.5000)
    """

    def __init__(
        self,
        delta: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str = "huber_loss",
        dtype: Any = None,
    ):
        super().__init__(name, reduction, dtype)
        if delta <= 0:
            raise ValueError(f"Huber: delta must be positive; got {delta!r}.")
        self.delta = delta

    def _kernel(self, y_true: Tensor, y_pred: Tensor, reduction: str) -> Tensor:
        return F.huber_loss(y_pred, y_true, reduction=reduction, delta=self.delta)


@register()
@same_values_as(mean_absolute_percentage_error)
class MeanAbsolutePercentageError(PlainLoss):
    """Mean of `100 * |y_true - y_pred| / |y_true|`.

    Args:
        reduction: See `Loss`.
        name: Name of the loss.
        dtype: See `Loss`.

    Example:
        >>> MeanAbsolutePercentageError()(torch.ones(2, 1), torch.tensor([[1.5], [1.0]]))
        tensor(25.)
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "mean_absolute_percentage_error",
        dtype: Any = None,
    ):
        super().__init__(name, reduction, dtype)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return mean_absolute_percentage_error(y_true, y_pred)


@register()
@same_values_as(mean_squared_logarithmic_error)
class MeanSquaredLogarithmicError(PlainLoss):
    """Mean of `(log(1 + y_true) - log(1 + y_pred))**2`.

    Args:
        reduction: See `Loss`.
        name: Name of the loss.
        dtype: See `Loss`.

    Example:
        >>> MeanSquaredLogarithmicError()(torch.ones(1, 1), torch.tensor([[3.0]]))
        tensor(0.4805)
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "mean_squared_logarithmic_error",
        dtype: Any = None,
    ):
        super().__init__(name, reduction, dtype)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return mean_squared_logarithmic_error(y_true, y_pred)


@register()
@same_values_as(cosine_similarity)
class CosineSimilarity(PlainLoss):
    """Mean negative cosine similarity of target and prediction: -1 for the same direction.

    Args:
        axis: Axis or axes of the vectors.
        reduction: See `Loss`.
        name: Name of the loss.
        dtype: See `Loss`.

    Example:
        >>> CosineSimilarity()(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 2.0]]))
        tensor(-1.)
    """

    def __init__(
        self,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "cosine_similarity",
        dtype: Any = None,
    ):
        super().__init__(name, reduction, dtype)
        self.axis = axis

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return cosine_similarity(y_true, y_pred, self.axis)


@register()
@same_values_as(log_cosh)
class LogCosh(PlainLoss):
    """Mean of `log(cosh(y_pred - y_true))`: quadratic for small errors, linear for large ones.

    Args:
        reduction: See `Loss`.
        name: Name of the loss.
        dtype: See `Loss`.

    Example:
        >>> LogCosh()(torch.zeros(1, 1), torch.tensor([[1.0]]))
        tensor(0.4338)
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "log_cosh",
        dtype: Any = None,
    ):
        super().__init__(name, reduction, dtype)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return log_cosh(y_true, y_pred)


def _mean(values: Tensor) -> Tensor:
    return values.mean(-1) if values.ndim else values
