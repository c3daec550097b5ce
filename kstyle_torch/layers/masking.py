"""Masking."""

from __future__ import annotations

from numbers import Real
from typing import Any

import torch
from torch import Tensor

from kstyle_torch.layer.base import Layer, layer_registry

register = layer_registry.register


@register()
class Masking(Layer):
    """Masking of steps whose values all equal `mask_value`, which are set to 0.

    Later layers that support masks, and the loss, ignore those steps.

    Args:
        mask_value: The value.
    Input shape: (batch, steps, features). Output shape: that of the input.

    Example:
        >>> Masking(-1.0)(torch.tensor([[[3.0, -1.0], [-1.0, -1.0]]]))
        tensor([[[ 3., -1.], [ 0.,  0.]]])
    """

    _has_nothing_to_build = True
    supports_masking = True

    def __init__(self, mask_value: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        if not isinstance(mask_value, Real):
            raise ValueError(f"{self.name}: mask_value must be a number; got {mask_value!r}.")
        self.mask_value: float = mask_value

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.where((inputs != self.mask_value).any(-1, keepdim=True), inputs, 0)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return (inputs != self.mask_value).any(-1)
