"""What training minimises."""

from typing import Any

from kstyle_torch import serialization
from kstyle_torch.losses.base import FunctionLoss, Loss, TorchLoss, registry
from kstyle_torch.losses.probabilistic import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    SparseCategoricalCrossentropy,
    binary_crossentropy,
    categorical_crossentropy,
    sparse_categorical_crossentropy,
)
from kstyle_torch.losses.regression import (
    Huber,
    MeanAbsoluteError,
    MeanSquaredError,
    huber,
    mean_absolute_error,
    mean_squared_error,
)

__all__ = [
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "FunctionLoss",
    "Huber",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "SparseCategoricalCrossentropy",
    "TorchLoss",
    "binary_crossentropy",
    "categorical_crossentropy",
    "deserialize",
    "get",
    "huber",
    "mean_absolute_error",
    "mean_squared_error",
    "serialize",
    "sparse_categorical_crossentropy",
]

serialize = serialization.serialize_keras_object


def get(identifier: Any) -> Any:
    """The loss function or object that a name, config, class or the object itself means.

    Raises: ValueError: for an unknown name, with the nearest. TypeError: for what is no identifier.
    """
    return serialization.get(identifier, registry)


def deserialize(config: Any, custom_objects: dict[str, Any] | None = None) -> Any:
    """The loss that a config describes."""
    return serialization.deserialize_keras_object(config, custom_objects, registry=registry)
