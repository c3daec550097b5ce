"""Affine augmentation: rotation, translation, zoom and shear."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from kstyle_torch.layer.base import layer_registry
from kstyle_torch.layers.preprocessing.image.base import Factor
from kstyle_torch.layers.preprocessing.image.boxes import moved_boxes
from kstyle_torch.layers.preprocessing.image.random import Draws, RandomMoveLayer
from kstyle_torch.ops.image.warps import affine_transform

register = layer_registry.register

FILL_MODES = ("reflect", "wrap", "constant", "nearest")
INTERPOLATIONS = ("nearest", "bilinear")


class RandomAffineLayer(RandomMoveLayer):
    """Base class of layers that apply a random affine transform to each image.

    Args:
        fill_mode: Pixels outside of the image: `"reflect"`, `"wrap"`, `"constant"` or `"nearest"`.
        interpolation: `"bilinear"` or `"nearest"`.
        fill_value: The constant.
        kwargs: As of every random layer on images.
    """

    def __init__(
        self, fill_mode: str = "reflect", interpolation: str = "bilinear", fill_value: float = 0.0, **kwargs: Any
    ):
        super().__init__(**kwargs)
        for name, value, known in (
            ("fill_mode", fill_mode, FILL_MODES),
            ("interpolation", interpolation, INTERPOLATIONS),
        ):
            if value not in known:
                raise ValueError(f"{self.name}: {name} must be one of {', '.join(known)}; got {value!r}.")
        self.fill_mode, self.interpolation, self.fill_value = fill_mode, interpolation, fill_value

    def _matrix(self, transformation: Any, height: int, width: int) -> tuple[Any, ...]:
        """Returns a0, a1, a2, b0, b1, b2, each a number or (batch,).

        The pixel (x, y) of the result is read at (a0 x + a1 y + a2, b0 x + b1 y + b2).
        """
        raise NotImplementedError

    def _move(self, images: Tensor, transformation: Any, interpolation: str) -> Tensor:
        rows = torch.stack(torch.broadcast_tensors(*self._tensors(images, transformation)), -1)
        transform = torch.nn.functional.pad(rows, (0, 2))
        return affine_transform(images, transform, interpolation, self.fill_mode, self.fill_value, self.data_format)

    def _tensors(self, images: Tensor, transformation: Any) -> list[Tensor]:
        matrix = self._matrix(transformation, *self._size_of(images.shape))
        like = next(entry for entry in matrix if isinstance(entry, Tensor))
        return [entry if isinstance(entry, Tensor) else torch.full_like(like, entry) for entry in matrix]

    def _move_boxes(self, boxes: Tensor, transformation: Any, height: int, width: int) -> Tensor:
        matrix = self._matrix(transformation, height, width)
        a0, a1, a2, b0, b1, b2 = (e[:, None, None] if isinstance(e, Tensor) else e for e in matrix)
        determinant = a0 * b1 - a1 * b0

        def back(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:  # from source to destination coordinates
            x, y = x - a2, y - b2
            return (b1 * x - a1 * y) / determinant, (a0 * y - b0 * x) / determinant

        return moved_boxes(boxes, back)


class MovesPoints:
    """Base of layers with Keras' methods for points and boxes."""

    def get_transformed_x_y(self, x: Any, y: Any, transform: Tensor) -> tuple[Tensor, Tensor]:
        """Returns where the point (x, y) of the result is read, each (batch, 1), for projective maps (batch, 8)."""
        a0, a1, a2, b0, b1, b2, c0, c1 = transform.split(1, dim=-1)
        depth = c0 * x + c1 * y + 1
        return (a0 * x + a1 * y + a2) / depth, (b0 * x + b1 * y + b2) / depth

    def get_shifted_bbox(self, bounding_boxes: dict[str, Any], w_shift_factor: Any, h_shift_factor: Any) -> Any:
        """Shifts boxes, (x1, y1, x2, y2), to the left and up, in the same dict."""
        boxes = bounding_boxes["boxes"]
        left, up = (
            torch.as_tensor(each, dtype=boxes.dtype, device=boxes.device) for each in (w_shift_factor, h_shift_factor)
        )
        if boxes.ndim == 3:
            left, up = left.unsqueeze(-1), up.unsqueeze(-1)
        x1, y1, x2, y2 = boxes.split(1, dim=-1)
        bounding_boxes["boxes"] = torch.cat([x1 - left, y1 - up, x2 - left, y2 - up], dim=-1)
        return bounding_boxes


@register()
class RandomRotation(RandomAffineLayer):
    """Random rotation of each image about its center, in training.

    Args:
        factor: How far: a part of a full turn, counterclockwise, or the two parts it is drawn between. `0.2` draws from
            -0.2 to 0.2.
        fill_mode: Pixels outside: `"reflect"`, `"wrap"`, `"constant"` or `"nearest"`.
        interpolation: `"bilinear"` or `"nearest"`.
        seed: Int for reproducible numbers.
        fill_value: The constant.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
    Output shape: that of the input.
    Raises: ValueError: for a factor outside of -1 and 1, and unknown modes.

    Example:
        >>> RandomRotation(0.1)(torch.ones(2, 4, 4, 3), training=True).shape
        torch.Size([2, 4, 4, 3])
    """

    def __init__(
        self,
        factor: Factor,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            fill_mode, interpolation, fill_value, factor=factor, seed=seed, data_format=data_format, **kwargs
        )

    def _draw(self, draws: Draws) -> Any:
        lower, upper = self.factor
        angle = draws.uniform(draws.rows, between=(lower * 360.0, upper * 360.0))
        return {"angle": angle, "input_shape": draws.shape}

    def _matrix(self, transformation: Any, height: int, width: int) -> tuple[Any, ...]:
        angle = transformation["angle"] * (math.pi / 180.0)
        cos, sin = angle.cos(), angle.sin()
        x, y = 0.5 * (width - 1), 0.5 * (height - 1)
        return cos, -sin, x - x * cos + y * sin, sin, cos, y - x * sin - y * cos


@register()
class RandomTranslation(MovesPoints, RandomAffineLayer):
    """Random translation of each image, vertically and horizontally, in training.

    Args:
        height_factor: How far down: a part of the height, or the limits of a random one.
        width_factor: How far to the right: a part of the width, likewise.
        fill_mode: Pixels outside: `"reflect"`, `"wrap"`, `"constant"` or `"nearest"`.
        interpolation: `"bilinear"` or `"nearest"`.
        seed: Int for reproducible numbers.
        fill_value: The constant.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
    Output shape: that of the input.
    Raises: ValueError: for a factor outside of -1 and 1, and unknown modes.

    Example:
        >>> RandomTranslation(0.2, 0.2)(torch.ones(2, 4, 4, 3), training=True).shape
        torch.Size([2, 4, 4, 3])
    """

    def __init__(
        self,
        height_factor: Factor,
        width_factor: Factor,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(fill_mode, interpolation, fill_value, seed=seed, data_format=data_format, **kwargs)
        self.height_factor = self._range(height_factor, "height_factor", -1.0, 1.0)
        self.width_factor = self._range(width_factor, "width_factor", -1.0, 1.0)

    def _draw(self, draws: Draws) -> Any:
        height, width = self._size_of(draws.shape)
        down = draws.uniform(draws.rows, between=self.height_factor) * height
        across = draws.uniform(draws.rows, between=self.width_factor) * width
        return {"translations": torch.stack((across, down), 1), "input_shape": draws.shape}

    def _matrix(self, transformation: Any, height: int, width: int) -> tuple[Any, ...]:
        across, down = transformation["translations"].unbind(1)
        return 1.0, 0.0, -across, 0.0, 1.0, -down


@register()
class RandomZoom(RandomAffineLayer):
    """Random zoom of each image, in or out, in training.

    Args:
        height_factor: How much smaller, negative for larger: 0.2 shows 1.2 times the height. A number, or the two that
            it is drawn between.
        width_factor: Likewise for the width; None uses the height's factor, without distortion.
        fill_mode: Pixels outside: `"reflect"`, `"wrap"`, `"constant"` or `"nearest"`.
        interpolation: `"bilinear"` or `"nearest"`.
        seed: Int for reproducible numbers.
        fill_value: The constant.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
    Output shape: that of the input.
    Raises: ValueError: for a factor outside of -1 and 1, or of -1, and unknown modes.

    Example:
        >>> RandomZoom(0.2)(torch.ones(2, 4, 4, 3), training=True).shape
        torch.Size([2, 4, 4, 3])
    """

    def __init__(
        self,
        height_factor: Factor,
        width_factor: Factor | None = None,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(fill_mode, interpolation, fill_value, seed=seed, data_format=data_format, **kwargs)
        self.height_factor = self._zoom_range(height_factor, "height_factor")
        self.width_factor = None if width_factor is None else self._zoom_range(width_factor, "width_factor")

    get_transformed_x_y = MovesPoints.get_transformed_x_y

    def get_clipped_bbox(
        self, bounding_boxes: dict[str, Any], h_end: Any, h_start: Any, w_end: Any, w_start: Any
    ) -> dict[str, Any]:
        """Clips boxes, (x1, y1, x2, y2), to a crop of the image, and makes them relative to it, in the same dict."""
        boxes = bounding_boxes["boxes"]
        ends = [
            torch.as_tensor(each, dtype=boxes.dtype, device=boxes.device) for each in (w_start, w_end, h_start, h_end)
        ]
        left, right, top, bottom = (each.unsqueeze(-1) if boxes.ndim == 3 and each.ndim else each for each in ends)
        x1, y1, x2, y2 = boxes.split(1, dim=-1)
        across = [x.clamp(left, right) - left for x in (x1, x2)]
        down = [y.clamp(top, bottom) - top for y in (y1, y2)]
        bounding_boxes["boxes"] = torch.cat([across[0], down[0], across[1], down[1]], dim=-1)
        return bounding_boxes

    def _zoom_range(self, value: Factor, name: str) -> tuple[float, float]:
        lower, upper = self._range(value, name, -1.0, 1.0)
        given = value if isinstance(value, (tuple, list)) else (value,)
        if -1 in given:
            raise ValueError(f"{self.name}: {name} must be greater than -1; got {value!r}.")
        return 1.0 + lower, 1.0 + upper

    def _draw(self, draws: Draws) -> Any:
        height = draws.uniform(draws.rows, 1, between=self.height_factor)
        width = height if self.width_factor is None else draws.uniform(draws.rows, 1, between=self.width_factor)
        return {"height_zoom": height, "width_zoom": width, "input_shape": draws.shape}

    def _matrix(self, transformation: Any, height: int, width: int) -> tuple[Any, ...]:
        down, across = transformation["height_zoom"][:, 0], transformation["width_zoom"][:, 0]
        return across, 0.0, (width - 1.0) / 2.0 * (1.0 - across), 0.0, down, (height - 1.0) / 2.0 * (1.0 - down)


@register()
class RandomShear(MovesPoints, RandomAffineLayer):
    """Random shear of each image along rows and columns, in training.

    Args:
        x_factor: How far a row moves against the next one: a number, or the limits of a random one; to the left
            or to the right.
        y_factor: Likewise for columns.
        interpolation: `"bilinear"` or `"nearest"`.
        fill_mode: Pixels outside: `"reflect"`, `"wrap"`, `"constant"` or `"nearest"`.
        fill_value: The constant.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
        seed: Int for reproducible numbers.
    Output shape: that of the input.
    Raises: ValueError: for a factor beyond 1, and unknown modes.

    Example:
        >>> RandomShear(0.2, 0.2)(torch.ones(2, 4, 4, 3), training=True).shape
        torch.Size([2, 4, 4, 3])
    """

    def __init__(
        self,
        x_factor: Factor = 0.0,
        y_factor: Factor = 0.0,
        interpolation: str = "bilinear",
        fill_mode: str = "reflect",
        fill_value: float = 0.0,
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(fill_mode, interpolation, fill_value, seed=seed, data_format=data_format, **kwargs)
        self.x_factor = self._shear_range(x_factor, "x_factor")
        self.y_factor = self._shear_range(y_factor, "y_factor")

    def _shear_range(self, value: Factor, name: str) -> tuple[float, float]:
        # Keras writes one number into configs as (-x, x), which it does not read back
        return self._range(value, name, -1.0 if isinstance(value, (tuple, list)) else 0.0, 1.0) if value else (0.0, 0.0)

    def _draw(self, draws: Draws) -> Any:
        sign = torch.where(draws.uniform(draws.rows, 1) > 0.5, -1.0, 1.0)
        down = draws.uniform(draws.rows, between=self.y_factor)
        across = draws.uniform(draws.rows, between=self.x_factor)
        return {"shear_factor": torch.stack((across, down), 1) * sign, "input_shape": draws.shape}

    def _matrix(self, transformation: Any, height: int, width: int) -> tuple[Any, ...]:
        across, down = transformation["shear_factor"].unbind(1)
        return 1.0, across, 0.0, down, 1.0, 0.0
