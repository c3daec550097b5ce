"""Perspective and elastic transforms."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kstyle_torch.layer.base import layer_registry
from kstyle_torch.layers.preprocessing.image.affine import INTERPOLATIONS
from kstyle_torch.layers.preprocessing.image.base import Factor, Range
from kstyle_torch.layers.preprocessing.image.boxes import moved_boxes
from kstyle_torch.layers.preprocessing.image.random import Draws, RandomMoveLayer, per_image
from kstyle_torch.ops.image.layout import on_batch
from kstyle_torch.ops.image.sampling import FILL_MODES
from kstyle_torch.ops.image.warps import (
    ORDERS,
    apply_homography,
    elastically_warped,
    homography,
    perspective_transform,
)

register = layer_registry.register


@register()
class RandomPerspective(RandomMoveLayer):
    """Random perspective transform of some images, in training.

    Args:
        factor: Probability, from 0 to 1, or the limits of a random one; `p` means from 0 to `p`.
        scale: Largest displacement of the corners, 0 to 1.
        interpolation: `"bilinear"` or `"nearest"`.
        fill_value: Value of pixels outside.
        seed: Int for reproducible numbers.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
    Output shape: that of the input.
    Raises: ValueError: for a factor or scale outside of 0 and 1, and unknown interpolation.

    Example:
        >>> RandomPerspective()(torch.ones(2, 4, 4, 3), training=True).shape
        torch.Size([2, 4, 4, 3])
    """

    factor_bounds = (0.0, 1.0)

    def __init__(
        self,
        factor: Factor = 1.0,
        scale: float = 1.0,
        interpolation: str = "bilinear",
        fill_value: float = 0.0,
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(factor=factor, seed=seed, data_format=data_format, **kwargs)
        if not 0.0 <= scale <= 1.0:
            raise ValueError(f"{self.name}: scale must be from 0 to 1; got {scale!r}.")
        if interpolation not in INTERPOLATIONS:
            raise ValueError(
                f"{self.name}: interpolation must be one of {', '.join(INTERPOLATIONS)}; got {interpolation!r}."
            )
        self.scale, self.interpolation, self.fill_value = scale, interpolation, fill_value

    def _draw(self, draws: Draws) -> Any:
        height, width = self._size_of(draws.shape)
        happens = draws.happens(self.factor)
        moves = draws.uniform(draws.rows, 4, 2, between=(-0.5 * self.scale, 0.5 * self.scale))
        corners = [[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]]
        start = torch.tensor(corners, dtype=moves.dtype, device=moves.device).expand_as(moves)
        return {
            "apply_perspective": happens,
            "start_points": start,
            "end_points": start + start * moves,
            "input_shape": draws.shape,
        }

    def _move(self, images: Tensor, transformation: Any, interpolation: str) -> Tensor:
        start, end = transformation["start_points"], transformation["end_points"]
        moved = perspective_transform(images, start, end, interpolation, self.fill_value, self.data_format)
        return torch.where(per_image(transformation["apply_perspective"]), moved, images)

    def _move_boxes(self, boxes: Tensor, transformation: Any, height: int, width: int) -> Tensor:
        matrix = homography(transformation["end_points"], transformation["start_points"])[:, :, None, None]
        moved = moved_boxes(boxes, lambda x, y: apply_homography(matrix, x, y))
        return torch.where(transformation["apply_perspective"][:, None, None], moved, boxes)


@register()
class RandomElasticTransform(RandomMoveLayer):
    """Random elastic deformation of some images, in training.

    Bounding boxes are not supported.

    Args:
        factor: Probability, from 0 to 1, or the limits of a random one; `p` means from 0 to `p`.
        scale: Strength, likewise; one number is drawn for each batch.
        interpolation: `"bilinear"` or `"nearest"`.
        fill_mode: Pixels outside: `"reflect"`, `"mirror"`, `"wrap"`, `"constant"` or `"nearest"`.
        fill_value: The constant.
        value_range: Smallest and largest value of a pixel.
        seed: Int for reproducible numbers.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
    Output shape: that of the input.
    Raises: ValueError: for a factor or scale outside of 0 and 1, and unknown modes.
    Source: Simard et al. 2003.

    Example:
        >>> RandomElasticTransform()(torch.ones(2, 8, 8, 3), training=True).shape
        torch.Size([2, 8, 8, 3])
    """

    factor_bounds = (0.0, 1.0)

    def __init__(
        self,
        factor: Factor = 1.0,
        scale: Factor = 1.0,
        interpolation: str = "bilinear",
        fill_mode: str = "reflect",
        fill_value: float = 0.0,
        value_range: Range = (0, 255),
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(factor=factor, seed=seed, data_format=data_format, **kwargs)
        self.scale = self._range(scale, "scale", 0.0, 1.0)
        self.value_range = self._value_range(value_range)
        for name, value, known in (
            ("fill_mode", fill_mode, [*FILL_MODES]),
            ("interpolation", interpolation, INTERPOLATIONS),
        ):
            if value not in known:
                raise ValueError(f"{self.name}: {name} must be one of {', '.join(known)}; got {value!r}.")
        self.fill_mode, self.interpolation, self.fill_value = fill_mode, interpolation, fill_value

    def _draw(self, draws: Draws) -> Any:
        if self.scale[1] == 0 or self.factor[1] == 0:
            return None
        happens = draws.happens(self.factor)
        strength = draws.uniform(between=self.scale)
        noise = draws.normal(2, draws.rows, *self._size_of(draws.shape))
        return {
            "apply_transform": happens,
            "distortion_factor": strength,
            "noise": noise,
            "input_shape": draws.shape,
        }

    def get_elastic_transform_params(self, height: int, width: int, factor: Any) -> tuple[Any, Any]:
        """Returns the size of the displacements, and the width of their blur, both in pixels."""
        return max(height, width) * 0.1 * factor, min(height, width) * 0.05 * factor

    def _apply_to(self, images: Tensor, transformation: Any) -> Tensor:
        return super()._apply_to(images, transformation).clamp(*self.value_range)

    def _move(self, images: Tensor, transformation: Any, interpolation: str) -> Tensor:
        size = self._size_of(images.shape)
        strength = transformation["distortion_factor"].clamp_min(1e-6)
        alpha, sigma = self.get_elastic_transform_params(*size, strength)
        # the kernel fits the strongest blur, since the host does not know the strength of this one
        taps = int(6 * min(size) * 0.05 * self.scale[1]) | 1
        how = (
            alpha,
            sigma,
            taps,
            ORDERS[interpolation],
            self.fill_mode,
            self.fill_value,
        )
        moved = on_batch(
            lambda batch: elastically_warped(batch, transformation["noise"], *how), images, self.data_format
        )
        return torch.where(per_image(transformation["apply_transform"]), moved, images)
