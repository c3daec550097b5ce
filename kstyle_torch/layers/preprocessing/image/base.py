"""Base of layers on images: the parts of a sample, batches and single images, factors, ranges of values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from kstyle_torch.initializers import as_dtype
from kstyle_torch.layer.base import Layer
from kstyle_torch.layer.spatial import check_data_format
from kstyle_torch.layers.preprocessing.image.boxes import check_box_format, dense_boxes
from kstyle_torch.ops.operation import as_tensor

PARTS = {  # keys of batches in the order of transformation, and names for single images
    "images": "image",
    "bounding_boxes": "bounding_box",
    "labels": "label",
    "segmentation_masks": "segmentation_mask",
}
Factor = float | Sequence[float]
Range = tuple[float, float]


class BaseImagePreprocessingLayer(Layer):
    """Base class of layers on images.

    Subclasses define `transform_images` and, for random transformations, `get_random_transformation`.

    It is called on images, or on a dict of `"images"` and any of `"labels"`, `"bounding_boxes"` (a dict of `"boxes"`
    and `"labels"`) and `"segmentation_masks"`, which all go through one transformation; and on batches, or on a single
    image with its other parts. Integers become floats in both modes.

    Args:
        factor: Strength of the transformation: a number, or the limits of a random one.
        bounding_box_format: Format of the bounding boxes: `"xyxy"`, `"yxyx"`, `"xywh"`, `"center_xywh"`, `"center_yxhw"`,
            `"rel_xyxy"`, `"rel_yxyx"`, `"rel_xywh"` or `"rel_center_xywh"`.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
    Input shape: (batch, height, width, channels), or without the batch.
    Raises: ValueError: for a factor outside of the class' `factor_bounds`, an unknown format, other shapes.

    Example:
        >>> class Darken(BaseImagePreprocessingLayer):
        ...     def transform_images(self, images, transformation, training=True):
        ...         return images * 0.5
        >>> Darken()({"images": torch.ones(2, 2, 1), "labels": torch.tensor(3)})["images"].shape
        torch.Size([2, 2, 1])
    """

    _allow_non_tensor_positional_args = True
    factor_bounds: ClassVar[Range] = (-1.0, 1.0)

    def __init__(
        self,
        factor: Factor | None = None,
        bounding_box_format: str | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.data_format = check_data_format(data_format, self)
        self.bounding_box_format = check_box_format(bounding_box_format, self)
        last = self.data_format == "channels_last"
        self.height_axis, self.width_axis, self.channel_axis = (-3, -2, -1) if last else (-2, -1, -3)
        if factor is not None:
            self.factor: Any = self._range(factor, "factor", *self.factor_bounds)

    # --------------------------------------------------------------------------------------------- to be overridden

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        """Returns the transformation of all parts of a batch: the argument of the `transform_` methods.

        Args:
            data: The batch or single image: images, or the dict of all parts.
            training: The mode.
            seed: Source of random numbers instead of the layer's own: an int or a `torch.Generator`.
        """
        return None

    def transform_images(self, images: Tensor, transformation: Any, training: bool = True) -> Tensor:
        """Returns the batch of images, transformed."""
        raise NotImplementedError(f"{type(self).__name__} must define transform_images().")

    def transform_labels(self, labels: Tensor, transformation: Any, training: bool = True) -> Tensor:
        """Returns the batch of labels, transformed: unchanged, unless a subclass mixes images."""
        return labels

    def transform_bounding_boxes(
        self, bounding_boxes: dict[str, Tensor], transformation: Any, training: bool = True
    ) -> dict[str, Tensor]:
        """Returns the batch of `{"boxes": (batch, n, 4), "labels": (batch, n)}`, transformed."""
        raise NotImplementedError(f"{type(self).__name__} does not support bounding boxes.")

    def transform_segmentation_masks(
        self, segmentation_masks: Tensor, transformation: Any, training: bool = True
    ) -> Tensor:
        """Returns the batch of masks, transformed; they have the height and width of the images."""
        raise NotImplementedError(f"{type(self).__name__} does not support segmentation masks.")

    def transform_single_image(self, image: Tensor, transformation: Any, training: bool = True) -> Tensor:
        """Returns a single image, transformed."""
        return self.transform_images(image[None], transformation=transformation, training=training)[0]

    def transform_single_label(self, label: Tensor, transformation: Any, training: bool = True) -> Tensor:
        """Returns the label of a single image, transformed."""
        return self.transform_labels(label[None], transformation=transformation, training=training)[0]

    def transform_single_bounding_box(
        self, bounding_box: dict[str, Tensor], transformation: Any, training: bool = True
    ) -> dict[str, Tensor]:
        """Returns the boxes of a single image, `{"boxes": (n, 4), "labels": (n,)}`, transformed."""
        boxes = {name: part[None] for name, part in bounding_box.items()}
        boxes = self.transform_bounding_boxes(boxes, transformation=transformation, training=training)
        return {name: part[0] for name, part in boxes.items()}

    def transform_single_segmentation_mask(
        self, segmentation_mask: Tensor, transformation: Any, training: bool = True
    ) -> Tensor:
        """Returns the mask of a single image, transformed."""
        masks = self.transform_segmentation_masks(
            segmentation_mask[None], transformation=transformation, training=training
        )
        return masks[0]

    def convert_weight(self, weight: Any) -> Any:
        """Returns a weight unchanged, since torch is the only backend."""
        return weight

    # -------------------------------------------------------------------------------------------------- calling it

    def forward(self, data: Any, training: bool = True) -> Any:
        """Draws one transformation and applies it to all parts of the data."""
        parts = self._parts(data) if isinstance(data, dict) else {"images": as_tensor(data)}
        single = parts["images"].ndim == 3
        if parts["images"].ndim not in (3, 4):
            raise ValueError(
                f"{self.name}: images must have 3 axes (one image) or 4 (a batch); got shape {tuple(parts['images'].shape)}."
            )
        seen = parts if isinstance(data, dict) else parts["images"]
        how: Any = {
            "transformation": self.get_random_transformation(seen, training=training),
            "training": training,
        }
        for name, one in PARTS.items():
            if name in parts:
                transform = getattr(self, f"transform_single_{one}" if single else f"transform_{name}")
                parts[name] = transform(parts[name], **how)
        return parts if isinstance(data, dict) else parts["images"]

    def _parts(self, data: dict[str, Any]) -> dict[str, Any]:
        if "images" not in data:
            raise ValueError(f"{self.name}: the dict must have 'images'; got {', '.join(map(repr, data))}.")
        parts = {name: part if name == "bounding_boxes" else as_tensor(part) for name, part in data.items()}
        if "bounding_boxes" in parts:
            if not self.bounding_box_format:
                raise ValueError(
                    f"{self.name} got bounding boxes of an unknown format; "
                    f"pass bounding_box_format='xyxy' (or another) to {type(self).__name__}."
                )
            parts["bounding_boxes"] = dense_boxes(parts["bounding_boxes"], parts["images"].device)
        return parts

    def _size_of(self, shape: Sequence[int]) -> tuple[int, int]:
        """Returns the height and width of images of that shape."""
        return shape[self.height_axis], shape[self.width_axis]

    def _float(self, images: Tensor) -> Tensor:
        """Casts integer images to the compute dtype; floats were cast when the layer was called."""
        return images if images.is_floating_point() else images.to(as_dtype(self.compute_dtype))

    # ------------------------------------------------------------------------------------------------ its arguments

    def _range(self, value: Any, name: str, low: float, high: float) -> Range:
        """Returns the limits of a random factor; a single number means from its negative, or from `low`."""
        is_pair = isinstance(value, (tuple, list))
        pair = tuple(value) if is_pair else (value,)
        if len(pair) != 1 + is_pair or any(not isinstance(n, (int, float)) or not low <= n <= high for n in pair):
            raise ValueError(
                f"{self.name}: {name} must be a number, or a list of two numbers, from {low} to {high}; got {value!r}."
            )
        if not is_pair:
            pair = (max(-abs(pair[0]), low), abs(pair[0]))
        lower, upper = sorted(pair)
        return lower, upper

    def _value_range(self, value: Any) -> Range:
        """Returns the smallest and the largest value of a pixel."""
        if not isinstance(value, (tuple, list)) or len(value) != 2:
            raise ValueError(f"{self.name}: value_range must be two numbers, such as (0, 255); got {value!r}.")
        lower, upper = sorted(value)
        return lower, upper


class KeepsPlaces:
    """Base of layers that change only values: boxes and masks are not changed."""

    def transform_bounding_boxes(self, bounding_boxes: Any, transformation: Any, training: bool = True) -> Any:
        """Returns the boxes unchanged."""
        return bounding_boxes

    def transform_segmentation_masks(self, segmentation_masks: Any, transformation: Any, training: bool = True) -> Any:
        """Returns the masks unchanged."""
        return segmentation_masks


def rescaled(images: Tensor, source: Range, target: Range) -> Tensor:
    """Rescales the values of images from the range `source` to `target`."""
    if tuple(source) == tuple(target):
        return images
    return (images - source[0]) / (source[1] - source[0]) * (target[1] - target[0]) + target[0]
