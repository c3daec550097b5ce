"""Optimizers: the rules by which weights are changed."""

from typing import Any

from kstyle_torch import serialization
from kstyle_torch.optimizers import legacy, schedules
from kstyle_torch.optimizers.adadelta import Adadelta
from kstyle_torch.optimizers.adafactor import Adafactor
from kstyle_torch.optimizers.adagrad import Adagrad
from kstyle_torch.optimizers.adam import Adam, AdamW
from kstyle_torch.optimizers.adamax import Adamax
from kstyle_torch.optimizers.base import Optimizer, registry
from kstyle_torch.optimizers.ftrl import Ftrl
from kstyle_torch.optimizers.lamb import Lamb
from kstyle_torch.optimizers.lion import Lion
from kstyle_torch.optimizers.loss_scale import LossScaleOptimizer
from kstyle_torch.optimizers.multi import MultiOptimizer, OptimizerMap
from kstyle_torch.optimizers.muon import Muon
from kstyle_torch.optimizers.nadam import Nadam
from kstyle_torch.optimizers.rmsprop import RMSprop
from kstyle_torch.optimizers.schedule_free_adamw import ScheduleFreeAdamW
from kstyle_torch.optimizers.sgd import SGD
from kstyle_torch.optimizers.torch_optimizer import TorchOptimizer, is_torch_optimizer

__all__ = [
    "SGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Ftrl",
    "Lamb",
    "Lion",
    "LossScaleOptimizer",
    "MultiOptimizer",
    "Muon",
    "Nadam",
    "Optimizer",
    "OptimizerMap",
    "RMSprop",
    "ScheduleFreeAdamW",
    "TorchOptimizer",
    "deserialize",
    "get",
    "legacy",
    "schedules",
    "serialize",
    "with_loss_scale",
]


def get(identifier: Any) -> Any:
    """Returns the optimizer that a name, config, class or object means; torch's own are taken as they are.

    Raises: ValueError: for an unknown name, with the nearest, or for an object that is not an optimizer.
    """
    if is_torch_optimizer(identifier):
        return TorchOptimizer(identifier)
    found = serialization.get(identifier, registry)
    if found is not None and not isinstance(found, Optimizer):
        raise ValueError(f"Expected an optimizer (name, config or object); got {identifier!r}.")
    return found


def with_loss_scale(optimizer: Any) -> Any:
    """Returns the optimizer inside a `LossScaleOptimizer`, unless it is one, or there is none."""
    if optimizer is None or isinstance(optimizer, LossScaleOptimizer):
        return optimizer
    return LossScaleOptimizer(optimizer, name="loss_scale_optimizer")


def serialize(optimizer: Any) -> Any:
    """Returns the optimizer in Keras' JSON form."""
    return serialization.serialize_keras_object(optimizer)


def deserialize(config: Any, custom_objects: dict[str, Any] | None = None) -> Any:
    """Returns the optimizer that a config describes."""
    return serialization.deserialized(config, custom_objects, registry=registry)
