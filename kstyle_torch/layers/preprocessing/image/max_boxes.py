"""MaxNumBoundingBoxes: padding of bounding boxes to equal numbers."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from kstyle_torch.layer.base import layer_registry
from kstyle_torch.layers.preprocessing.image.base import BaseImagePreprocessingLayer, KeepsPlaces

register = layer_registry.register


@register()
class MaxNumBoundingBoxes(KeepsPlaces, BaseImagePreprocessingLayer):
    """Truncation or padding of the bounding boxes of each image to the same number.

    Args:
        max_number: Number of boxes.
        fill_value: Value of padding boxes and their labels.
    Raises: ValueError: if `max_number` is negative.

    Example:
        >>> boxes = {"boxes": torch.zeros(2, 3, 4), "labels": torch.zeros(2, 3)}
        >>> data = {"images": torch.ones(2, 4, 4, 3), "bounding_boxes": boxes}
        >>> MaxNumBoundingBoxes(5, bounding_box_format="xyxy")(data)["bounding_boxes"]["labels"]
        tensor([[ 0.,  0.,  0., -1., -1.],
                [ 0.,  0.,  0., -1., -1.]])
    """

    def __init__(self, max_number: int, fill_value: int = -1, **kwargs: Any):
        super().__init__(**kwargs)
        if max_number < 0:
            raise ValueError(f"{self.name}: max_number must not be negative; got {max_number!r}.")
        self.max_number, self.fill_value = int(max_number), int(fill_value)

    def transform_images(self, images: Tensor, transformation: Any = None, training: bool = True) -> Tensor:
        """Returns the images unchanged."""
        return images

    def transform_labels(self, labels: Tensor, transformation: Any = None, training: bool = True) -> Tensor:
        """Returns the labels of the images as they are."""
        return labels

    def transform_segmentation_masks(
        self, segmentation_masks: Any, transformation: Any = None, training: bool = True
    ) -> Any:
        """Returns the masks unchanged."""
        return segmentation_masks

    def transform_bounding_boxes(self, bounding_boxes: Any, transformation: Any, training: bool = True) -> Any:
        """Returns the first boxes, padded to the number."""
        boxes, labels = (bounding_boxes[name][:, : self.max_number] for name in ("boxes", "labels"))
        missing = self.max_number - boxes.shape[1]
        boxes = F.pad(boxes, (0, 0, 0, missing), value=self.fill_value)
        labels = F.pad(labels, (0, 0) * (labels.ndim - 2) + (0, missing), value=self.fill_value)
        return {**bounding_boxes, "boxes": boxes, "labels": labels}
