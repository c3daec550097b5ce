"""Drawing of segmentation masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kstyle_torch import ops
from kstyle_torch.visualization.arrays import is_channels_first, to_images

PALETTE = (2**25 - 1, 2**15 - 1, 2**21 - 1)  # times the class, modulo 255


def draw_segmentation_masks(
    images: Any,
    segmentation_masks: Any,
    num_classes: int | None = None,
    color_mapping: dict[int, Sequence[int]] | None = None,
    alpha: float = 0.8,
    blend: bool = True,
    ignore_index: int = -1,
    data_format: str | None = None,
) -> np.ndarray:
    """Colors the pixels of images by their classes.

    Args:
        images: (batch, height, width, channels), 0 to 255.
        segmentation_masks: Classes of the pixels, integers, (batch, height, width) or (batch, height, width, 1).
        num_classes: Number of classes; as many as there are if None.
        color_mapping: Class -> its color; colors are chosen if None. Without a color for class 0, that is the background,
            which is left as it is.
        alpha: Share of the color, from 0 to 1.
        blend: Whether the color is mixed with the pixel; else it takes its place.
        ignore_index: Class whose pixels stay as they are.
        data_format: `"channels_last"` or `"channels_first"`, of images and masks; `config.image_data_format()` if None.
    Returns: Images with channels last: uint8, or float32 without `blend`.
    Raises: ValueError: for images that are not a batch, classes beyond `num_classes`, or classes without a color.
        TypeError: for masks that are not of integers.

    Example:
        >>> masks = np.array([[[0, 1]]])
        >>> draw_segmentation_masks(np.full((1, 1, 2, 3), 200.0), masks, color_mapping={1: (255, 0, 0)}, alpha=0.5).tolist()
        [[[[200, 200, 200], [227, 100, 100]]]]
    """
    pixels = to_images(images, data_format).astype("float32")
    classes = ops.convert_to_numpy(segmentation_masks)
    if classes.dtype.kind not in "iu":
        raise TypeError(f"segmentation_masks must be of integers; got {classes.dtype}.")
    classes = classes.astype("int64")
    if classes.ndim == 4:
        classes = classes[:, 0] if is_channels_first(data_format) else classes[..., 0]
    drawn = np.where(classes == ignore_index, -1, classes)
    largest = int(drawn.max(initial=-1))
    num_classes = largest + 1 if num_classes is None else num_classes
    if largest >= num_classes:
        raise ValueError(
            f"segmentation_masks has the class {largest}; with num_classes={num_classes} that is too large."
        )
    colored = pixels.copy()
    for number in range(num_classes):
        if color_mapping is None:
            color: Any = [number * factor % 255 for factor in PALETTE]
        elif number in color_mapping:
            color = color_mapping[number]
        elif number == 0:
            continue
        else:
            raise ValueError(f"color_mapping has no color for class {number}; it has {[*color_mapping]}.")
        colored[drawn == number] = np.array(color, "float32")
    if not blend:
        return colored
    mixed = pixels * np.float32(1 - alpha) + colored * np.float32(alpha)
    is_drawn = (classes != ignore_index)[..., None]
    if color_mapping is not None and 0 not in color_mapping:
        is_drawn &= (classes != 0)[..., None]
    return np.where(is_drawn, mixed, pixels).astype("uint8")
