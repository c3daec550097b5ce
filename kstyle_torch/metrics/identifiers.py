"""What `compile(metrics=[...])` may hold, made into metric objects."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor

from kstyle_torch import serialization
from kstyle_torch.losses.base import object_name
from kstyle_torch.metrics.base import Metric, registry
from kstyle_torch.metrics.reduction import MeanMetricWrapper
from kstyle_torch.registry import did_you_mean, snake_case


def is_accuracy(identifier: Any) -> bool:
    """Whether it is the name that means another metric for each kind of target."""
    return isinstance(identifier, str) and identifier.lower() in ("accuracy", "acc")


def to_metric(identifier: Any) -> Any:
    """The metric object that `compile(metrics=[...])` means. One of another library, with `update` and `compute`, too.

    Raises: ValueError: for an unknown name. TypeError: for what is no metric.
    """
    if hasattr(identifier, "update") and hasattr(identifier, "compute") and not inspect.isclass(identifier):
        return TorchMetric(identifier)
    found = serialization.get(identifier, registry)
    if not isinstance(found, Metric):
        found = MeanMetricWrapper(found, name=object_name(found))
    if isinstance(identifier, str):
        found.name = identifier
    return found


def unknown_metric(name: str) -> str:
    """What to say of a name that is no metric."""
    return f"Unknown metric {name!r}.{did_you_mean(name, [*registry, 'accuracy', 'acc'])}"


class TorchMetric(Metric):
    """A metric object of torchmetrics' kind: `update(prediction, target)`, `compute()`, `reset()`.

    Args:
        metric: The object.
    """

    def __init__(self, metric: Any):
        super().__init__(name=snake_case(type(metric).__name__))
        self.metric = metric

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Any = None) -> None:
        """Takes a batch in; weights are not known to such metrics."""
        if hasattr(self.metric, "to"):
            self.metric.to(y_pred.device)
        if y_true.ndim == y_pred.ndim - 1 and y_pred.shape[-1] == 1:
            y_pred = y_pred.squeeze(-1)
        self.metric.update(y_pred.detach(), y_true)

    def result(self) -> Any:
        """What `compute()` gives."""
        return self.metric.compute()

    def reset_state(self) -> None:
        """Forgets all batches."""
        self.metric.reset()
