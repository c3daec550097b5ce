"""Losses of predicted numbers."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from kstyle_torch.losses.base import PlainLoss, registry, rowwise, same_shape, same_values_as, tensors

register = registry.register


@register("mse", "MSE")
@rowwise
def mean_squared_error(y_true: Any, y_pred: Any) -> Tensor:
    """`mean((y_true - y_pred)**2)` over the last axis; (batch, ..., values) -> (batch, ...)."""
    return MeanSquaredError().call(*tensors(y_true, y_pred))


@register("mae", "MAE")
@rowwise
def mean_absolute_error(y_true: Any, y_pred: Any) -> Tensor:
    """`mean(|y_true - y_pred|)` over the last axis; (batch, ..., values) -> (batch, ...)."""
    return MeanAbsoluteError().call(*tensors(y_true, y_pred))


@register()
@rowwise
def huber(y_true: Any, y_pred: Any, delta: float = 1.0) -> Tensor:
    """Half the squared error up to `delta`, straight beyond, averaged over the last axis. Source: Huber 1964."""
    return Huber(delta).call(*tensors(y_true, y_pred))


class _RegressionLoss(PlainLoss):
    def values(self, y_true: Tensor, y_pred: Tensor, reduction: str) -> Tensor:
        values = self._kernel(*same_shape(y_true, y_pred, self.name), reduction)
        return values if reduction == "mean" or values.ndim == 0 else values.mean(-1)

    def _kernel(self, y_true: Tensor, y_pred: Tensor, reduction: str) -> Tensor:
        raise NotImplementedError


@register()
@same_values_as(mean_squared_error)
class MeanSquaredError(_RegressionLoss):
    """Mean of `(y_true - y_pred)**2`.

    Args:
        reduction: See `Loss`.
        name: What it is called.
    Example:
        >>> MeanSquaredError()(torch.zeros(2, 1), torch.tensor([[1.0], [3.0]]))
        tensor(5.)
    """

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str = "mean_squared_error", dtype: Any = None
    ):
        super().__init__(name, reduction)

    def _kernel(self, y_true: Tensor, y_pred: Tensor, reduction: str) -> Tensor:
        return F.mse_loss(y_pred, y_true, reduction=reduction)


@register()
@same_values_as(mean_absolute_error)
class MeanAbsoluteError(_RegressionLoss):
    """Mean of `|y_true - y_pred|`.

    Args:
        reduction: See `Loss`.
        name: What it is called.
    Example:
        >>> MeanAbsoluteError()(torch.zeros(2, 1), torch.tensor([[1.0], [3.0]]))
        tensor(2.)
    """

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str = "mean_absolute_error", dtype: Any = None
    ):
        super().__init__(name, reduction)

    def _kernel(self, y_true: Tensor, y_pred: Tensor, reduction: str) -> Tensor:
        return F.l1_loss(y_pred, y_true, reduction=reduction)


@register()
@same_values_as(huber)
class Huber(_RegressionLoss):
    """Half the squared error up to `delta`, straight beyond. Source: Huber 1964.

    Args:
        delta: Where the straight part begins; positive.
        reduction: See `Loss`.
        name: What it is called.
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
        super().__init__(name, reduction)
        if delta <= 0:
            raise ValueError(f"Huber: delta must be positive; got {delta!r}.")
        self.delta = delta

    def _kernel(self, y_true: Tensor, y_pred: Tensor, reduction: str) -> Tensor:
        return F.huber_loss(y_pred, y_true, reduction=reduction, delta=self.delta)
