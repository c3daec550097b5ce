"""Blurring and erasing of regions, and mixing with other images of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kstyle_torch.layer.base import layer_registry
from kstyle_torch.layers.preprocessing.image.base import Factor, Range
from kstyle_torch.layers.preprocessing.image.random import (
    Draws,
    LeavesAlone,
    RandomImageLayer,
    RandomValueLayer,
    per_image,
)
from kstyle_torch.ops.image.filters import gaussian_blur

register = layer_registry.register


@register()
class RandomGaussianBlur(LeavesAlone, RandomValueLayer):
    """Random blur of some images, in training.

    Args:
        factor: Probability, from 0 to 1, or the limits of a random one; `p` means from 0 to `p`.
        kernel_size: Of the blur: an odd number, or two of them for height and width.
        sigma: Width of the Gaussian, 0 to 1, or the limits of a random one, drawn for x and for y for each
            batch; `s` means from 0 to `s`.
        value_range: Smallest and largest value of a pixel.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
        seed: Int for reproducible numbers.
    Output shape: that of the input.
    Raises: ValueError: for a factor or sigma outside of 0 and 1, and even sizes.

    Example:
        >>> RandomGaussianBlur()(torch.ones(2, 4, 4, 3), training=True).shape
        torch.Size([2, 4, 4, 3])
    """

    factor_bounds = (0.0, 1.0)

    def __init__(
        self,
        factor: Factor = 1.0,
        kernel_size: int | Sequence[int] = 3,
        sigma: Factor = 1.0,
        value_range: Range = (0, 255),
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(value_range, factor=factor, data_format=data_format, seed=seed, **kwargs)
        sizes = tuple(kernel_size) if isinstance(kernel_size, (tuple, list)) else (kernel_size, kernel_size)
        if len(sizes) != 2 or any(not isinstance(size, int) or size < 1 or size % 2 == 0 for size in sizes):
            raise ValueError(f"{self.name}: kernel_size must be an odd number, or two of them; got {kernel_size!r}.")
        self.kernel_size = sizes
        self.sigma = self._range(sigma, "sigma", 0.0, 1.0)

    def _draw(self, draws: Draws) -> Any:
        happens = draws.happens(self.factor)
        return {"should_apply_blur": happens, "blur_factor": draws.uniform(2, between=self.sigma) + 1e-6}

    def _apply_to(self, images: Tensor, transformation: Any) -> Tensor:
        sigma = transformation["blur_factor"].to(images.dtype)
        blurred = gaussian_blur(images, self.kernel_size, sigma, self.data_format)
        return torch.where(per_image(transformation["should_apply_blur"]), blurred, images).clamp(*self.value_range)


@register()
class RandomErasing(LeavesAlone, RandomValueLayer):
    """Random erasure of a rectangle of some images, in training.

    Args:
        factor: Probability, from 0 to 1, or the limits of a random one; `p` means from 0 to `p`.
        scale: Size of the rectangle, as a share of the image, likewise.
        fill_value: Value of its pixels: a number, or one for each channel; None for noise.
        value_range: Smallest and largest value of a pixel.
        seed: Int for reproducible numbers.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
    Output shape: that of the input.
    Raises: ValueError: for a factor or scale outside of 0 and 1.
    Source: Zhong et al. 2017.

    Example:
        >>> RandomErasing(fill_value=0)(torch.ones(2, 4, 4, 3), training=True).shape
        torch.Size([2, 4, 4, 3])
    """

    factor_bounds = (0.0, 1.0)

    def __init__(
        self,
        factor: Factor = 1.0,
        scale: Factor = (0.02, 0.33),
        fill_value: float | Sequence[float] | None = None,
        value_range: Range = (0, 255),
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(value_range, factor=factor, seed=seed, data_format=data_format, **kwargs)
        self.scale = self._range(scale, "scale", 0.0, 1.0)
        self.fill_value = fill_value

    def _draw(self, draws: Draws) -> Any:
        sides = draws.uniform(draws.rows, 2, between=self.scale).sqrt()
        masks, _ = _rectangles(self, draws, sides[:, 1], sides[:, 0])
        return {"batch_masks": masks, "apply_erasing": draws.happens(self.factor), "fill_value": self._filling(draws)}

    def _filling(self, draws: Draws) -> Tensor:
        if self.fill_value is None:
            filling = draws.normal(*draws.shape) * self.value_range[1]
        else:
            filling = torch.tensor(self.fill_value, dtype=draws.dtype, device=draws.device)
            if filling.ndim == 1:
                filling = filling.reshape([1] * (4 + self.channel_axis) + [-1] + [1] * (-1 - self.channel_axis))
        return filling.clamp(*self.value_range)

    def _apply_to(self, images: Tensor, transformation: Any) -> Tensor:
        erased = transformation["batch_masks"] & per_image(transformation["apply_erasing"])
        return torch.where(erased, transformation["fill_value"].to(images.dtype), images)


class RandomMixLayer(LeavesAlone, RandomImageLayer):
    """Base class of layers that mix each image of a batch, and its label, with another one.

    Args:
        kwargs: As of every random layer on images.
    """

    def transform_labels(self, labels: Tensor, transformation: Any, training: bool = True) -> Tensor:
        """Returns the labels (numbers for each class), mixed in proportion to the images."""
        if not training or transformation is None:
            return labels
        return self._mixed(labels, transformation)

    def _mixed(self, values: Tensor, transformation: Any) -> Tensor:
        weight = transformation["mix_weight"]
        weight = weight.reshape(-1, *[1] * (values.ndim - 1))
        weight = weight.to(values.dtype) if values.is_floating_point() else weight
        return weight * values + (1.0 - weight) * values[transformation["permutation_order"]]


@register()
class CutMix(RandomMixLayer):
    """Images with a rectangle pasted in from another image of the batch, in training; labels are mixed by its area.

    Bounding boxes are not supported.

    Args:
        factor: Shape of the distribution (Beta) that the area is drawn from: 0 to 1, or the limits of a random one;
            `f` means from 0 to `f`.
        seed: Int for reproducible numbers.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
    Output shape: that of the input.
    Raises: ValueError: for a factor outside of 0 and 1.
    Source: Yun et al. 2019.

    Example:
        >>> data = {"images": torch.ones(2, 4, 4, 3), "labels": torch.eye(2)}
        >>> CutMix()(data, training=True)["labels"].sum()
        tensor(2.)
    """

    factor_bounds = (0.0, 1.0)

    def __init__(self, factor: Factor = 1.0, seed: int | None = None, data_format: str | None = None, **kwargs: Any):
        super().__init__(factor=factor, seed=seed, data_format=data_format, **kwargs)

    def _draw(self, draws: Draws) -> Any:
        alpha = draws.uniform(between=self.factor) + 1e-6
        side = (1.0 - draws.shares(alpha.expand(draws.rows, 2))[:, 0]).sqrt()
        masks, area = _rectangles(self, draws, side, side)
        return {"permutation_order": draws.order(), "batch_masks": masks, "mix_weight": per_image(1.0 - area)}

    def _apply_to(self, images: Tensor, transformation: Any) -> Tensor:
        return torch.where(transformation["batch_masks"], images[transformation["permutation_order"]], images)

    def transform_segmentation_masks(
        self, segmentation_masks: Tensor, transformation: Any, training: bool = True
    ) -> Tensor:
        """Returns the masks, with the same rectangles of the other masks."""
        if not training or transformation is None:
            return segmentation_masks
        return self._apply_to(segmentation_masks, transformation)


@register()
class MixUp(RandomMixLayer):
    """Random mixture of each image and its label with another one of the batch, in training.

    Args:
        alpha: Shape of the distribution (Beta) of the weights; larger mixes more evenly.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
        seed: Int for reproducible numbers.
    Output shape: that of the input.
    Raises: ValueError: if `alpha` is not positive.
    Source: Zhang et al. 2017.

    Example:
        >>> data = {"images": torch.ones(2, 4, 4, 3), "labels": torch.eye(2)}
        >>> MixUp()(data, training=True)["labels"].shape
        torch.Size([2, 2])
    """

    def __init__(self, alpha: float = 0.2, data_format: str | None = None, seed: int | None = None, **kwargs: Any):
        super().__init__(data_format=data_format, seed=seed, **kwargs)
        if not alpha > 0:
            raise ValueError(f"{self.name}: alpha must be positive; got {alpha!r}.")
        self.alpha = alpha

    def _draw(self, draws: Draws) -> Any:
        weight = draws.shares(torch.full((draws.rows, 2), float(self.alpha), device=draws.device))[:, 0]
        return {"mix_weight": weight, "permutation_order": draws.order()}

    def _apply_to(self, images: Tensor, transformation: Any) -> Tensor:
        return self._mixed(images, transformation)

    def transform_segmentation_masks(
        self, segmentation_masks: Tensor, transformation: Any, training: bool = True
    ) -> Tensor:
        """Returns the masks, mixed like the images."""
        return self.transform_labels(segmentation_masks, transformation, training)

    def transform_bounding_boxes(self, bounding_boxes: Any, transformation: Any, training: bool = True) -> Any:
        """Returns the boxes of both images."""
        if not training or transformation is None:
            return bounding_boxes
        order = transformation["permutation_order"]
        both = {name: torch.cat((bounding_boxes[name], bounding_boxes[name][order]), 1) for name in ("boxes", "labels")}
        return {**bounding_boxes, **both}


def _rectangles(layer: RandomImageLayer, draws: Draws, down: Tensor, across: Tensor) -> tuple[Tensor, Tensor]:
    """Returns a random rectangle for each image: a mask of its pixels, and its share of the image's area.

    Args:
        down, across: Its height and width, as parts of the image's.
    """
    inside: list[Tensor] = []
    sizes = layer._size_of(draws.shape)
    ends = []
    for part, size in zip((across, down), reversed(sizes), strict=True):  # x is drawn first, as Keras does
        length = part * size
        start = draws.uniform(draws.rows) * (size - length)
        pixel = torch.arange(size, dtype=draws.dtype, device=draws.device)
        inside.append((pixel >= start[:, None]) & (pixel < (start + length)[:, None]))
        ends.append(length)
    mask = inside[1][:, :, None] & inside[0][:, None, :]
    return mask.unsqueeze(layer.channel_axis), ends[0] * ends[1] / (sizes[0] * sizes[1])
