"""Drawing of bounding boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from kstyle_torch import ops
from kstyle_torch.utils.bounding_boxes import NO_BOX, convert_format
from kstyle_torch.visualization.arrays import is_channels_first, to_images

FONT_SIZE = 30  # pixels, at a scale of 1: capitals are as high as OpenCV's then


def draw_bounding_boxes(
    images: Any,
    bounding_boxes: dict[str, Any],
    bounding_box_format: str,
    class_mapping: dict[int, str] | None = None,
    color: Sequence[int] = (128, 128, 128),
    line_thickness: int = 2,
    text_thickness: int | None = 1,
    font_scale: float = 1.0,
    data_format: str | None = None,
) -> np.ndarray:
    """Draws boxes on images, and the names of their classes above them.

    Lines are drawn as OpenCV draws them, texts in Pillow's own font.

    Args:
        images: (batch, height, width, channels), 0 to 255; or floats from 0 to 1.
        bounding_boxes: Dict of `"boxes"`, (batch, n, 4), and `"labels"`, (batch, n), -1 for no box; with `"confidences"`,
            (batch, n), the text has them too.
        bounding_box_format: See `utils.bounding_boxes`.
        class_mapping: Class -> the text; boxes of other classes get none.
        color: Of boxes and texts.
        line_thickness: Pixels; negative to fill the boxes.
        text_thickness: Likewise; `line_thickness` if it is None or 0.
        font_scale: Size of the text.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
    Returns: Images of the same shape, uint8.
    Raises: ValueError: for images that are not a batch, or boxes without labels. TypeError: for boxes that are not a dict.
        ImportError: for texts without Pillow.

    Example:
        >>> boxes = {"boxes": [[[1, 1, 3, 3]]], "labels": [[0]]}
        >>> images = draw_bounding_boxes(np.zeros((1, 5, 5, 1)), boxes, "xyxy", line_thickness=1)
        >>> images[0, :, :, 0].tolist()[1]
        [0, 128, 128, 128, 0]
    """
    if not isinstance(bounding_boxes, dict):
        raise TypeError(f"bounding_boxes must be a dict of 'boxes' and 'labels'; got {type(bounding_boxes).__name__}.")
    if not {"boxes", "labels"} <= bounding_boxes.keys():
        raise ValueError(f"bounding_boxes must have 'boxes' and 'labels'; got {[*bounding_boxes]}.")
    drawn = _as_bytes(to_images(images, data_format))
    height, width = drawn.shape[1:3]
    boxes = ops.convert_to_numpy(convert_format(bounding_boxes["boxes"], bounding_box_format, "xyxy", height, width))
    labels = ops.convert_to_numpy(bounding_boxes["labels"]).astype(int)
    confidences = bounding_boxes.get("confidences")
    confidences = None if confidences is None else ops.convert_to_numpy(confidences)
    names = class_mapping or {}
    for number, image in enumerate(drawn):
        for place, (box, label) in enumerate(zip(boxes[number], labels[number])):
            if label == NO_BOX:
                continue
            left, top, right, bottom = box.astype(int).tolist()
            _draw_box(image, left, top, right, bottom, color, line_thickness)
            if label in names:
                confidence = "" if confidences is None else f" | {confidences[number][place]:.2f}"
                thickness = text_thickness or line_thickness
                _draw_text(image, left, top, f"{names[label]}{confidence}", color, thickness, font_scale)
    return drawn.transpose(0, 3, 1, 2) if is_channels_first(data_format) else drawn


def _as_bytes(images: np.ndarray) -> np.ndarray:
    """Returns images as uint8; floats that are not above 1 are taken for shares."""
    if images.dtype.kind == "f" and images.size:
        images = np.clip(images, 0, 1) * 255 if images.max() <= 1 else np.clip(images, 0, 255)
    return np.ascontiguousarray(images.astype("uint8"))


def _paint(image: np.ndarray, rows: tuple[int, int], columns: tuple[int, int], color: Sequence[int]) -> None:
    """Colors a part of an image, both ends included, as far as it is in it."""
    (top, bottom), (left, right) = ((max(first, 0), max(last + 1, 0)) for first, last in (rows, columns))
    image[top:bottom, left:right] = np.array(color, "uint8")[: image.shape[-1]]


def _draw_box(
    image: np.ndarray, left: int, top: int, right: int, bottom: int, color: Sequence[int], thickness: int
) -> None:
    """Draws four lines with a round pen, whose radius is that of OpenCV."""
    left, right, top, bottom = *sorted((left, right)), *sorted((top, bottom))
    if thickness < 0:
        _paint(image, (top, bottom), (left, right), color)
        return
    radius = 0 if thickness <= 1 else (thickness + 1) // 2
    for offset in range(-radius, radius + 1):
        reach = math.isqrt(radius**2 - offset**2)
        for row in (top, bottom):
            _paint(image, (row + offset, row + offset), (left - reach, right + reach), color)
        for column in (left, right):
            _paint(image, (top - reach, bottom + reach), (column + offset, column + offset), color)


def _draw_text(
    image: np.ndarray, left: int, top: int, text: str, color: Sequence[int], thickness: int, scale: float
) -> None:
    """Writes a text above a box, or inside if there is not enough space."""
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError as error:
        raise ImportError("Texts on images need Pillow: pip install 'kstyle-torch[images]'.") from error
    line = int(scale * 12)
    place = (left, top - 8) if top - 8 - 2 * line > 0 else (left + 3, top + 2 * line + thickness + 3)
    mask = Image.new("L", (image.shape[1], image.shape[0]))
    font = ImageFont.load_default(FONT_SIZE * scale)
    ImageDraw.Draw(mask).text(place, text, 255, font, anchor="ls", stroke_width=max(thickness - 1, 0) // 2)
    share = np.asarray(mask)[..., None] / 255
    image[:] = np.round(image * (1 - share) + np.array(color)[: image.shape[-1]] * share)
