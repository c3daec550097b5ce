"""Hinge losses as metrics."""

from __future__ import annotations

from typing import Any

from kstyle_torch.losses import categorical_hinge, hinge, squared_hinge
from kstyle_torch.metrics.base import registry
from kstyle_torch.metrics.reduction import MeanMetricWrapper

register = registry.register


@register()
class Hinge(MeanMetricWrapper):
    """The mean of `max(1 - y_true * y_pred, 0)`, for targets -1 and 1, or 0 and 1.

    Args:
        name: The key in logs and history.
        dtype: Dtype of the state.

    Example:
        >>> round(float(Hinge()([[0, 1], [0, 0]], [[0.6, 0.4], [0.4, 0.6]])), 4)
        1.3
    """

    direction = "down"

    def __init__(self, name: str | None = "hinge", dtype: Any = None):
        super().__init__(hinge, name, dtype)


@register()
class SquaredHinge(MeanMetricWrapper):
    """The mean of `max(1 - y_true * y_pred, 0)**2`, for targets -1 and 1, or 0 and 1.

    Args:
        name: The key in logs and history.
        dtype: Dtype of the state.

    Example:
        >>> round(float(SquaredHinge()([[0, 1], [0, 0]], [[0.6, 0.4], [0.4, 0.6]])), 4)
        1.86
    """

    direction = "down"

    def __init__(self, name: str | None = "squared_hinge", dtype: Any = None):
        super().__init__(squared_hinge, name, dtype)


@register()
class CategoricalHinge(MeanMetricWrapper):
    """The mean of `max(largest wrong prediction - right prediction + 1, 0)`, for one-hot targets.

    Args:
        name: The key in logs and history.
        dtype: Dtype of the state.

    Example:
        >>> round(float(CategoricalHinge()([[0, 1], [0, 0]], [[0.6, 0.4], [0.4, 0.6]])), 4)
        1.4
    """

    direction = "down"

    def __init__(self, name: str | None = "categorical_hinge", dtype: Any = None):
        super().__init__(categorical_hinge, name, dtype)
