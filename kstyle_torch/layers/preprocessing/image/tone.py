"""Brightness, contrast, equalization and sharpness."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kstyle_torch.layer.base import layer_registry
from kstyle_torch.layers.preprocessing.image.base import (
    BaseImagePreprocessingLayer,
    Factor,
    KeepsPlaces,
    Range,
    rescaled,
)
from kstyle_torch.layers.preprocessing.image.random import Draws, LeavesAlone, RandomValueLayer, per_image

register = layer_registry.register

BYTES: Range = (0, 255)


@register()
class RandomBrightness(RandomValueLayer):
    """Random change of the brightness of each image, in training.

    Args:
        factor: Amount that is added, as a share of the range of values: from -1 to 1, or the limits of a random one;
            `0.2` means from -0.2 to 0.2.
        value_range: Smallest and largest value of a pixel.
        seed: Int for reproducible numbers.
    Output shape: that of the input.
    Raises: ValueError: for a factor outside of -1 and 1.

    Example:
        >>> RandomBrightness(0.2)(torch.ones(2, 4, 4, 3), training=True).shape
        torch.Size([2, 4, 4, 3])
    """

    def __init__(self, factor: Factor, value_range: Range = (0, 255), seed: int | None = None, **kwargs: Any):
        super().__init__(value_range, factor=factor, seed=seed, **kwargs)

    def _draw(self, draws: Draws) -> Any:
        low, high = self.value_range
        return {"rgb_delta": per_image(draws.uniform(draws.rows, between=self.factor)) * (high - low)}

    def _apply_to(self, images: Tensor, transformation: Any) -> Tensor:
        return (images + transformation["rgb_delta"].to(images.dtype)).clamp(*self.value_range)


@register()
class RandomContrast(RandomValueLayer):
    """Random change of the contrast of each image and channel around its mean, in training.

    Args:
        factor: `(lower, upper)` draws from `1 - lower` to `1 + upper`; a number is the upper one, and the
            lower one is 0, as in Keras.
        value_range: Smallest and largest value of a pixel.
        seed: Int for reproducible numbers.
    Output shape: that of the input.
    Raises: ValueError: for a factor outside of 0 and 1.

    Example:
        >>> RandomContrast(0.2)(torch.ones(2, 4, 4, 3), training=True).shape
        torch.Size([2, 4, 4, 3])
    """

    factor_bounds = (0.0, 1.0)

    def __init__(self, factor: Factor, value_range: Range = (0, 255), seed: int | None = None, **kwargs: Any):
        super().__init__(value_range, factor=factor, seed=seed, **kwargs)

    def _draw(self, draws: Draws) -> Any:
        lower, upper = self.factor
        return {"contrast_factor": per_image(draws.uniform(draws.rows, between=(1.0 - lower, 1.0 + upper)))}

    def _apply_to(self, images: Tensor, transformation: Any) -> Tensor:
        mean = images.mean((self.height_axis, self.width_axis), keepdim=True)
        factor = transformation["contrast_factor"].to(images.dtype)
        return ((images - mean) * factor + mean).clamp(*self.value_range)


@register()
class AutoContrast(KeepsPlaces, BaseImagePreprocessingLayer):
    """Stretches the values of each image and channel to the whole range, in training and in inference.

    Args:
        value_range: Smallest and largest value of a pixel.
    Output shape: that of the input.
    Raises: ValueError: if the range is not two numbers.

    Example:
        >>> AutoContrast()(torch.tensor([[[10.0], [20.0]]]))[..., 0]
        tensor([[  0., 255.]])
    """

    def __init__(self, value_range: Range = (0, 255), **kwargs: Any):
        super().__init__(**kwargs)
        self.value_range = self._value_range(value_range)

    def transform_images(self, images: Tensor, transformation: Any = None, training: bool = True) -> Tensor:
        """Returns the batch of images, stretched; constant channels are not changed."""
        images = self._float(images)
        values, plane = rescaled(images, self.value_range, BYTES), (self.height_axis, self.width_axis)
        low, high = values.amin(plane, keepdim=True), values.amax(plane, keepdim=True)
        flat = high == low
        scale = 255.0 / torch.where(flat, 1.0, high - low)
        stretched = (values * scale - low * scale).clamp(0.0, 255.0)
        return torch.where(flat, images, rescaled(stretched, BYTES, self.value_range))


@register()
class Equalization(KeepsPlaces, BaseImagePreprocessingLayer):
    """Random equalization of the histogram of each channel, in training; counted over the batch, as in Keras.

    Args:
        value_range: Smallest and largest value of a pixel.
        bins: Number of bins of the histogram.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
    Output shape: that of the input.
    Raises: ValueError: if the range is not two numbers.

    Example:
        >>> Equalization()(torch.tensor([[[10.0], [11.0], [20.0]]]), training=True)[..., 0]
        tensor([[  0., 128., 255.]])
    """

    def __init__(self, value_range: Range = (0, 255), bins: int = 256, data_format: str | None = None, **kwargs: Any):
        super().__init__(data_format=data_format, **kwargs)
        self.value_range, self.bins = self._value_range(value_range), bins

    def transform_images(self, images: Tensor, transformation: Any, training: bool = True) -> Tensor:
        """Returns the batch of images, equalized in training."""
        images = self._float(images)
        if not training:
            return images
        values = rescaled(images, self.value_range, BYTES).movedim(self.channel_axis, 0)
        flat = values.flatten(1)
        counted = (flat.to(torch.float32) * (self.bins - 1) / 255).int().clamp(0, self.bins - 1).long()
        counts = _histogram(counted, self.bins)
        total = counts.cumsum(-1)
        first = torch.where(total > 0, total, total[:, -1:]).amin(-1, keepdim=True)
        table = ((total - first) * 255 / (total[:, -1:] - first).clamp_min(1)).round().clamp(0, 255).to(flat.dtype)
        places = (flat / 255.0 * (self.bins - 1)).clamp(0, self.bins - 1).long()
        one_value = (counts > 0).sum(-1, keepdim=True) <= 1
        equalized = torch.where(one_value, flat, table.gather(-1, places)).reshape(values.shape)
        return rescaled(equalized.movedim(0, self.channel_axis), BYTES, self.value_range)


@register()
class ContrastLimitedAdaptiveHistogramEqualization(KeepsPlaces, BaseImagePreprocessingLayer):
    """Contrast-limited adaptive histogram equalization (CLAHE), in training and in inference.

    Args:
        value_range: Smallest and largest value of a pixel.
        clip_limit: Limit of the histogram, as a multiple of a uniform one; 0 for no limit.
        tile_grid_size: Numbers of rows and columns of tiles.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
    Output shape: that of the input.
    Raises: ValueError: if a range or grid is not two numbers.
    Source: Zuiderveld 1994.

    Example:
        >>> ContrastLimitedAdaptiveHistogramEqualization()(torch.ones(2, 16, 16, 3)).shape
        torch.Size([2, 16, 16, 3])
    """

    def __init__(
        self,
        value_range: Range = (0, 255),
        clip_limit: float = 4.0,
        tile_grid_size: tuple[int, int] = (8, 8),
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(data_format=data_format, **kwargs)
        if len(tile_grid_size) != 2 or any(not hasattr(n, "__index__") or n < 1 for n in tile_grid_size):
            raise ValueError(f"{self.name}: tile_grid_size must be two positive integers; got {tile_grid_size!r}.")
        self.value_range, self.clip_limit = self._value_range(value_range), clip_limit
        self.tile_grid_size = (int(tile_grid_size[0]), int(tile_grid_size[1]))

    def transform_images(self, images: Tensor, transformation: Any = None, training: bool = True) -> Tensor:
        """Returns the batch of images, equalized, in its own dtype."""
        values = rescaled(images.to(torch.float32), self.value_range, BYTES).movedim(self.channel_axis, 1)
        equalized = rescaled(self._equalized(values), BYTES, self.value_range)
        return equalized.movedim(1, self.channel_axis).to(images.dtype)

    def _equalized(self, batch: Tensor) -> Tensor:
        """Equalizes the channels_first batch by a table for each tile, interpolated between the centers of four tiles."""
        height, width = batch.shape[2:]
        rows, columns = self.tile_grid_size
        tile_height, tile_width = -(-height // rows), -(-width // columns)
        pixels = _mirrored(_mirrored(batch, 2, rows * tile_height), 3, columns * tile_width)
        pixels = pixels.int().clamp(0, 255).long()
        tiles = pixels.unflatten(3, (columns, tile_width)).unflatten(2, (rows, tile_height)).transpose(3, 4)
        tables = self._tables(tiles.flatten(4))
        pixels = pixels[..., :height, :width]
        (top, bottom, down), (left, right, across) = (
            _between(size, tile, number, batch.device)
            for size, tile, number in ((height, tile_height, rows), (width, tile_width, columns))
        )
        down = down[:, None]

        def look_up(row: Tensor, column: Tensor) -> Tensor:
            place = ((row * columns)[:, None] + column) * 256
            return tables.flatten(2).gather(2, (place + pixels).flatten(2)).reshape(pixels.shape)

        upper = look_up(top, left) * (1.0 - across) + look_up(top, right) * across
        lower = look_up(bottom, left) * (1.0 - across) + look_up(bottom, right) * across
        return upper * (1.0 - down) + lower * down

    def _tables(self, tiles: Tensor) -> Tensor:
        """Returns the lookup tables of the tiles: (batch, channels, rows, columns, 256)."""
        num_pixels = tiles.shape[-1]
        counts = _histogram(tiles, 256).to(torch.float32)
        if self.clip_limit > 0:
            clipped = counts.clamp(0, int(self.clip_limit * num_pixels / 256))  # an integer, as in Keras on torch
            counts = clipped + (counts - clipped).sum(-1, keepdim=True) / 256.0
        total = counts.cumsum(-1)
        least = total.amin(-1, keepdim=True)
        rest = num_pixels - least
        return ((total - least) * 255.0 / torch.where(rest == 0, 1.0, rest)).clamp(0, 255)


def _histogram(values: Tensor, bins: int) -> Tensor:
    """Counts 0 .. bins - 1 along the last axis; unlike for torch.bincount, the host does not wait."""
    counts = torch.zeros((*values.shape[:-1], bins), dtype=torch.long, device=values.device)
    return counts.scatter_add(-1, values, torch.ones_like(values))


def _mirrored(batch: Tensor, dim: int, size: int) -> Tensor:
    """Pads the batch at its end by reflection up to `size`."""
    old = batch.shape[dim]
    if size == old:
        return batch
    index = torch.arange(size, device=batch.device) % (2 * old)
    return batch.index_select(dim, torch.where(index < old, index, 2 * old - 1 - index))


def _between(size: int, tile: int, number: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the two tiles between whose centers each pixel lies, and its relative distance from the first."""
    place = (torch.arange(size, dtype=torch.float32, device=device) - tile / 2.0) / tile + 1.0
    before = place.floor()
    first, second = (index.long().clamp(0, number - 1) for index in (before - 1, before))
    return first, second, place - before


@register()
class RandomSharpness(LeavesAlone, RandomValueLayer):
    """Random blur or sharpening of each image, in training.

    Args:
        factor: 0 blurs, 0.5 does nothing, 1 sharpens; a number `f` means from 0 to `f`, or the two that it is drawn
            between.
        value_range: Smallest and largest value of a pixel.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
        seed: Int for reproducible numbers.
    Output shape: that of the input.
    Raises: ValueError: for a factor outside of 0 and 1.

    Example:
        >>> RandomSharpness(0.5)(torch.ones(2, 4, 4, 3), training=True).shape
        torch.Size([2, 4, 4, 3])
    """

    factor_bounds = (0.0, 1.0)

    def __init__(
        self,
        factor: Factor,
        value_range: Range = (0, 255),
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(value_range, factor=factor, data_format=data_format, seed=seed, **kwargs)

    def _draw(self, draws: Draws) -> Any:
        return {"factor": draws.uniform(draws.rows, between=self.factor)}

    def _apply_to(self, images: Tensor, transformation: Any) -> Tensor:
        batch = images.movedim(self.channel_axis, 1)
        kernel = torch.full((3, 3), 1.0 / 13.0, dtype=batch.dtype, device=batch.device)
        kernel[1, 1] = 5.0 / 13.0
        channels = batch.shape[1]
        smooth = F.conv2d(batch, kernel.expand(channels, 1, 3, 3), padding=1, groups=channels)
        factor = per_image(transformation["factor"].to(images.dtype)) * 2
        return (images + (1.0 - factor) * (smooth.movedim(1, self.channel_axis) - images)).clamp(*self.value_range)
