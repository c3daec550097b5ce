"""Lookup of metrics: from the items of `compile(metrics=[...])` to metric objects."""

from __future__ import annotations

import inspect
from typing import Any

from kstyle_torch import serialization
from kstyle_torch.losses.base import object_name
from kstyle_torch.metrics.base import Metric, registry
from kstyle_torch.metrics.reduction import MeanMetricWrapper
from kstyle_torch.metrics.torch_metric import TorchMetric, is_torch_metric
from kstyle_torch.registry import did_you_mean


def is_accuracy(identifier: Any) -> bool:
    """Returns whether it is a name whose metric depends on the kind of targets."""
    return isinstance(identifier, str) and identifier.lower() in ("accuracy", "acc")


def to_metric(identifier: Any) -> Any:
    """Returns the metric object for an item of `compile(metrics=[...])`; objects of torchmetrics' kind are wrapped.

    Raises: ValueError: for an unknown name. TypeError: if it is not a metric.
    """
    if is_torch_metric(identifier):
        return TorchMetric(identifier() if inspect.isclass(identifier) else identifier)
    found = serialization.get(identifier, registry)
    if not isinstance(found, Metric):
        found = MeanMetricWrapper(found, name=object_name(found))
    if isinstance(identifier, str):
        found.name = identifier
    return found


def unknown_metric(name: str) -> str:
    """Returns the message for an unknown metric name."""
    return f"Unknown metric {name!r}.{did_you_mean(name, [*registry, 'accuracy', 'acc'])}"
