"""Segmentation losses from the overlap of regions."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kstyle_torch import config
from kstyle_torch.losses.base import PlainLoss, registry, same_shape, same_values_as, tensors

register = registry.register
Axis = int | tuple[int, ...] | list[int] | None


@register()
def dice(y_true: Any, y_pred: Any, axis: Axis = None) -> Tensor:
    """Returns `1 - 2 * overlap / (size of one + size of the other)`.

    Args:
        y_true: The true region, 0 to 1.
        y_pred: The predicted region, of the same shape.
        axis: Axes of the regions; all, including the batch, if None.
    Returns: The remaining axes; a scalar if none remain.
    Raises: ValueError: if the shapes differ.
    Source: Milletari et al. 2016.
    """
    y_true, y_pred = same_shape(*tensors(y_true, y_pred), "dice")
    return 1 - 2 * _sum(y_true * y_pred, axis) / (_sum(y_true, axis) + _sum(y_pred, axis) + config.epsilon())


@register()
def tversky(y_true: Any, y_pred: Any, alpha: float = 0.5, beta: float = 0.5, axis: Axis = None) -> Tensor:
    """Returns `1 - overlap / (overlap + alpha * false_negatives + beta * false_positives)`.

    Args:
        y_true: The true region, 0 to 1.
        y_pred: The predicted region, of the same shape.
        alpha: What it costs to miss.
        beta: What it costs to predict too much.
        axis: Axes of the regions; all, including the batch, if None.
    Returns: The remaining axes; a scalar if none remain.
    Raises: ValueError: if the shapes differ.
    Source: Salehi et al. 2017.
    """
    y_true, y_pred = same_shape(*tensors(y_true, y_pred), "tversky")
    overlap = _sum(y_true * y_pred, axis)
    missed, surplus = _sum((1 - y_pred) * y_true, axis), _sum(y_pred * (1 - y_true), axis)
    return 1 - overlap / (overlap + missed * alpha + surplus * beta + config.epsilon())


@register()
@same_values_as(dice)
class Dice(PlainLoss):
    """`1 - 2 * overlap / (size of one + size of the other)`. Source: Milletari et al. 2016.

    Args:
        reduction: See `Loss`.
        name: Name of the loss.
        axis: Axes of the regions; all, including the batch, if None.
        dtype: See `Loss`.

    Example:
        >>> Dice()(torch.tensor([[1.0, 1.0, 0.0, 0.0]]), torch.tensor([[0.0, 1.0, 1.0, 0.0]]))
        tensor(0.5000)
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "dice",
        axis: Axis = None,
        dtype: Any = None,
    ):
        super().__init__(name, reduction, dtype)
        self.axis = axis

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return dice(y_true, y_pred, self.axis)


@register()
@same_values_as(tversky)
class Tversky(PlainLoss):
    """`1 - overlap / (overlap + alpha * false_negatives + beta * false_positives)`. Source: Salehi et al. 2017.

    Args:
        alpha: What it costs to miss.
        beta: What it costs to predict too much.
        reduction: See `Loss`.
        name: Name of the loss.
        axis: Axes of the regions; all, including the batch, if None.
        dtype: See `Loss`.

    Example:
        >>> Tversky()(torch.tensor([[1.0, 1.0, 0.0, 0.0]]), torch.tensor([[0.0, 1.0, 1.0, 0.0]]))
        tensor(0.5000)
    """

    def __init__(
        self,
        alpha: float = 0.5,
        beta: float = 0.5,
        reduction: str | None = "sum_over_batch_size",
        name: str = "tversky",
        axis: Axis = None,
        dtype: Any = None,
    ):
        super().__init__(name, reduction, dtype)
        self.alpha, self.beta, self.axis = alpha, beta, axis

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return tversky(y_true, y_pred, self.alpha, self.beta, self.axis)


def _sum(x: Tensor, axis: Axis) -> Tensor:
    return x.sum() if axis is None else x.sum(axis)
