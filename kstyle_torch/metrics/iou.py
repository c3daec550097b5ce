"""Intersection over union: overlap of the true and predicted regions of classes."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from kstyle_torch import budget, config
from kstyle_torch.initializers import as_dtype
from kstyle_torch.metrics.base import Metric, registry
from kstyle_torch.metrics.reduction import largest, pair
from kstyle_torch.ops.operation import as_tensor

register = registry.register


@register()
class IoU(Metric):
    """The mean, over some classes, of `TP / (TP + FP + FN)`, computed from a confusion matrix.

    Classes that do not occur are excluded from the mean; class numbers out of range are ignored.

    Args:
        num_classes: Number of classes.
        target_class_ids: The classes of the mean.
        name: The key in logs and history.
        dtype: Dtype of the matrix; `"int32"` if None, which truncates fractional weights.
        ignore_class: Class number in the targets that is ignored, such as -1 or 255.
        sparse_y_true: Whether targets are class numbers; otherwise the class is the argmax along `axis`.
        sparse_y_pred: The same for predictions.
        axis: Axis of the classes, if not sparse.
    Raises: ValueError: for a class to average over that is not between 0 and `num_classes`.

    Example:
        >>> round(float(IoU(num_classes=2, target_class_ids=[0])([0, 0, 1, 1], [0, 1, 0, 1])), 4)
        0.3333
    """

    rowwise = True
    direction = "up"

    def __init__(
        self,
        num_classes: int,
        target_class_ids: Any,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
        axis: int = -1,
    ):
        super().__init__(name=name, dtype=dtype or "int32")
        budget.take(4 * num_classes**2, "a confusion matrix")  # before the classes are listed
        wrong = [number for number in target_class_ids if not 0 <= number < num_classes]
        if wrong:
            raise ValueError(
                f"{type(self).__name__}: target_class_ids must be between 0 and {num_classes - 1}; got {wrong[0]!r}."
            )
        self.num_classes, self.target_class_ids = num_classes, list(target_class_ids)
        self.ignore_class, self.axis = ignore_class, axis
        self.sparse_y_true, self.sparse_y_pred = sparse_y_true, sparse_y_pred
        shape = (num_classes, num_classes)
        self.total_cm = self.add_variable(shape, "zeros", dtype=self.dtype, name="total_confusion_matrix")

    @torch.no_grad()
    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Updates the state with a batch.

        Args:
            y_true: Class numbers, (batch, ...), or a value for each class.
            y_pred: Likewise.
            sample_weight: Weight of each sample or value, or one for all.
        Raises: ValueError: if the shapes do not fit.
        """
        y_true, y_pred = self._class_numbers(*pair(y_true, y_pred))
        num_values, shape = y_true.numel(), y_true.shape
        if num_values != y_pred.numel():
            raise ValueError(
                f"Metric {self.name!r}: {num_values} targets (shape {tuple(shape)}) do not fit {y_pred.numel()} predictions "
                f"(shape {tuple(y_pred.shape)}). For scores by class, set sparse_y_pred=False; for one-hot targets, "
                "sparse_y_true=False."
            )
        weight = self._weights(sample_weight, y_true)
        dtype = as_dtype(self.dtype)
        y_true, y_pred = y_true.flatten().to(dtype), y_pred.flatten().to(dtype)
        valid = (y_true >= 0) & (y_true < self.num_classes) & (y_pred >= 0) & (y_pred < self.num_classes)
        if self.ignore_class is not None:
            valid = valid & (y_true != self.ignore_class)
        cell = torch.where(valid, y_true.long() * self.num_classes + y_pred.long(), 0)
        found = torch.zeros(self.num_classes**2, dtype=weight.dtype, device=weight.device)
        found.scatter_add_(0, cell, torch.where(valid, weight, 0))
        self.total_cm.assign_add(found.view(self.num_classes, self.num_classes))

    def _class_numbers(self, y_true: Tensor, y_pred: Tensor) -> tuple[Tensor, Tensor]:
        y_true = y_true if self.sparse_y_true else largest(y_true, self.axis)
        return y_true, y_pred if self.sparse_y_pred else largest(y_pred, self.axis)

    def _weights(self, weight: Any, y_true: Tensor) -> Tensor:
        """Returns the weight of each value, flattened."""
        dtype = as_dtype(self.dtype)
        if weight is None:
            return torch.ones(y_true.numel(), dtype=dtype, device=y_true.device)
        weight = as_tensor(weight, device=y_true.device).to(y_true.device)
        if weight.is_floating_point() and not dtype.is_floating_point:
            warnings.warn(
                f"Metric {self.name!r} truncates fractional weights, since its dtype is {self.dtype!r}; for weights that "
                "are not integers, pass dtype='float32'.",
                stacklevel=4,
            )
        weight = weight.to(dtype)
        if weight.numel() in (1, y_true.numel()):
            return weight.flatten().expand(y_true.numel())
        try:
            weight = weight.reshape(weight.shape + (1,) * (y_true.ndim - weight.ndim)).broadcast_to(y_true.shape)
        except RuntimeError:
            raise ValueError(
                f"Metric {self.name!r}: sample_weight of shape {tuple(weight.shape)} does not fit targets of shape "
                f"{tuple(y_true.shape)}."
            ) from None
        return weight.flatten()

    def result(self) -> Tensor:
        """Returns the mean so far; 0 before the first batch."""
        matrix = self.total_cm.value
        epsilon = config.epsilon()
        hits = matrix.diagonal()
        union = matrix.sum(0, dtype=matrix.dtype) + matrix.sum(1, dtype=matrix.dtype) - hits
        if len(self.target_class_ids) < self.num_classes:
            hits = torch.stack([hits[number] for number in self.target_class_ids])
            union = torch.stack([union[number] for number in self.target_class_ids])
        hits, union = hits.to(torch.float32), union.to(torch.float32)
        occurs = union > 1e-9
        shares = torch.where(occurs, hits / (union + epsilon), 0)
        return shares.sum() / (occurs.sum() + epsilon)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments as plain data."""
        config = super().get_config()
        return {**config, "target_class_ids": self.target_class_ids} if "target_class_ids" in config else config


@register()
class BinaryIoU(IoU):
    """IoU of two classes, separated by a threshold.

    Args:
        target_class_ids: `[0]`, `[1]`, or both for their mean.
        threshold: Predictions of at least this are class 1.
        name: The key in logs and history.
        dtype: See `IoU`.
    Raises: ValueError: for a class other than 0 and 1.

    Example:
        >>> round(float(BinaryIoU(threshold=0.3)([0, 1, 0, 1], [0.1, 0.2, 0.4, 0.7])), 4)
        0.3333
    """

    def __init__(
        self, target_class_ids: Any = (0, 1), threshold: float = 0.5, name: str | None = None, dtype: Any = None
    ):
        super().__init__(2, target_class_ids, name, dtype)
        self.threshold = threshold

    def _class_numbers(self, y_true: Tensor, y_pred: Tensor) -> tuple[Tensor, Tensor]:
        return y_true, y_pred.to(torch.float32) >= self.threshold


@register()
class MeanIoU(IoU):
    """The mean IoU of all classes.

    Args:
        num_classes: Number of classes.
        name: The key in logs and history.
        dtype: See `IoU`, as are all others.

    Example:
        >>> round(float(MeanIoU(num_classes=2)([0, 0, 1, 1], [0, 1, 0, 1])), 4)
        0.3333
    """

    def __init__(
        self,
        num_classes: int,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
        axis: int = -1,
    ):
        super().__init__(num_classes, range(num_classes), name, dtype, ignore_class, sparse_y_true, sparse_y_pred, axis)


@register()
class OneHotIoU(IoU):
    """IoU for one-hot targets.

    Args:
        num_classes: Number of classes.
        target_class_ids: The classes of the mean.
        name: The key in logs and history.
        dtype: See `IoU`, as are all others.
    Raises: ValueError: for a class to average over that is not between 0 and `num_classes`.

    Example:
        >>> round(float(OneHotIoU(3, [0, 2])(torch.eye(3), torch.tensor([[0.9, 0, 0], [0, 0, 1], [0, 0, 1]]))), 4)
        0.75
    """

    def __init__(
        self,
        num_classes: int,
        target_class_ids: Any,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_pred: bool = False,
        axis: int = -1,
    ):
        super().__init__(num_classes, target_class_ids, name, dtype, ignore_class, False, sparse_y_pred, axis)


@register()
class OneHotMeanIoU(MeanIoU):
    """The mean IoU of all classes for one-hot targets.

    Args:
        num_classes: Number of classes.
        name: The key in logs and history.
        dtype: See `IoU`, as are all others.

    Example:
        >>> round(float(OneHotMeanIoU(3)(torch.eye(3), torch.tensor([[0.9, 0, 0], [0, 0, 1], [0, 0, 1]]))), 4)
        0.5
    """

    def __init__(
        self,
        num_classes: int,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_pred: bool = False,
        axis: int = -1,
    ):
        super().__init__(num_classes, name, dtype, ignore_class, False, sparse_y_pred, axis)
