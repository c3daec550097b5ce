"""Regression metrics: errors of predicted numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kstyle_torch.initializers import as_dtype
from kstyle_torch.losses import (
    log_cosh,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    mean_squared_logarithmic_error,
)
from kstyle_torch.losses.base import broadcast
from kstyle_torch.metrics.base import registry
from kstyle_torch.metrics.reduction import Mean, MeanMetricWrapper, pair

register = registry.register


@register("mse", "MSE")
class MeanSquaredError(MeanMetricWrapper):
    """Mean of `(y_true - y_pred)**2`.

    Args:
        name: The key in logs and history.
        dtype: Dtype of the state.

    Example:
        >>> float(MeanSquaredError()(torch.zeros(2, 1), torch.tensor([[1.0], [3.0]])))
        5.0
    """

    direction = "down"

    def __init__(self, name: str | None = "mean_squared_error", dtype: Any = None):
        super().__init__(mean_squared_error, name, dtype)


@register()
class RootMeanSquaredError(Mean):
    """Square root of the mean of `(y_true - y_pred)**2`.

    Args:
        name: The key in logs and history.
        dtype: Dtype of the state.

    Example:
        >>> float(RootMeanSquaredError()(torch.zeros(2, 1), torch.tensor([[2.0], [2.0]])))
        2.0
    """

    direction = "down"
    rowwise = True

    def __init__(self, name: str | None = "root_mean_squared_error", dtype: Any = None):
        super().__init__(name, dtype)

    @torch.no_grad()
    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:  # type: ignore[override]
        """Updates the state with a batch of targets, predictions and weights."""
        dtype = as_dtype(self.dtype)
        y_true, y_pred = pair(y_true, y_pred)
        y_true, y_pred = broadcast(y_true.to(dtype), y_pred.to(dtype), self.name)
        super().update_state((y_pred - y_true).square(), sample_weight)

    def result(self) -> Tensor:
        """Returns the root mean square so far; 0 before the first value."""
        return super().result().sqrt()


@register("mae", "MAE")
class MeanAbsoluteError(MeanMetricWrapper):
    """Mean of `|y_true - y_pred|`.

    Args:
        name: The key in logs and history.
        dtype: Dtype of the state.

    Example:
        >>> float(MeanAbsoluteError()(torch.zeros(2, 1), torch.tensor([[1.0], [3.0]])))
        2.0
    """

    direction = "down"

    def __init__(self, name: str | None = "mean_absolute_error", dtype: Any = None):
        super().__init__(mean_absolute_error, name, dtype)


@register("mape", "MAPE")
class MeanAbsolutePercentageError(MeanMetricWrapper):
    """Mean of `100 * |y_true - y_pred| / |y_true|`.

    Args:
        name: The key in logs and history.
        dtype: Dtype of the state.

    Example:
        >>> float(MeanAbsolutePercentageError()([[2.0], [4.0]], [[1.0], [4.0]]))
        25.0
    """

    direction = "down"

    def __init__(self, name: str | None = "mean_absolute_percentage_error", dtype: Any = None):
        super().__init__(mean_absolute_percentage_error, name, dtype)


@register("msle", "MSLE")
class MeanSquaredLogarithmicError(MeanMetricWrapper):
    """Mean of `(log(1 + y_true) - log(1 + y_pred))**2`.

    Args:
        name: The key in logs and history.
        dtype: Dtype of the state.

    Example:
        >>> round(float(MeanSquaredLogarithmicError()([[0.0, 1.0], [0.0, 0.0]], [[1.0, 1.0], [0.0, 0.0]])), 4)
        0.1201
    """

    direction = "down"

    def __init__(self, name: str | None = "mean_squared_logarithmic_error", dtype: Any = None):
        super().__init__(mean_squared_logarithmic_error, name, dtype)


@register()
class LogCoshError(MeanMetricWrapper):
    """Mean of `log(cosh(y_pred - y_true))`.

    Args:
        name: The key in logs and history.
        dtype: Dtype of the state.

    Example:
        >>> round(float(LogCoshError()([[0.0, 1.0], [0.0, 0.0]], [[1.0, 1.0], [0.0, 0.0]])), 4)
        0.1084
    """

    direction = "down"

    def __init__(self, name: str | None = "logcosh", dtype: Any = None):
        super().__init__(log_cosh, name, dtype)
