"""How weights are changed."""

from typing import Any

from kstyle_torch import serialization
from kstyle_torch.optimizers.adam import Adam, AdamW
from kstyle_torch.optimizers.base import Optimizer, registry
from kstyle_torch.optimizers.native import TorchOptimizer, is_torch_optimizer
from kstyle_torch.optimizers.rmsprop import RMSprop
from kstyle_torch.optimizers.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSprop", "TorchOptimizer", "deserialize", "get", "serialize"]

serialize = serialization.serialize_keras_object


def get(identifier: Any) -> Any:
    """The optimizer that a name, config, class or object means; torch's own are taken as they are.

    Raises: ValueError: for an unknown name, with the nearest. TypeError: for what is no optimizer.
    """
    if is_torch_optimizer(identifier):
        return TorchOptimizer(identifier)
    found = serialization.get(identifier, registry)
    if found is not None and not isinstance(found, Optimizer):
        raise TypeError(f"Expected an optimizer (name, config or object); got {identifier!r}.")
    return found


def deserialize(config: Any, custom_objects: dict[str, Any] | None = None) -> Any:
    """The optimizer that a config describes."""
    return serialization.deserialize_keras_object(config, custom_objects, registry=registry)
