"""Bounding boxes: their formats, ragged lists of them, boxes that leave the image, and a layer that pads them.

Boxes are a dict of `"boxes"`, (batch, n, 4), and `"labels"`, (batch, n). A label of -1 marks a missing box.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

FORMATS = (
    "xyxy",
    "yxyx",
    "xywh",
    "center_xywh",
    "center_yxhw",
    "rel_xyxy",
    "rel_yxyx",
    "rel_xywh",
    "rel_center_xywh",
)


def check_box_format(box_format: str | None, layer: Any) -> str | None:
    """Returns the format, in lower case.

    Raises: ValueError: if it is unknown.
    """
    if box_format is not None and str(box_format).lower() not in FORMATS:
        raise ValueError(f"{layer.name}: bounding_box_format must be one of {', '.join(FORMATS)}; got {box_format!r}.")
    return None if box_format is None else box_format.lower()


def to_xyxy(boxes: Tensor, box_format: str, height: Any, width: Any) -> Tensor:
    """Returns float32 boxes as left, top, right and bottom, in pixels."""
    return corners_from(boxes.to(torch.float32), box_format, height, width)


def corners_from(boxes: Tensor, box_format: str, height: Any, width: Any) -> Tensor:
    """Returns boxes as left, top, right and bottom, in pixels, without a cast.

    The coordinates keep their last axis, so that heights and widths of (batch, 1, 1) broadcast.
    """
    kind = box_format.removeprefix("rel_")
    first, second, third, fourth = boxes.split(1, -1)
    if kind in ("yxyx", "center_yxhw"):
        first, second, third, fourth = second, first, fourth, third
    if kind.startswith("center"):
        first, second, third, fourth = first - third / 2, second - fourth / 2, first + third / 2, second + fourth / 2
    elif kind == "xywh":
        third, fourth = first + third, second + fourth
    if box_format.startswith("rel_"):
        first, second, third, fourth = first * width, second * height, third * width, fourth * height
    return torch.cat((first, second, third, fourth), -1)


def from_xyxy(boxes: Tensor, box_format: str, height: Any, width: Any) -> Tensor:
    """Inverts `to_xyxy`."""
    kind = box_format.removeprefix("rel_")
    left, top, right, bottom = boxes.split(1, -1)
    if box_format.startswith("rel_"):
        left, top, right, bottom = left / width, top / height, right / width, bottom / height
    if kind.startswith("center"):
        left, top, right, bottom = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
    elif kind == "xywh":
        right, bottom = right - left, bottom - top
    if kind in ("yxyx", "center_yxhw"):
        left, top, right, bottom = top, left, bottom, right
    return torch.cat((left, top, right, bottom), -1)


def clipped_boxes(boxes: Tensor, labels: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Clips boxes (xyxy) to the image; the labels of boxes that are empty then become -1."""
    left, top, right, bottom = boxes.unbind(-1)
    left, right = left.clamp(0, width), right.clamp(0, width)
    top, bottom = top.clamp(0, height), bottom.clamp(0, height)
    there = (right - left) * (bottom - top) > 0
    there = there if labels.ndim == there.ndim else there.unsqueeze(-1)  # one-hot labels
    return torch.stack((left, top, right, bottom), -1), torch.where(there, labels, -1)


def moved_boxes(boxes: Tensor, move: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Tensor:
    """Returns the bounding boxes of the transformed corners of boxes (xyxy).

    Args:
        boxes: (batch, n, 4).
        move: x and y (batch, n, 4 corners) to new x and y.
    """
    left, top, right, bottom = boxes.unbind(-1)
    x, y = move(torch.stack((left, right, right, left), -1), torch.stack((top, top, bottom, bottom), -1))
    return torch.stack((x.amin(-1), y.amin(-1), x.amax(-1), y.amax(-1)), -1)


def dense_boxes(bounding_boxes: Any, device: torch.device) -> dict[str, Tensor]:
    """Returns the boxes as tensors; lists of different lengths are padded with boxes of zeros and labels of -1.

    Raises: ValueError: if they are not a dict of `"boxes"` and `"labels"`, or have the wrong number of axes.
    """
    if not isinstance(bounding_boxes, dict) or not {"boxes", "labels"} <= bounding_boxes.keys():
        raise ValueError(f"bounding_boxes must be a dict of 'boxes' and 'labels'; got {bounding_boxes!r}.")
    boxes = _dense(bounding_boxes["boxes"], 2, 0.0, device).to(torch.float32)
    labels = _dense(bounding_boxes["labels"], 1, -1, device)
    if boxes.ndim not in (2, 3) or boxes.shape[-1] != 4 or labels.shape[: boxes.ndim - 1] != boxes.shape[:-1]:
        raise ValueError(
            "bounding_boxes must have 'boxes' of shape (batch, n, 4) and 'labels' of shape (batch, n); "
            f"got {tuple(boxes.shape)} and {tuple(labels.shape)}."
        )
    return {**bounding_boxes, "boxes": boxes, "labels": labels}


def _dense(values: Any, ndim: int, fill: float, device: torch.device) -> Tensor:
    """Returns a tensor of tensors or lists, those of one image having `ndim` axes."""
    if isinstance(values, (list, tuple)):
        images = [torch.as_tensor(value) for value in values]
        if images and images[0].ndim == ndim:
            images = [image.reshape(0, 4) if ndim == 2 and image.numel() == 0 else image for image in images]
            return pad_sequence(images, batch_first=True, padding_value=fill).to(device)
    return torch.as_tensor(values, device=device)
