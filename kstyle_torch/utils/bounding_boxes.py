"""Bounding boxes: conversion between formats, geometry, overlap, and offsets to anchors.

Boxes are (n, 4) or (batch, n, 4). Formats: `"xyxy"` is left, top, right, bottom in pixels; `"yxyx"` top, left, bottom, right;
`"xywh"` left, top, width, height; `"center_xywh"` and `"center_yxhw"` have the center first; names that begin with `rel_`
measure in heights and widths of the image.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kstyle_torch import config, namespaces
from kstyle_torch.initializers import DType, as_dtype
from kstyle_torch.layers.preprocessing.image.boxes import FORMATS, corners_from, from_xyxy
from kstyle_torch.ops.operation import Nest, Operand, TensorLike, as_tensor, operation
from kstyle_torch.symbolic.tensor import is_symbolic

__all__ = [
    "affine_transform",
    "clip_to_image_size",
    "compute_ciou",
    "compute_iou",
    "convert_format",
    "crop",
    "decode_deltas_to_boxes",
    "encode_box_to_deltas",
    "pad",
]

CENTERED = ("center_xywh", "center_yxhw")
NO_BOX = -1  # label of missing boxes


def convert_format(
    boxes: Any, source: str, target: str, height: Any = None, width: Any = None, dtype: DType = "float32"
) -> Any:
    """Converts boxes from one format to another.

    Args:
        boxes: (..., 4); or a dict with such `"boxes"`, which is changed in place.
        source: Format of the boxes.
        target: Format of the result.
        height: Height of the image in pixels; needed between relative and absolute formats. A tensor for different images.
        width: Likewise.
        dtype: Dtype of the result.
    Returns: The boxes in the other format, or the dict.
    Raises: ValueError: for unknown formats, a last axis that is not 4, or a missing size.

    Example:
        >>> convert_format(torch.tensor([[10, 20, 30, 40]]), "xyxy", "center_xywh")
        tensor([[20., 30., 20., 20.]])
    """
    if isinstance(boxes, dict):
        boxes["boxes"] = convert_format(boxes["boxes"], source, target, height, width, dtype)
        return boxes
    source, target = source.lower(), target.lower()
    if source not in FORMATS or target not in FORMATS:
        raise ValueError(f"Box formats must be among {', '.join(FORMATS)}; got source={source!r}, target={target!r}.")
    is_relative = source.startswith("rel_"), target.startswith("rel_")
    if any(is_relative) and (height is None or width is None):
        raise ValueError(
            f"Converting boxes from {source!r} to {target!r} needs the image's height and width; "
            f"got height={height!r}, width={width!r}."
        )
    if all(is_relative):
        source, target = source.removeprefix("rel_"), target.removeprefix("rel_")
    return _convert(boxes, source, target, height, width, dtype)


@operation
def _convert(boxes: TensorLike, source: str, target: str, height: Operand, width: Operand, dtype: Any) -> Tensor:
    """Converts checked formats."""
    if boxes.shape[-1] != 4:
        raise ValueError(f"Boxes must have a last axis of 4; got the shape {tuple(boxes.shape)}.")
    boxes = boxes.to(as_dtype(dtype))
    if source == target:
        return boxes
    height, width = (_on(boxes, size) for size in (height, width))
    return from_xyxy(corners_from(boxes, source, height, width), target, height, width)


def clip_to_image_size(
    bounding_boxes: dict[str, Any], height: Any = None, width: Any = None, bounding_box_format: str = "xyxy"
) -> dict[str, Any]:
    """Clips boxes to the image.

    Args:
        bounding_boxes: Dict of `"boxes"`, (..., n, 4), and optionally `"labels"`, (..., n).
        height: Height of the image in pixels; needed for `"xyxy"`.
        width: Likewise.
        bounding_box_format: `"xyxy"` or `"rel_xyxy"`.
    Returns: A new dict; the label of a box that is empty then is -1.
    Raises: NotImplementedError: for other formats; convert with `convert_format` first.
        ValueError: if a size is missing.
    """
    _check_format(bounding_box_format, ("xyxy", "rel_xyxy"))
    if bounding_box_format == "rel_xyxy":
        height = width = 1
    elif height is None or width is None:
        raise ValueError(f"Clipping boxes in pixels needs height and width; got height={height!r}, width={width!r}.")
    boxes, labels = _clip(bounding_boxes["boxes"], bounding_boxes.get("labels"), height, width)
    return {**bounding_boxes, "boxes": boxes, **({} if labels is None else {"labels": labels})}


@operation
def _clip(boxes: TensorLike, labels: TensorLike, height: Operand, width: Operand) -> tuple[Tensor, Tensor | None]:
    """Clips boxes (xyxy), and marks the labels of empty ones."""
    clipped = _clamped(boxes, height, width)
    if labels is None:
        return clipped, None
    left, top, right, bottom = clipped.unbind(-1)
    return clipped, torch.where((right - left) * (bottom - top) > 0, labels, NO_BOX)


def _clamped(boxes: Tensor, height: Any, width: Any) -> Tensor:
    """Returns boxes (xyxy) with coordinates from 0 to the size."""
    limits = [_on(boxes, size) for size in (width, height, width, height)]
    sides = [side.clamp_min(0) for side in boxes.split(1, -1)]
    bounded = (
        torch.minimum(side, limit) if isinstance(limit, Tensor) else side.clamp_max(limit)
        for side, limit in zip(sides, limits)
    )
    return torch.cat([*bounded], -1)


def _on(boxes: Tensor, size: Any) -> Any:
    """Returns a size for use with the boxes: tensors in their dtype and device, numbers unchanged."""
    return torch.as_tensor(size).to(boxes) if isinstance(size, (Tensor, np.ndarray)) else size


@operation
def affine_transform(
    boxes: TensorLike,
    angle: TensorLike,
    translate_x: TensorLike,
    translate_y: TensorLike,
    scale: TensorLike,
    shear_x: TensorLike,
    shear_y: TensorLike,
    height: int,
    width: int,
    center_x: Operand = None,
    center_y: Operand = None,
    bounding_box_format: str = "xyxy",
) -> Tensor:
    """Returns the bounding boxes of boxes after an affine transform, with different parameters for each image.

    Args:
        boxes: (batch, n, 4).
        angle: Degrees, (batch,).
        translate_x: Share of the width, (batch,).
        translate_y: Share of the height, (batch,).
        scale: Factor, (batch,).
        shear_x: Degrees, (batch,).
        shear_y: Degrees, (batch,).
        height: Height of the images in pixels.
        width: Likewise.
        center_x: Center of the rotation, as a share of the width; 0.5 if None.
        center_y: Likewise, as a share of the height.
        bounding_box_format: `"xyxy"`.
    Raises: NotImplementedError: for other formats; convert with `convert_format` first.

    Source: the inverse affine matrix of torchvision, rotation by `-angle` about the center.
    """
    _check_format(bounding_box_format, ("xyxy",))
    rotation, shear_x, shear_y = (torch.deg2rad(-degrees) for degrees in (angle, shear_x, shear_y))
    center_x = (0.5 if center_x is None else center_x) * (width - 1)
    center_y = (0.5 if center_y is None else center_y) * (height - 1)
    moved_x, moved_y = center_x - translate_x * (width - 1), center_y - translate_y * (height - 1)
    a = torch.cos(rotation - shear_y) / torch.cos(shear_y)
    b = a * torch.tan(shear_x) + torch.sin(rotation)
    c = -torch.sin(rotation - shear_y) / torch.cos(shear_y)
    d = torch.cos(rotation) - c * torch.tan(shear_x)
    rows = [(d * scale, -b * scale), (-c * scale, a * scale)]
    left, top, right, bottom = boxes.to(a.dtype).unbind(-1)
    x, y = torch.stack((left, right, right, left), -1), torch.stack((top, top, bottom, bottom), -1)
    sides = []
    for (by_x, by_y), center in zip(rows, (center_x, center_y)):
        offset = center - by_x * moved_x - by_y * moved_y
        sides.append(by_x[:, None, None] * x + by_y[:, None, None] * y + offset[:, None, None])
    new_x, new_y = sides
    return torch.stack((new_x.amin(-1), new_y.amin(-1), new_x.amax(-1), new_y.amax(-1)), -1)


@operation
def crop(
    boxes: TensorLike, top: Operand, left: Operand, height: Operand, width: Operand, bounding_box_format: str = "xyxy"
) -> Tensor:
    """Returns boxes relative to a crop of the image, clipped to it.

    Args:
        boxes: (..., 4).
        top: Top of the crop in pixels.
        left: Likewise.
        height: Height of the crop.
        width: Likewise.
        bounding_box_format: `"xyxy"`.
    Raises: NotImplementedError: for other formats; convert with `convert_format` first.
    """
    _check_format(bounding_box_format, ("xyxy",))
    return _clamped(_shifted(boxes, -left, -top), height, width)


@operation
def pad(
    boxes: TensorLike,
    top: Operand,
    left: Operand,
    height: Any = None,  # noqa: ARG001
    width: Any = None,  # noqa: ARG001
    bounding_box_format: str = "xyxy",
) -> Tensor:
    """Returns boxes relative to a padded image.

    Args:
        boxes: (..., 4).
        top: Pixels above the image.
        left: Pixels on its left.
        height: Has no effect.
        width: Has no effect.
        bounding_box_format: `"xyxy"`.
    Raises: NotImplementedError: for other formats; convert with `convert_format` first.
    """
    _check_format(bounding_box_format, ("xyxy",))
    return _shifted(boxes, left, top)


def _shifted(boxes: Tensor, x: Any, y: Any) -> Tensor:
    left, top, right, bottom = boxes.split(1, -1)
    return torch.cat((left + x, top + y, right + x, bottom + y), -1)


def compute_iou(
    boxes1: Any,
    boxes2: Any,
    bounding_box_format: str,
    use_masking: bool = False,
    mask_val: float = -1,
    image_shape: Sequence[int] | None = None,
) -> Tensor:
    """Returns the intersection over union of all pairs of boxes.

    Args:
        boxes1: (m, 4) or (batch, m, 4).
        boxes2: (n, 4) or (batch, n, 4).
        bounding_box_format: Format of both.
        use_masking: Whether pairs with a box whose values are all negative get `mask_val`.
        mask_val: Their value.
        image_shape: (height, width, channels); needed for relative formats.
    Returns: (m, n), or (batch, m, n) if one of them is batched.
    Raises: ValueError: for boxes with another number of axes, or without a needed shape.

    Example:
        >>> compute_iou([[0.0, 0.0, 2.0, 2.0]], [[0.0, 0.0, 2.0, 1.0], [2.0, 2.0, 3.0, 3.0]], "xyxy")
        tensor([[0.5000, 0.0000]])
    """
    for name, boxes in (("boxes1", boxes1), ("boxes2", boxes2)):
        axes = len(boxes.shape) if hasattr(boxes, "shape") else torch.as_tensor(boxes).ndim
        if axes not in (2, 3):
            raise ValueError(f"{name} must be (n, 4) or (batch, n, 4); got {axes} axes.")
    height, width = _size(image_shape, bounding_box_format)
    boxes1, boxes2 = _on_one_device(boxes1, boxes2)
    corners = [convert_format(boxes, bounding_box_format, "xyxy", height, width) for boxes in (boxes1, boxes2)]
    return _iou([boxes1, boxes2], corners[0], corners[1], use_masking, mask_val)


@operation
def _iou(given: Nest, boxes1: TensorLike, boxes2: TensorLike, use_masking: bool, mask_val: float) -> Tensor:
    """Compares all pairs of boxes (xyxy).

    Args:
        given: Both in their original format, which determines the mask.
    """
    first, second = boxes1.unsqueeze(-2), boxes2.unsqueeze(-3)
    sides = torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(first[..., :2], second[..., :2])
    intersection = sides.clamp_min(0).prod(-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(-1) for boxes in (first, second)]
    iou = intersection / (areas[0] + areas[1] - intersection + config.epsilon())
    if not use_masking:
        return iou
    masked1, masked2 = (torch.as_tensor(boxes, device=iou.device).amax(-1) < 0 for boxes in given)
    return iou.masked_fill(masked1.unsqueeze(-1) | masked2.unsqueeze(-2), mask_val)


def compute_ciou(
    boxes1: Any, boxes2: Any, bounding_box_format: str, image_shape: Sequence[int] | None = None
) -> Tensor:
    """Returns the complete intersection over union of pairs of boxes.

    Args:
        boxes1: (..., 4).
        boxes2: (..., 4).
        bounding_box_format: Format of both.
        image_shape: (height, width, channels); needed for relative formats.
    Returns: The intersection over union less penalties for the distance of the centers and unequal proportions, (...).
    Raises: ValueError: for a relative format without the shape.

    Source: Zheng et al., 2020, Distance-IoU Loss, https://arxiv.org/abs/1911.08287.
    """
    height, width = _size(image_shape, bounding_box_format)
    boxes1, boxes2 = _on_one_device(boxes1, boxes2)
    corners = [convert_format(boxes, bounding_box_format, "xyxy", height, width) for boxes in (boxes1, boxes2)]
    return _ciou(*corners)


@operation
def _ciou(boxes1: TensorLike, boxes2: TensorLike) -> Tensor:
    """Compares boxes (xyxy), pair by pair."""
    epsilon = config.epsilon()
    (left1, top1, right1, bottom1), (left2, top2, right2, bottom2) = boxes1.unbind(-1), boxes2.unbind(-1)
    width1, height1 = right1 - left1, bottom1 - top1 + epsilon
    width2, height2 = right2 - left2, bottom2 - top2 + epsilon
    inner_width = (torch.minimum(right1, right2) - torch.maximum(left1, left2)).clamp_min(0)
    inner_height = (torch.minimum(bottom1, bottom2) - torch.maximum(top1, top2)).clamp_min(0)
    intersection = inner_width * inner_height
    iou = intersection / (width1 * height1 + width2 * height2 - intersection + 2 * epsilon)
    outer_width = torch.maximum(right1, right2) - torch.minimum(left1, left2)
    outer_height = torch.maximum(bottom1, bottom2) - torch.minimum(top1, top2)
    diagonal = outer_width**2 + outer_height**2 + epsilon
    distance = ((left1 + right1 - left2 - right2) / 2) ** 2 + ((top1 + bottom1 - top2 - bottom2) / 2) ** 2
    unlike = 4 / math.pi**2 * (torch.atan(width2 / height2) - torch.atan(width1 / height1)) ** 2
    return iou - (distance / diagonal + unlike**2 / (unlike - iou + (1 + epsilon)))


def encode_box_to_deltas(
    anchors: Any,
    boxes: Any,
    anchor_format: str,
    box_format: str,
    encoding_format: str = "center_yxhw",
    variance: Any = None,
    image_shape: Sequence[int] | None = None,
) -> Tensor:
    """Returns the offsets from anchors to boxes: shifts of the centers relative to the anchors' sizes, and log scales.

    Args:
        anchors: (n, 4).
        boxes: (n, 4) or (batch, n, 4).
        anchor_format: Format of the anchors.
        box_format: Format of the boxes.
        encoding_format: Order of the offsets, `"center_yxhw"` or `"center_xywh"`.
        variance: Four divisors of the offsets.
        image_shape: (height, width, channels); needed for relative formats.
    Raises: ValueError: for another encoding, or other than four variances.
    """
    variance = _checked_coding("encoding_format", encoding_format, variance)
    height, width = _size(image_shape)
    anchors, boxes = _on_one_device(anchors, boxes)
    anchors = convert_format(anchors, anchor_format, encoding_format, height, width)
    boxes = convert_format(boxes, box_format, encoding_format, height, width)
    return _encode(anchors, boxes, variance)


@operation
def _encode(anchors: TensorLike, boxes: TensorLike, variance: TensorLike) -> Tensor:
    anchor_sizes, box_sizes = (each[..., 2:].clamp_min(config.epsilon()) for each in (anchors, boxes))
    shifts = (boxes[..., :2] - anchors[..., :2]) / anchor_sizes
    scales = torch.log(box_sizes / anchor_sizes)
    deltas = torch.cat((shifts, scales.expand_as(shifts)), -1)
    return deltas if variance is None else deltas / variance.to(deltas)


def decode_deltas_to_boxes(
    anchors: Any,
    boxes_delta: Any,
    anchor_format: str,
    box_format: str,
    encoded_format: str = "center_yxhw",
    variance: Any = None,
    image_shape: Sequence[int] | None = None,
) -> Any:
    """Returns the boxes for offsets from anchors; see `encode_box_to_deltas`.

    Args:
        anchors: (n, 4); or a dict of them.
        boxes_delta: (n, 4) or (batch, n, 4); or a dict with the same keys.
        anchor_format: Format of the anchors.
        box_format: Format of the result.
        encoded_format: Order of the offsets, `"center_yxhw"` or `"center_xywh"`.
        variance: Four factors of the offsets.
        image_shape: (height, width, channels); needed for relative formats.
    Raises: ValueError: for another encoding, or other than four variances.
    """
    variance = _checked_coding("encoded_format", encoded_format, variance)
    height, width = _size(image_shape)

    def decode(anchors: Any, deltas: Any) -> Any:
        anchors, deltas = _on_one_device(anchors, deltas)
        anchors = convert_format(anchors, anchor_format, encoded_format, height, width)
        return convert_format(_decode(anchors, deltas, variance), encoded_format, box_format, height, width)

    if isinstance(anchors, dict) and isinstance(boxes_delta, dict):
        return {level: decode(anchors[level], boxes_delta[level]) for level in anchors}
    return decode(anchors, boxes_delta)


@operation
def _decode(anchors: TensorLike, deltas: TensorLike, variance: TensorLike) -> Tensor:
    deltas = deltas if variance is None else deltas * variance.to(deltas)
    centers, sizes = anchors[..., :2], anchors[..., 2:]
    return torch.cat((deltas[..., :2] * sizes + centers, torch.exp(deltas[..., 2:]) * sizes), -1)


def _on_one_device(*boxes: Any) -> tuple[Any, ...]:
    """Converts arrays and lists of boxes to tensors, on the device of the first tensor if there is one."""
    device = next((each.device for each in boxes if isinstance(each, Tensor)), None)
    if device is None:
        return boxes
    return tuple(each if is_symbolic(each) else as_tensor(each, device=device) for each in boxes)


def _check_format(box_format: str, supported: tuple[str, ...]) -> None:
    if box_format not in supported:
        raise NotImplementedError(
            f"bounding_box_format must be {' or '.join(map(repr, supported))} here; got {box_format!r}. "
            "Convert the boxes with convert_format() first."
        )


def _size(image_shape: Sequence[int] | None, box_format: str = "") -> tuple[int | None, int | None]:
    """Returns height and width."""
    if image_shape is None:
        if "rel" in box_format:
            raise ValueError(
                f"Boxes in the format {box_format!r} need image_shape=(height, width, channels); got None."
            )
        return None, None
    height, width, _ = image_shape
    return height, width


def _checked_coding(name: str, coding: str, variance: Any) -> Tensor | None:
    """Returns the variances as float32."""
    if coding not in CENTERED:
        raise ValueError(f"{name} must be {' or '.join(map(repr, CENTERED))}; got {coding!r}.")
    if variance is None:
        return None
    factors = torch.as_tensor(variance, dtype=torch.float32)
    if factors.shape[-1:] != (4,):
        raise ValueError(f"variance must be four numbers; got {variance!r}.")
    return factors


namespaces.install(sys.modules[__name__])
