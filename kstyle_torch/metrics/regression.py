"""How far predicted numbers are off."""

from __future__ import annotations

from kstyle_torch.initializers import DType
from kstyle_torch.losses import mean_absolute_error, mean_squared_error
from kstyle_torch.metrics.base import MeanMetricWrapper, registry

register = registry.register


@register("mse", "MSE")
class MeanSquaredError(MeanMetricWrapper):
    """Mean of `(y_true - y_pred)**2`.

    Args:
        name: The key in logs and history.
        dtype: Of the state.
    Example:
        >>> float(MeanSquaredError()(torch.zeros(2, 1), torch.tensor([[1.0], [3.0]])))
        5.0
    """

    direction = "down"

    def __init__(self, name: str = "mean_squared_error", dtype: DType = None):
        super().__init__(mean_squared_error, name, dtype)


@register("mae", "MAE")
class MeanAbsoluteError(MeanMetricWrapper):
    """Mean of `|y_true - y_pred|`.

    Args:
        name: The key in logs and history.
        dtype: Of the state.
    Example:
        >>> float(MeanAbsoluteError()(torch.zeros(2, 1), torch.tensor([[1.0], [3.0]])))
        2.0
    """

    direction = "down"

    def __init__(self, name: str = "mean_absolute_error", dtype: DType = None):
        super().__init__(mean_absolute_error, name, dtype)
