"""Resizing and cropping of images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kstyle_torch.draws import skip_default_seed
from kstyle_torch.layer.base import layer_registry
from kstyle_torch.layers.preprocessing.image.base import BaseImagePreprocessingLayer
from kstyle_torch.layers.preprocessing.image.boxes import clipped_boxes, from_xyxy, to_xyxy
from kstyle_torch.layers.preprocessing.image.random import RandomImageLayer
from kstyle_torch.ops.image.sizes import aspect_window, check_resize, crop_images, resize

register = layer_registry.register


class SizedImageLayer(BaseImagePreprocessingLayer):
    """Base class of layers that change the height and width of images.

    Args:
        height: Height of the result.
        width: Width of the result.
        kwargs: As of every layer on images.
    """

    def __init__(self, height: int, width: int, **kwargs: Any):
        super().__init__(**kwargs)
        if any(not hasattr(size, "__index__") or size < 1 for size in (height, width)):
            raise ValueError(f"{self.name}: height and width must be positive integers; got {height!r} and {width!r}.")
        self.height, self.width = int(height), int(width)

    def _fitted(self, images: Tensor, interpolation: str = "bilinear") -> Tensor:
        """Returns the largest window of the right aspect ratio, resized."""
        size = (self.height, self.width)
        return resize(images, size, interpolation, crop_to_aspect_ratio=True, data_format=self.data_format)

    def _fitted_boxes(self, boxes: Tensor, height: int, width: int) -> Tensor:
        top, left, window_height, window_width = aspect_window((height, width), (self.height, self.width), min)
        scale = boxes.new_tensor((self.width / window_width, self.height / window_height)).repeat(2)
        return (boxes - boxes.new_tensor((left, top, left, top))) * scale

    def _with_boxes(self, bounding_boxes: Any, boxes: Tensor) -> Any:
        """Returns the boxes (xyxy) in the new image, clipped to it."""
        boxes, labels = clipped_boxes(boxes, bounding_boxes["labels"], self.height, self.width)
        boxes = from_xyxy(boxes, self.bounding_box_format or "xyxy", self.height, self.width)
        return {**bounding_boxes, "boxes": boxes, "labels": labels}


@register()
class Resizing(SizedImageLayer):
    """Resizing of images, in training and in inference. Integer dtypes are kept.

    Args:
        height: Height of the result.
        width: Width of the result.
        interpolation: `"bilinear"`, `"nearest"`, `"bicubic"`, `"lanczos3"` or `"lanczos5"`.
        crop_to_aspect_ratio: Whether to crop images to the aspect ratio, around the center, instead of distorting them.
        pad_to_aspect_ratio: Whether to pad images to the aspect ratio instead.
        fill_mode: `"constant"`, the only one.
        fill_value: The constant.
        antialias: Whether to blur before making an image smaller.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
    Output shape: (batch, height, width, channels).
    Raises: ValueError: for bad sizes, interpolation or fill mode; if both to crop and to pad.

    Example:
        >>> Resizing(4, 6)(torch.ones(2, 8, 8, 3)).shape
        torch.Size([2, 4, 6, 3])
    """

    def __init__(
        self,
        height: int,
        width: int,
        interpolation: str = "bilinear",
        crop_to_aspect_ratio: bool = False,
        pad_to_aspect_ratio: bool = False,
        fill_mode: str = "constant",
        fill_value: float = 0.0,
        antialias: bool = False,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(height, width, data_format=data_format, **kwargs)
        check_resize((height, width), interpolation, crop_to_aspect_ratio, pad_to_aspect_ratio, fill_mode)
        self.interpolation, self.antialias, self.fill_value = interpolation, bool(antialias), fill_value
        self.crop_to_aspect_ratio, self.pad_to_aspect_ratio = crop_to_aspect_ratio, pad_to_aspect_ratio

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> tuple[int, int]:
        """Returns the height and width of the images, since resizing is not random."""
        return self._size_of((data["images"] if isinstance(data, dict) else data).shape)

    def transform_images(self, images: Tensor, transformation: Any = None, training: bool = True) -> Tensor:
        """Returns the batch of images, resized."""
        return self._resized(images, self.interpolation)

    def transform_labels(self, labels: Tensor, transformation: Any = None, training: bool = True) -> Tensor:
        """Returns the labels unchanged."""
        return labels

    def transform_segmentation_masks(
        self, segmentation_masks: Tensor, transformation: Any = None, training: bool = True
    ) -> Tensor:
        """Returns the batch of masks, resized with nearest interpolation."""
        return self._resized(segmentation_masks, "nearest")

    def _resized(self, images: Tensor, interpolation: str) -> Tensor:
        return resize(
            images,
            (self.height, self.width),
            interpolation,
            antialias=self.antialias,
            crop_to_aspect_ratio=self.crop_to_aspect_ratio,
            pad_to_aspect_ratio=self.pad_to_aspect_ratio,
            fill_value=self.fill_value,
            data_format=self.data_format,
        )

    def transform_bounding_boxes(self, bounding_boxes: Any, transformation: Any, training: bool = True) -> Any:
        """Returns the boxes in the resized images; missing boxes, of 0 or -1 only, become zeros."""
        given = bounding_boxes["boxes"]
        none = ((given == -1).all(-1) | (given == 0).all(-1)).unsqueeze(-1)
        boxes = self._place(to_xyxy(given, self.bounding_box_format or "xyxy", *transformation), *transformation)
        return self._with_boxes(bounding_boxes, torch.where(none, 0.0, boxes))

    def _place(self, boxes: Tensor, height: int, width: int) -> Tensor:
        down, across = self.height / height, self.width / width
        top = left = 0.0
        if self.pad_to_aspect_ratio or self.crop_to_aspect_ratio:
            down = across = min(down, across) if self.pad_to_aspect_ratio else max(down, across)
            top, left = (self.height - height * down) // 2, (self.width - width * across) // 2
            if self.crop_to_aspect_ratio:
                top, left = -((height * down - self.height) // 2), -((width * across - self.width) // 2)
        return boxes * boxes.new_tensor((across, down, across, down)) + boxes.new_tensor((left, top, left, top))


@register()
class CenterCrop(SizedImageLayer):
    """Cropping to the center, in training and in inference; images that are too small are resized without distortion.

    Args:
        height: Height of the result.
        width: Width of the result.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
    Output shape: (batch, height, width, channels).
    Raises: ValueError: if a size is not positive.

    Example:
        >>> CenterCrop(4, 6)(torch.ones(2, 8, 8, 3)).shape
        torch.Size([2, 4, 6, 3])
    """

    def __init__(self, height: int, width: int, data_format: str | None = None, **kwargs: Any):
        super().__init__(height, width, data_format=data_format, **kwargs)

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> dict[str, Any]:
        """Returns the shape of the images, since center cropping is not random."""
        return {"input_shape": (data["images"] if isinstance(data, dict) else data).shape}

    def transform_images(self, images: Tensor, transformation: Any = None, training: bool = True) -> Tensor:
        """Returns the batch of images, cropped."""
        return self._cropped(self._float(images), "bilinear")

    def transform_segmentation_masks(
        self, segmentation_masks: Tensor, transformation: Any, training: bool = True
    ) -> Tensor:
        """Returns the batch of masks, cropped."""
        return self._cropped(segmentation_masks, "nearest")

    def _cropped(self, images: Tensor, interpolation: str) -> Tensor:
        height, width = self._size_of(images.shape)
        if height < self.height or width < self.width:
            return self._fitted(images, interpolation)
        return crop_images(
            images,
            top_cropping=(height - self.height) // 2,
            left_cropping=(width - self.width) // 2,
            target_height=self.height,
            target_width=self.width,
            data_format=self.data_format,
        )

    def transform_bounding_boxes(self, bounding_boxes: Any, transformation: Any, training: bool = True) -> Any:
        """Returns the boxes in the cropped images."""
        height, width = self._size_of(transformation["input_shape"])
        boxes = to_xyxy(bounding_boxes["boxes"], self.bounding_box_format or "xyxy", height, width)
        if height < self.height or width < self.width:
            boxes = self._fitted_boxes(boxes, height, width)
        else:
            top, left = (height - self.height) // 2, (width - self.width) // 2
            boxes = boxes - boxes.new_tensor((left, top, left, top))
        return self._with_boxes(bounding_boxes, boxes)


@register()
class RandomCrop(SizedImageLayer, RandomImageLayer):
    """Random crop in training: a window at a random position, the same in all images of a batch.

    In inference, and if images are too small, it resizes the largest window that has the right aspect ratio, so that
    the result always has the same size.

    Args:
        height: Height of the result.
        width: Width of the result.
        seed: Int for reproducible windows.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
        name: Unique in a model; made from the class if None.
    Output shape: (batch, height, width, channels).
    Raises: ValueError: if a size is not positive.

    Example:
        >>> RandomCrop(4, 6)(torch.ones(2, 8, 8, 3), training=True).shape
        torch.Size([2, 4, 6, 3])
    """

    def __init__(
        self,
        height: int,
        width: int,
        seed: int | None = None,
        data_format: str | None = None,
        name: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(height, width, seed=seed, data_format=data_format, name=name, **kwargs)
        skip_default_seed(seed)  # Keras draws two seeds: one for the attribute, one for the generator

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> dict[str, Any]:
        """Returns top and left of the window, on the device; None if images are resized."""
        images = data["images"] if isinstance(data, dict) else data
        height, width = self._size_of(images.shape)
        start = None
        if training and height >= self.height and width >= self.width:
            draws = self._draws(images, seed)
            start = draws.whole(below=height - self.height + 1), draws.whole(below=width - self.width + 1)
        return {"start": start, "input_shape": images.shape}

    def compute_output_shape(self, input_shape: Any, *args: Any, **kwargs: Any) -> Any:
        """Returns the output's shape, which only `height` and `width` change."""
        return super().compute_output_shape(input_shape)

    def transform_images(self, images: Tensor, transformation: Any, training: bool = True) -> Tensor:
        """Returns the batch of images, cropped or resized."""
        return self._cropped(self._float(images), (transformation or {}).get("start"), "bilinear")

    def transform_segmentation_masks(
        self, segmentation_masks: Tensor, transformation: Any, training: bool = True
    ) -> Tensor:
        """Returns the batch of masks, cropped or resized."""
        return self._cropped(segmentation_masks, transformation["start"], "nearest")

    def _cropped(self, images: Tensor, start: Any, interpolation: str) -> Tensor:
        if start is None:
            return self._fitted(images, interpolation)
        # the position stays on the device, since the host would wait for it to slice
        sizes, axes = (self.height, self.width), (self.height_axis, self.width_axis)
        for first, size, axis in zip(start, sizes, axes, strict=True):
            images = images.index_select(axis, torch.arange(size, device=images.device) + first)
        return images

    def transform_bounding_boxes(self, bounding_boxes: Any, transformation: Any, training: bool = True) -> Any:
        """Returns the boxes in the window."""
        height, width = self._size_of(transformation["input_shape"])
        boxes = to_xyxy(bounding_boxes["boxes"], self.bounding_box_format or "xyxy", height, width)
        if transformation["start"] is None:
            return self._with_boxes(bounding_boxes, self._fitted_boxes(boxes, height, width))
        top, left = transformation["start"]
        return self._with_boxes(bounding_boxes, boxes - torch.stack((left, top, left, top)))
