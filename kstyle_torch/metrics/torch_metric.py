"""Adapter of metrics with torchmetrics' interface. The library itself is not needed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kstyle_torch.metrics.base import Metric
from kstyle_torch.registry import snake_case

PROTOCOL = ("update", "compute", "reset")
UNFIT = (TypeError, ValueError, RuntimeError)  # errors of a metric for targets in a form that it does not support


class TorchMetric(Metric):
    """Adapter of an object with `update(prediction, target)`, `compute()` and `reset()`.

    Predictions and targets are converted to torchmetrics' form: without a last axis of size 1 and without masked values,
    with the steps of sequences and the pixels of images as rows; targets as class numbers if the metric has `num_classes`,
    and as integers if it rejects them otherwise.

    Args:
        metric: The object; its result may be a number, a tensor, or a dict of these.
    """

    def __init__(self, metric: Any):
        super().__init__(name=snake_case(type(metric).__name__))
        self.metric = metric
        self._num_classes = getattr(metric, "num_classes", None)
        self._wants_integers: bool | None = None  # unknown before the first batch

    @torch.no_grad()
    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Updates the state with a batch.

        Raises: ValueError: for weights, which such metrics do not take.
        """
        if sample_weight is not None:
            raise ValueError(no_weights(self.name))
        mask = getattr(y_pred, "_keras_mask", None)
        y_pred = torch.as_tensor(y_pred).detach()
        self.to(y_pred.device)
        target, prediction = _as_rows(torch.as_tensor(y_true).to(y_pred.device), y_pred, mask)
        if target.ndim > 1 and target.shape == prediction.shape and target.shape[-1] == self._num_classes:
            target = target.argmax(-1)  # one-hot
        if not target.is_floating_point() or self._wants_integers is False:
            self.metric.update(prediction, target)
        elif self._wants_integers:
            self.metric.update(prediction, target.long())
        else:
            self._wants_integers = self._first_update(prediction, target)

    def _first_update(self, prediction: Tensor, target: Tensor) -> bool:
        """Returns whether the metric rejects the targets unchanged, but accepts them as integers."""
        try:
            self.metric.update(prediction, target)
        except UNFIT as refused:
            if (target != target.round()).any():  # the host waits for the device here, once
                raise
            try:
                self.metric.update(prediction, target.long())
            except UNFIT:
                raise refused from None
            return True
        return False

    def result(self) -> Any:
        """Returns the result of `compute()`."""
        return self.metric.compute()

    def reset_state(self) -> None:
        """Resets the state."""
        self.metric.reset()

    def to(self, device: Any) -> None:
        """Moves the state to a device."""
        if hasattr(self.metric, "to") and getattr(self.metric, "device", None) != torch.device(device):
            self.metric.to(device)


def is_torch_metric(identifier: Any) -> bool:
    """Returns whether it has torchmetrics' interface and is not a metric of this package."""
    ours = isinstance(identifier, Metric) or (isinstance(identifier, type) and issubclass(identifier, Metric))
    return not ours and all(callable(getattr(identifier, name, None)) for name in PROTOCOL)


def no_weights(name: str) -> str:
    """Returns the message for a torchmetrics object among the weighted metrics."""
    return f"Metric {name!r} is called as update(prediction, target) and takes no weights: pass it in metrics=[...]."


def _as_rows(target: Tensor, prediction: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    if prediction.ndim > 1 and prediction.shape[-1] == 1:
        prediction = prediction.squeeze(-1)
    if target.ndim > 1 and target.shape[-1] == 1 and target.shape != prediction.shape:
        target = target.squeeze(-1)
    if mask is not None:
        kept = mask.squeeze(-1) if mask.ndim == target.ndim + 1 else mask
        if kept.shape == target.shape[: kept.ndim]:
            return target[kept], prediction[kept]
    if (
        prediction.ndim == target.ndim + 1 and prediction.ndim > 2
    ):  # classes are the last axis; torchmetrics has them second
        return target.flatten(), prediction.flatten(0, -2)
    return target, prediction
