"""Focal crossentropies, which give well-predicted samples less weight. Source: Lin et al. 2017."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kstyle_torch import config
from kstyle_torch.losses.base import PlainLoss, registry, rowwise, same_shape, same_values_as, tensors
from kstyle_torch.losses.probabilistic import categorical_targets, check_smoothing, mean_over
from kstyle_torch.ops.safe_binary_crossentropy import crossentropy_of

register = registry.register


@register()
@rowwise
def binary_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    apply_class_balancing: bool = False,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Tensor:
    """Returns `(1 - p)**gamma` times the binary crossentropy, where `p` is the probability of the true class.

    Args:
        y_true: 0, 1 or between, (batch, ..., values).
        y_pred: Probabilities, or logits; same shape.
        apply_class_balancing: Whether ones are weighted by `alpha` and zeros by `1 - alpha`.
        alpha: The weight of ones.
        gamma: Focusing parameter: how much less well-predicted values count; 0 for the plain crossentropy.
        from_logits: Whether `y_pred` are logits.
        label_smoothing: Share by which targets are moved towards 0.5; 0 to 1.
        axis: Axis of the mean.
    Returns: (batch, ...).
    Raises: ValueError: if the shapes differ.
    """
    y_true, y_pred = same_shape(*tensors(y_true, y_pred), "binary_focal_crossentropy")
    if label_smoothing:
        y_true = y_true * (1 - label_smoothing) + 0.5 * label_smoothing
    p = y_pred.sigmoid() if from_logits else y_pred
    epsilon = config.epsilon()
    values = crossentropy_of(p.clamp(epsilon, 1 - epsilon), y_true, "none")
    values = (1 - (y_true * p + (1 - y_true) * (1 - p))).pow(gamma) * values
    if apply_class_balancing:
        values = (y_true * alpha + (1 - y_true) * (1 - alpha)) * values
    return mean_over(values, axis)


@register()
@rowwise
def categorical_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    alpha: Any = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Tensor:
    """Returns `alpha * (1 - p)**gamma` times the crossentropy of every class, summed over the classes.

    Args:
        y_true: A probability for each class, such as one-hot rows, (batch, ..., classes).
        y_pred: Probabilities (rescaled to sum 1, clipped at 1e-7), or logits; same shape.
        alpha: A weight for all classes, or for each.
        gamma: Focusing parameter: how much less well-predicted values count; 0 for the plain crossentropy.
        from_logits: Whether `y_pred` are logits.
        label_smoothing: Share by which targets are moved towards the uniform distribution; 0 to 1.
        axis: Axis of the classes.
    Returns: (batch, ...).
    Raises: ValueError: if the shapes differ.
    """
    y_true, y_pred = tensors(y_true, y_pred)
    y_true = categorical_targets(y_true, y_pred, label_smoothing, axis, "categorical_focal_crossentropy")
    p = y_pred.softmax(axis) if from_logits else y_pred
    epsilon = config.epsilon()
    p = (p / p.sum(axis, keepdim=True)).clamp(epsilon, 1 - epsilon)
    weight = (1 - p).pow(gamma) * (p.new_tensor(alpha) if isinstance(alpha, (list, tuple)) else alpha)
    return (weight * (-y_true * p.log())).sum(axis)


@register()
@same_values_as(binary_focal_crossentropy)
class BinaryFocalCrossentropy(PlainLoss):
    """Binary crossentropy that gives well-predicted values less weight. Source: Lin et al. 2017.

    Args:
        apply_class_balancing: Whether ones are weighted by `alpha` and zeros by `1 - alpha`.
        alpha: The weight of ones.
        gamma: Focusing parameter: how much less well-predicted values count; 0 for the plain crossentropy.
        from_logits: Whether the predictions are logits instead of probabilities.
        label_smoothing: Share by which targets are moved towards 0.5; 0 to 1.
        axis: Axis of the mean.
        reduction: See `Loss`.
        name: Name of the loss.
        dtype: See `Loss`.

    Example:
        >>> BinaryFocalCrossentropy()(torch.tensor([[1.0], [0.0]]), torch.tensor([[0.9], [0.5]]))
        tensor(0.0872)
    """

    def __init__(
        self,
        apply_class_balancing: bool = False,
        alpha: float = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "binary_focal_crossentropy",
        dtype: Any = None,
    ):
        super().__init__(name, reduction, dtype)
        self.apply_class_balancing, self.alpha, self.gamma = apply_class_balancing, alpha, gamma
        self.from_logits, self.label_smoothing, self.axis = from_logits, check_smoothing(label_smoothing), axis

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return binary_focal_crossentropy(
            y_true,
            y_pred,
            self.apply_class_balancing,
            self.alpha,
            self.gamma,
            self.from_logits,
            self.label_smoothing,
            self.axis,
        )


@register()
@same_values_as(categorical_focal_crossentropy)
class CategoricalFocalCrossentropy(PlainLoss):
    """Categorical crossentropy that gives well-predicted samples less weight. Source: Lin et al. 2017.

    Args:
        alpha: A weight for all classes, or for each.
        gamma: Focusing parameter: how much less well-predicted values count; 0 for the plain crossentropy.
        from_logits: Whether the predictions are logits instead of probabilities.
        label_smoothing: Share by which targets are moved towards the uniform distribution; 0 to 1.
        axis: Axis of the classes.
        reduction: See `Loss`.
        name: Name of the loss.
        dtype: See `Loss`.

    Example:
        >>> CategoricalFocalCrossentropy()(torch.eye(2), torch.tensor([[0.9, 0.1], [0.5, 0.5]]))
        tensor(0.0218)
    """

    def __init__(
        self,
        alpha: Any = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "categorical_focal_crossentropy",
        dtype: Any = None,
    ):
        super().__init__(name, reduction, dtype)
        self.alpha, self.gamma, self.from_logits = alpha, gamma, from_logits
        self.label_smoothing, self.axis = check_smoothing(label_smoothing), axis

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return categorical_focal_crossentropy(
            y_true, y_pred, self.alpha, self.gamma, self.from_logits, self.label_smoothing, self.axis
        )
