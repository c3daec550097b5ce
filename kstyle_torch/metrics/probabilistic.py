"""Probabilistic metrics: crossentropies and divergences of predicted probabilities."""

from __future__ import annotations

from typing import Any

from kstyle_torch.losses import (
    binary_crossentropy,
    categorical_crossentropy,
    kl_divergence,
    poisson,
    sparse_categorical_crossentropy,
)
from kstyle_torch.metrics.base import registry
from kstyle_torch.metrics.reduction import MeanMetricWrapper

register = registry.register


@register("bce", "BCE")
class BinaryCrossentropy(MeanMetricWrapper):
    """The mean crossentropy of binary targets.

    Args:
        name: The key in logs and history.
        dtype: Dtype of the state.
        from_logits: Whether the predictions are logits instead of probabilities.
        label_smoothing: Share by which targets are moved towards 0.5; 0 to 1.

    Example:
        >>> round(float(BinaryCrossentropy()([[0, 1], [0, 0]], [[0.6, 0.4], [0.4, 0.6]])), 4)
        0.8149
    """

    direction = "down"

    def __init__(
        self,
        name: str | None = "binary_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        label_smoothing: float = 0,
    ):
        super().__init__(binary_crossentropy, name, dtype, from_logits=from_logits, label_smoothing=label_smoothing)
        self.from_logits, self.label_smoothing = from_logits, label_smoothing


@register()
class CategoricalCrossentropy(MeanMetricWrapper):
    """The mean crossentropy of one-hot targets.

    Args:
        name: The key in logs and history.
        dtype: Dtype of the state.
        from_logits: Whether the predictions are logits instead of probabilities.
        label_smoothing: Share by which targets are moved towards the uniform distribution; 0 to 1.
        axis: Axis of the classes.

    Example:
        >>> round(float(CategoricalCrossentropy()([[0, 1, 0], [0, 0, 1]], [[0.05, 0.95, 0], [0.1, 0.8, 0.1]])), 4)
        1.1769
    """

    direction = "down"

    def __init__(
        self,
        name: str | None = "categorical_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        label_smoothing: float = 0,
        axis: int = -1,
    ):
        options = {"from_logits": from_logits, "label_smoothing": label_smoothing, "axis": axis}
        super().__init__(categorical_crossentropy, name, dtype, **options)
        self.from_logits, self.label_smoothing, self.axis = from_logits, label_smoothing, axis


@register()
class SparseCategoricalCrossentropy(MeanMetricWrapper):
    """The mean crossentropy with class numbers as targets.

    Args:
        name: The key in logs and history.
        dtype: Dtype of the state.
        from_logits: Whether the predictions are logits instead of probabilities.
        ignore_class: Class number whose samples have loss 0.
        axis: Axis of the classes.

    Example:
        >>> round(float(SparseCategoricalCrossentropy()([1, 2], [[0.05, 0.95, 0], [0.1, 0.8, 0.1]])), 4)
        1.1769
    """

    direction = "down"

    def __init__(
        self,
        name: str | None = "sparse_categorical_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        ignore_class: int | None = None,
        axis: int = -1,
    ):
        options = {"from_logits": from_logits, "ignore_class": ignore_class, "axis": axis}
        super().__init__(sparse_categorical_crossentropy, name, dtype, **options)
        self.from_logits, self.ignore_class, self.axis = from_logits, ignore_class, axis


@register()
class KLDivergence(MeanMetricWrapper):
    """The mean Kullback-Leibler divergence: `sum(y_true * log(y_true / y_pred))`.

    Args:
        name: The key in logs and history.
        dtype: Dtype of the state.

    Example:
        >>> round(float(KLDivergence()([[0, 1], [0, 0]], [[0.6, 0.4], [0.4, 0.6]])), 4)
        0.4581
    """

    direction = "down"

    def __init__(self, name: str | None = "kl_divergence", dtype: Any = None):
        super().__init__(kl_divergence, name, dtype)


@register()
class Poisson(MeanMetricWrapper):
    """The mean of `y_pred - y_true * log(y_pred)`.

    Args:
        name: The key in logs and history.
        dtype: Dtype of the state.

    Example:
        >>> round(float(Poisson()([[0, 1], [0, 0]], [[1, 1], [0, 0]])), 4)
        0.5
    """

    direction = "down"

    def __init__(self, name: str | None = "poisson", dtype: Any = None):
        super().__init__(poisson, name, dtype)
