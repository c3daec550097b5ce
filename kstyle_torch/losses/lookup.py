"""Lookup of losses: from names, functions, classes and configs to loss objects."""

from __future__ import annotations

from typing import Any

from torch import nn

from kstyle_torch import serialization
from kstyle_torch.losses.base import CLASS_OF, FunctionLoss, Loss, object_name, registry
from kstyle_torch.losses.torch_loss import TorchLoss, is_torch_loss


def to_loss(identifier: Any, name: str | None = None) -> Loss:
    """Returns the loss object for a value of `compile(loss=...)`.

    Raises: ValueError: for an unknown name. TypeError: if it is not a loss.
    """
    if isinstance(identifier, Loss):
        return identifier
    if isinstance(identifier, type) and issubclass(identifier, nn.Module):
        identifier = identifier()
    if is_torch_loss(identifier):
        return TorchLoss(identifier)
    found = serialization.get(identifier, registry)
    if isinstance(found, Loss):
        return found
    name = identifier if isinstance(identifier, str) else name or object_name(found)
    if found in CLASS_OF:
        return CLASS_OF[found](name=name)
    return FunctionLoss(found, name=name)
