"""RandomFlip: mirroring of images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kstyle_torch.layer.base import layer_registry
from kstyle_torch.layers.preprocessing.image.random import Draws, RandomMoveLayer, per_image

register = layer_registry.register

MODES = ("horizontal", "vertical", "horizontal_and_vertical")


@register()
class RandomFlip(RandomMoveLayer):
    """Random mirroring of half of the images, on average, in training.

    Args:
        mode: `"horizontal"` (left and right), `"vertical"` or `"horizontal_and_vertical"` (both at once, as in Keras).
        seed: Int for reproducible numbers.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
    Output shape: that of the input.
    Raises: ValueError: for another mode.

    Example:
        >>> RandomFlip("horizontal")(torch.ones(2, 4, 4, 3), training=True).shape
        torch.Size([2, 4, 4, 3])
    """

    def __init__(
        self,
        mode: str = "horizontal_and_vertical",
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(seed=seed, data_format=data_format, **kwargs)
        if mode not in MODES:
            raise ValueError(f"{self.name}: mode must be one of {', '.join(MODES)}; got {mode!r}.")
        self.mode = mode
        self._flipped_axes = [
            axis for axis, way in ((self.width_axis, "horizontal"), (self.height_axis, "vertical")) if way in mode
        ]

    def _draw(self, draws: Draws) -> Any:
        return {"flips": per_image(draws.uniform(draws.rows) <= 0.5), "input_shape": draws.shape}

    def _move(self, images: Tensor, transformation: Any, interpolation: str) -> Tensor:
        return torch.where(transformation["flips"], images.flip(self._flipped_axes), images)

    def _move_boxes(self, boxes: Tensor, transformation: Any, height: int, width: int) -> Tensor:
        left, top, right, bottom = boxes.unbind(-1)
        if self.width_axis in self._flipped_axes:
            left, right = width - right, width - left
        if self.height_axis in self._flipped_axes:
            top, bottom = height - bottom, height - top
        return torch.where(transformation["flips"].squeeze(-1), torch.stack((left, top, right, bottom), -1), boxes)
