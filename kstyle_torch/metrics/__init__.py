"""What is measured beside the loss."""

from typing import Any

from kstyle_torch import serialization
from kstyle_torch.metrics.accuracy import (
    Accuracy,
    BinaryAccuracy,
    CategoricalAccuracy,
    SparseCategoricalAccuracy,
    binary_accuracy,
    categorical_accuracy,
    sparse_categorical_accuracy,
)
from kstyle_torch.metrics.base import Mean, MeanMetricWrapper, Metric, registry
from kstyle_torch.metrics.regression import MeanAbsoluteError, MeanSquaredError

__all__ = [
    "Accuracy",
    "BinaryAccuracy",
    "CategoricalAccuracy",
    "Mean",
    "MeanAbsoluteError",
    "MeanMetricWrapper",
    "MeanSquaredError",
    "Metric",
    "SparseCategoricalAccuracy",
    "binary_accuracy",
    "categorical_accuracy",
    "deserialize",
    "get",
    "serialize",
    "sparse_categorical_accuracy",
]

serialize = serialization.serialize_keras_object


def get(identifier: Any) -> Any:
    """The metric object or function that a name, config, class or the object itself means.

    Raises: ValueError: for an unknown name, with the nearest. TypeError: for what is no identifier.
    """
    return serialization.get(identifier, registry)


def deserialize(config: Any, custom_objects: dict[str, Any] | None = None) -> Any:
    """The metric that a config describes."""
    return serialization.deserialize_keras_object(config, custom_objects, registry=registry)
