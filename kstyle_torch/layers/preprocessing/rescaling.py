"""Rescaling: multiplication by a scale and addition of an offset."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kstyle_torch import config
from kstyle_torch.errors import WrongTypeError
from kstyle_torch.layer.base import layer_registry
from kstyle_torch.layer.custom_objects import TakesCustomObjects
from kstyle_torch.layers.preprocessing.data_layer import DataLayer

register = layer_registry.register


@register()
class Rescaling(TakesCustomObjects, DataLayer):
    """Multiplies by a scale and adds an offset; integers, such as pixels, become floats.

    Args:
        scale: A number, or one for each channel.
        offset: Likewise.
    Output shape: that of the input.

    Example:
        >>> Rescaling(1 / 127.5, offset=-1)(torch.tensor([[0, 255]], dtype=torch.uint8))
        tensor([[-1.,  1.]])
    """

    supports_masking = True

    def __init__(self, scale: Any, offset: Any = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.scale, self.offset = scale, offset
        self.data_format = config.image_data_format()

    def build(self, input_shape: Any) -> None:
        self.register_buffer("factor", self._constant(self.scale, channels=True), persistent=False)
        self.register_buffer("shift", self._constant(self.offset, channels=False), persistent=False)

    def _constant(self, value: Any, channels: bool) -> Tensor:
        try:
            constant = torch.as_tensor(value, dtype=self._dtype, device=config.device())
        except (TypeError, ValueError) as error:
            name = "scale" if channels else "offset"
            raise WrongTypeError(
                f"{self.name}: {name} must be a number, or an array of them; got {value!r}."
            ) from error
        if channels and constant.ndim and self.data_format == "channels_first":
            return constant.reshape(*constant.shape, *(1,) * (3 - constant.ndim))
        return constant

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.to(self.factor.dtype) * self.factor + self.shift
