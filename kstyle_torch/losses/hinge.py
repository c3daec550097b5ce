"""Margin losses: hinge losses, and the circle loss of embeddings."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kstyle_torch.losses.base import PlainLoss, broadcast, registry, rowwise, same_values_as, tensors

register = registry.register


@register()
def hinge(y_true: Any, y_pred: Any) -> Tensor:
    """Returns `mean(max(1 - y_true * y_pred, 0))` over the last axis; (batch, ..., values) -> (batch, ...).

    Args:
        y_true: -1 and 1; or 0 and 1, if the batch holds no other values.
        y_pred: Predictions of the same shape; one of the two may have an additional last axis of size 1.
    Raises: ValueError: if the shapes differ.
    """
    return _mean(_margin(y_true, y_pred, "hinge"))


@register()
def squared_hinge(y_true: Any, y_pred: Any) -> Tensor:
    """Returns `mean(max(1 - y_true * y_pred, 0)**2)` over the last axis; see `hinge`."""
    return _mean(_margin(y_true, y_pred, "squared_hinge").square())


@register()
@rowwise
def categorical_hinge(y_true: Any, y_pred: Any) -> Tensor:
    """Returns `max(largest wrong prediction - right prediction + 1, 0)`; (batch, ..., classes) -> (batch, ...).

    Args:
        y_true: One-hot rows.
        y_pred: Predictions of the same shape.
    Raises: ValueError: if the shapes differ.
    """
    y_true, y_pred = broadcast(*tensors(y_true, y_pred), "categorical_hinge")
    right = (y_true * y_pred).sum(-1)
    wrong = ((1 - y_true) * y_pred).amax(-1)
    return _positive(wrong - right + 1)


@register()
def circle(
    y_true: Any,
    y_pred: Any,
    ref_labels: Any = None,
    ref_embeddings: Any = None,
    remove_diagonal: bool = True,
    gamma: float = 80,
    margin: float = 0.4,
) -> Tensor:
    """Pulls embeddings with the same label together and pushes others apart.

    Args:
        y_true: Labels, (batch,) or (batch, 1).
        y_pred: Embeddings of length 1, (batch, features).
        ref_labels: Labels of `ref_embeddings`, (others,); those of the batch if None.
        ref_embeddings: Embeddings to compare with, (others, features); those of the batch if None.
        remove_diagonal: Whether an embedding is not compared with itself.
        gamma: Scale of the similarities.
        margin: Relaxation of the target similarities.
    Returns: (batch,), with a mask that excludes samples without pairs.
    Source: Sun et al. 2020.
    """
    labels, embeddings = tensors(y_true, y_pred)
    labels = labels.to(torch.int32)
    others = embeddings if ref_embeddings is None else torch.as_tensor(ref_embeddings).to(embeddings)
    other_labels = labels if ref_labels is None else torch.as_tensor(ref_labels).to(labels)
    same = labels.reshape(-1, 1) == other_labels.reshape(1, -1)
    different = ~same
    if remove_diagonal:
        same = same & ~torch.eye(*same.shape, dtype=torch.bool, device=same.device)
    distance = _positive(1 - embeddings @ others.T)
    near = -gamma * _positive((margin + distance) * same) * (margin - distance)
    far = gamma * _positive((1 + margin - distance) * different) * (1 - margin - distance)
    values = F.softplus(_logsumexp(near, same) + _logsumexp(far, different))
    values._keras_mask = values > 0  # type: ignore[attr-defined]
    return values


@register()
@same_values_as(hinge)
class Hinge(PlainLoss):
    """Mean of `max(1 - y_true * y_pred, 0)`; targets are -1 and 1, or 0 and 1.

    Args:
        reduction: See `Loss`.
        name: Name of the loss.
        dtype: See `Loss`.

    Example:
        >>> Hinge()(torch.tensor([[1.0], [-1.0]]), torch.tensor([[0.5], [0.5]]))
        tensor(1.)
    """

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str = "hinge", dtype: Any = None):
        super().__init__(name, reduction, dtype)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return hinge(y_true, y_pred)


@register()
@same_values_as(squared_hinge)
class SquaredHinge(PlainLoss):
    """Mean of `max(1 - y_true * y_pred, 0)**2`; targets are -1 and 1, or 0 and 1.

    Args:
        reduction: See `Loss`.
        name: Name of the loss.
        dtype: See `Loss`.

    Example:
        >>> SquaredHinge()(torch.tensor([[1.0], [-1.0]]), torch.tensor([[0.5], [0.5]]))
        tensor(1.2500)
    """

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str = "squared_hinge", dtype: Any = None):
        super().__init__(name, reduction, dtype)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return squared_hinge(y_true, y_pred)


@register()
@same_values_as(categorical_hinge)
class CategoricalHinge(PlainLoss):
    """Mean of `max(largest wrong prediction - right prediction + 1, 0)`; targets are one-hot.

    Args:
        reduction: See `Loss`.
        name: Name of the loss.
        dtype: See `Loss`.

    Example:
        >>> CategoricalHinge()(torch.eye(2), torch.tensor([[0.9, 0.1], [0.1, 0.9]]))
        tensor(0.2000)
    """

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str = "categorical_hinge", dtype: Any = None
    ):
        super().__init__(name, reduction, dtype)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return categorical_hinge(y_true, y_pred)


@register()
@same_values_as(circle)
class Circle(PlainLoss):
    """Loss that pulls embeddings with the same label together and pushes others apart. Source: Sun et al. 2020.

    Args:
        gamma: Scale of the similarities.
        margin: Relaxation of the target similarities.
        remove_diagonal: Whether an embedding is not compared with itself.
        reduction: See `Loss`; samples without pairs do not count.
        name: Name of the loss.
        dtype: See `Loss`.

    Example:
        >>> Circle()(torch.tensor([0, 0, 1]), torch.eye(3)) > 0
        tensor(True)
    """

    sparse = True
    makes_mask = True

    def __init__(
        self,
        gamma: float = 80.0,
        margin: float = 0.4,
        remove_diagonal: bool = True,
        reduction: str | None = "sum_over_batch_size",
        name: str = "circle",
        dtype: Any = None,
    ):
        super().__init__(name, reduction, dtype)
        self.gamma, self.margin, self.remove_diagonal = gamma, margin, remove_diagonal

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return circle(y_true, y_pred, remove_diagonal=self.remove_diagonal, gamma=self.gamma, margin=self.margin)


def _margin(y_true: Any, y_pred: Any, name: str) -> Tensor:
    y_true, y_pred = broadcast(*tensors(y_true, y_pred), name)
    is_binary = ((y_true == 0) | (y_true == 1)).all()
    y_true = torch.where(is_binary, 2 * y_true - 1, y_true)  # on the device, so that the host does not wait
    return _positive(1 - y_true * y_pred)


def _positive(x: Tensor) -> Tensor:
    return torch.maximum(x, x.new_zeros(()))  # the gradient at 0 is one half, as in Keras


def _mean(values: Tensor) -> Tensor:
    return values.mean(-1) if values.ndim else values


def _logsumexp(x: Tensor, kept: Tensor) -> Tensor:
    return x.masked_fill(~kept, -torch.inf).logsumexp(1)
