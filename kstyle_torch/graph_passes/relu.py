"""Relus in graphs: recognised, and computed in place."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kstyle_torch import activations
from kstyle_torch._torch import is_view
from kstyle_torch.layers.activation import Activation, ReLU
from kstyle_torch.symbolic.graph import Call, Ref

RELUS = (Activation, ReLU)


def is_single_call(call: Call) -> bool:
    """Returns whether a call takes one tensor and nothing else."""
    return len(call.args) == 1 and isinstance(call.args[0], Ref) and not call.kwargs and not call.tags


def is_relu(layer: Any) -> bool:
    """Returns whether a plain relu is what the layer does at its end; its attributes may be set at any time."""
    if type(layer) is ReLU:
        return layer.max_value is None and layer.negative_slope == 0 == layer.threshold
    return layer.activation is activations.relu


def relu_(y: Tensor) -> Tensor:
    """Computes a relu in place, unless autograd would then copy all that `y` is a view of."""
    return torch.relu(y) if y.requires_grad and is_view(y) else torch.relu_(y)
