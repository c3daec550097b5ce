"""Losses between distributions: Kullback-Leibler divergence, Poisson, and a crossentropy robust to label noise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kstyle_torch import config
from kstyle_torch.data.checks import check_labels
from kstyle_torch.losses.base import PlainLoss, broadcast, registry, rowwise, same_values_as, tensors
from kstyle_torch.losses.probabilistic import class_numbers, mean_over

register = registry.register


@register("kld", "KLD", "kullback_leibler_divergence")
@rowwise
def kl_divergence(y_true: Any, y_pred: Any) -> Tensor:
    """Returns `sum(y_true * log(y_true / y_pred))` over the last axis, of values clipped to [epsilon, 1].

    Args:
        y_true: Probabilities, (batch, ..., values).
        y_pred: Predictions of the same shape.
    Returns: (batch, ...).
    Raises: ValueError: if the shapes differ.
    """
    y_true, y_pred = broadcast(*tensors(y_true, y_pred), "kl_divergence")
    y_true, y_pred = y_true.clamp(config.epsilon(), 1), y_pred.clamp(config.epsilon(), 1)
    return (y_true * (y_true / y_pred).log()).sum(-1)


@register()
@rowwise
def poisson(y_true: Any, y_pred: Any) -> Tensor:
    """Returns `mean(y_pred - y_true * log(y_pred + epsilon))` over the last axis, for counts whose mean is predicted.

    Args:
        y_true: Counts, (batch, ..., values).
        y_pred: Predicted means, positive, of the same shape.
    Returns: (batch, ...).
    Raises: ValueError: if the shapes differ.
    """
    y_true, y_pred = broadcast(*tensors(y_true, y_pred), "poisson")
    return mean_over(y_pred - y_true * (y_pred + config.epsilon()).log(), -1)


@register()
@rowwise
def categorical_generalized_cross_entropy(y_true: Any, y_pred: Any, q: float) -> Tensor:
    """Returns `(1 - p**q) / q` of the probability of the true class: between crossentropy (q near 0) and absolute error (1).

    Args:
        y_true: Class numbers, (batch, ...) or (batch, ..., 1).
        y_pred: Probabilities, (batch, ..., classes).
        q: Between 0 and 1.
    Returns: (batch, ...).
    Raises: ValueError: if the shapes do not fit.
    Source: Zhang & Sabuncu 2018.
    """
    y_true, y_pred = tensors(y_true, y_pred)
    y_true = class_numbers(y_true, y_pred, -1, "categorical_generalized_cross_entropy")
    return (1 - y_pred.gather(-1, y_true.unsqueeze(-1)).squeeze(-1).pow(q)) / q


@register()
@same_values_as(kl_divergence)
class KLDivergence(PlainLoss):
    """Mean of `sum(y_true * log(y_true / y_pred))`.

    Args:
        reduction: See `Loss`.
        name: Name of the loss.
        dtype: See `Loss`.

    Example:
        >>> KLDivergence()(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.5]]))
        tensor(0.6931)
    """

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str = "kl_divergence", dtype: Any = None):
        super().__init__(name, reduction, dtype)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return kl_divergence(y_true, y_pred)


@register()
@same_values_as(poisson)
class Poisson(PlainLoss):
    """Mean of `y_pred - y_true * log(y_pred)`, for counts whose mean is predicted.

    Args:
        reduction: See `Loss`.
        name: Name of the loss.
        dtype: See `Loss`.

    Example:
        >>> Poisson()(torch.tensor([[2.0]]), torch.tensor([[1.0]]))
        tensor(1.0000)
    """

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str = "poisson", dtype: Any = None):
        super().__init__(name, reduction, dtype)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return poisson(y_true, y_pred)


@register()
@same_values_as(categorical_generalized_cross_entropy)
class CategoricalGeneralizedCrossEntropy(PlainLoss):
    """Mean of `(1 - p**q) / q`, which is less sensitive to wrong labels than crossentropy. Source: Zhang & Sabuncu 2018.

    Args:
        q: Between 0 (crossentropy) and 1 (absolute error).
        reduction: See `Loss`.
        name: Name of the loss.
        dtype: See `Loss`.
    Raises: ValueError: for another `q`.

    Example:
        >>> CategoricalGeneralizedCrossEntropy()(torch.tensor([0]), torch.tensor([[0.25, 0.75]]))
        tensor(1.)
    """

    sparse = True

    def __init__(
        self,
        q: float = 0.5,
        reduction: str | None = "sum_over_batch_size",
        name: str = "categorical_generalized_cross_entropy",
        dtype: Any = None,
    ):
        super().__init__(name, reduction, dtype)
        if not 0 < q < 1:
            raise ValueError(f"CategoricalGeneralizedCrossEntropy: q must be between 0 and 1; got {q!r}.")
        self.q = q

    def check_targets(self, y_true: Tensor, output: torch.Size) -> None:
        if y_true.ndim < len(output) or y_true.shape[-1] == 1:
            check_labels(y_true, output[-1], self.name)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return categorical_generalized_cross_entropy(y_true, y_pred, self.q)
