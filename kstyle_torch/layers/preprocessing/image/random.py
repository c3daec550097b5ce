"""Base classes of random layers on images, and their random numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kstyle_torch._torch import sample_dirichlet
from kstyle_torch.draws import generator, skip_default_seed
from kstyle_torch.layer.seed_states import DrawsFromTorch
from kstyle_torch.layers.preprocessing.image.base import BaseImagePreprocessingLayer, KeepsPlaces, Range
from kstyle_torch.layers.preprocessing.image.boxes import clipped_boxes, from_xyxy, to_xyxy


class Draws:
    """Random numbers for one batch, on its device.

    Args:
        source: A CPU generator if there is a seed, so that all devices get the same numbers; else None.
        images: The batch.
        dtype: Of the numbers.
    """

    def __init__(self, source: torch.Generator | None, images: Tensor, dtype: torch.dtype):
        self.source, self.rows, self.dtype, self.device = source, len(images), dtype, images.device
        self.shape = images.shape
        self._where: Any = {"device": images.device if source is None else source.device, "generator": source}

    def uniform(self, *shape: int, between: Range = (0.0, 1.0)) -> Tensor:
        """Returns uniformly distributed numbers."""
        low, high = between
        return torch.rand(shape, dtype=self.dtype, **self._where).to(self.device) * (high - low) + low

    def normal(self, *shape: int) -> Tensor:
        """Returns numbers of mean 0 and deviation 1."""
        return torch.randn(shape, dtype=self.dtype, **self._where).to(self.device)

    def whole(self, *shape: int, below: int, start: int = 0) -> Tensor:
        """Returns integers."""
        return torch.randint(start, below, shape, **self._where).to(self.device)

    def order(self) -> Tensor:
        """Returns the shuffled images of the batch."""
        return torch.randperm(self.rows, **self._where).to(self.device)

    def shares(self, alpha: Tensor) -> Tensor:
        """Returns numbers that add up to 1 along the last axis, from a Dirichlet distribution (two of them: from a Beta)."""
        alpha = alpha.to(self._where["device"], torch.float32)
        return sample_dirichlet(alpha, generator=self.source).to(self.device, self.dtype)

    def happens(self, chance: Range) -> Tensor:
        """Returns whether to apply a transformation to each image, with a random probability."""
        return self.uniform(self.rows) < self.uniform(self.rows, between=chance)


class RandomImageLayer(DrawsFromTorch, BaseImagePreprocessingLayer):
    """Base class of layers with a random transformation in training.

    Args:
        seed: Int for reproducible numbers on all devices.
        kwargs: As of every layer on images.
    """

    def __init__(self, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if seed is not None and (isinstance(seed, bool) or not hasattr(seed, "__index__")):
            raise ValueError(f"{self.name}: seed must be an int or None; got {seed!r}.")
        self.seed = seed
        skip_default_seed(seed)
        self._generator = None if seed is None else generator(seed)

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        """Returns the transformation of a batch; None in inference mode."""
        if not training:
            return None
        images = data["images"] if isinstance(data, dict) else data
        return self._draw(self._draws(images, seed))

    def _draws(self, images: Tensor, seed: Any = None) -> Draws:
        if seed is None:
            source = self._generator
        else:
            source = seed if isinstance(seed, torch.Generator) else generator(seed)
        images = images if images.ndim == 4 else images[None]
        # in half precision, coordinates in a large image would be off by half a pixel
        dtype = torch.promote_types(self._float(images).dtype, torch.float32)
        return Draws(source, images, dtype)

    def _draw(self, draws: Draws) -> Any:
        raise NotImplementedError

    def transform_images(self, images: Tensor, transformation: Any, training: bool = True) -> Tensor:
        """Returns the batch of images, transformed."""
        images = self._float(images)
        return self._apply_to(images, transformation) if training and transformation is not None else images

    def _apply_to(self, images: Tensor, transformation: Any) -> Tensor:
        raise NotImplementedError


class LeavesAlone:
    """Base of layers whose `transform_images` returns images unchanged without a transformation, as in Keras."""

    def transform_images(self, images: Tensor, transformation: Any = None, training: bool = True) -> Tensor:
        """Returns the batch of images, transformed."""
        return super().transform_images(images, transformation, training)  # type: ignore[misc]


class RandomValueLayer(KeepsPlaces, RandomImageLayer):
    """Base class of random layers that change only values.

    Args:
        value_range: Smallest and largest value of a pixel.
        kwargs: As of every random layer on images.
    """

    def __init__(self, value_range: Range = (0, 255), **kwargs: Any):
        super().__init__(**kwargs)
        self.value_range = self._value_range(value_range)


class RandomMoveLayer(RandomImageLayer):
    """Base class of random layers that move pixels, and boxes and masks with them."""

    interpolation = "bilinear"

    def transform_segmentation_masks(
        self, segmentation_masks: Tensor, transformation: Any, training: bool = True
    ) -> Tensor:
        """Returns the batch of masks, with nearest interpolation to preserve classes."""
        if not training or transformation is None:
            return segmentation_masks
        return self._move(segmentation_masks, transformation, "nearest")

    def transform_bounding_boxes(self, bounding_boxes: Any, transformation: Any, training: bool = True) -> Any:
        """Returns the bounding boxes of the transformed boxes, clipped to the image."""
        if not training or transformation is None:
            return bounding_boxes
        size = self._size_of(transformation["input_shape"])
        box_format = self.bounding_box_format or "xyxy"
        boxes = self._move_boxes(to_xyxy(bounding_boxes["boxes"], box_format, *size), transformation, *size)
        boxes, labels = clipped_boxes(boxes, bounding_boxes["labels"], *size)
        return {**bounding_boxes, "boxes": from_xyxy(boxes, box_format, *size), "labels": labels}

    def _apply_to(self, images: Tensor, transformation: Any) -> Tensor:
        return self._move(images, transformation, self.interpolation)

    def _move(self, images: Tensor, transformation: Any, interpolation: str) -> Tensor:
        raise NotImplementedError

    def _move_boxes(self, boxes: Tensor, transformation: Any, height: int, width: int) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} does not support bounding boxes.")


def per_image(numbers: Tensor) -> Tensor:
    """Reshapes one number for each image, to broadcast over its pixels."""
    return numbers.reshape(-1, 1, 1, 1)
