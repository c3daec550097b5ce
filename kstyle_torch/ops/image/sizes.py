"""Resizing, cropping and padding of images. A `batch` is channels_first."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kstyle_torch.ops.image.layout import cast_back, channel_axis, check_images, on_batch
from kstyle_torch.ops.operation import as_tensor, operation

MODES = {"bilinear": "bilinear", "nearest": "nearest-exact", "bicubic": "bicubic"}
LANCZOS = ("lanczos3", "lanczos5")


@operation
def resize(
    images: Any,
    size: Sequence[int],
    interpolation: str = "bilinear",
    antialias: bool = False,
    crop_to_aspect_ratio: bool = False,
    pad_to_aspect_ratio: bool = False,
    fill_mode: str = "constant",
    fill_value: float = 0.0,
    data_format: str | None = None,
) -> Tensor:
    """Resizes images.

    Args:
        images: One image or a batch, of any dtype, which is kept.
        size: Height and width of the result.
        interpolation: `"bilinear"`, `"nearest"`, `"bicubic"`, `"lanczos3"` or `"lanczos5"`.
        antialias: Whether to blur before making an image smaller; not for `"nearest"`.
        crop_to_aspect_ratio: Whether to crop images to the aspect ratio, around the center, instead of distorting them.
        pad_to_aspect_ratio: Whether to pad images to the aspect ratio instead.
        fill_mode: `"constant"`, the only one.
        fill_value: The constant.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
    Raises: ValueError: for a bad size, rank, interpolation or fill mode; if both to crop and to pad.

    Example:
        >>> resize(torch.ones(2, 4, 4, 3), (8, 6)).shape
        torch.Size([2, 8, 6, 3])
    """
    check_resize(size, interpolation, crop_to_aspect_ratio, pad_to_aspect_ratio, fill_mode)
    height, width = (int(n) for n in size)
    images = as_tensor(images)

    def resized(batch: Tensor) -> Tensor:
        if crop_to_aspect_ratio:
            top, left, *window = aspect_window(batch.shape[2:], (height, width), min)
            batch = batch[:, :, top : top + window[0], left : left + window[1]]
        elif pad_to_aspect_ratio:
            top, left, _, _ = aspect_window(batch.shape[2:], (height, width), max)
            batch = F.pad(batch, (-left, -left, -top, -top), value=fill_value)
        return _interpolated(batch, (height, width), interpolation, antialias)

    return on_batch(resized, images, data_format)


def check_resize(size: Sequence[int], interpolation: str, crop: bool, pad: bool, fill_mode: str) -> None:
    """Raises: ValueError: if the arguments of `resize` are invalid."""
    if len(size) != 2 or any(n <= 0 for n in size):
        raise ValueError(f"resize: size must be a positive height and width; got {size!r}.")
    if interpolation not in (*MODES, *LANCZOS):
        raise ValueError(
            f"resize: interpolation must be one of {', '.join((*MODES, *LANCZOS))}; got {interpolation!r}."
        )
    if fill_mode != "constant":
        raise ValueError(f"resize: fill_mode must be 'constant'; got {fill_mode!r}.")
    if crop and pad:
        raise ValueError("resize: crop_to_aspect_ratio and pad_to_aspect_ratio cannot both be True.")


def aspect_window(
    size: Sequence[int], target: Sequence[int], nearest: Callable[[int, int], int]
) -> tuple[int, int, int, int]:
    """Returns top, left, height and width of the window that has the aspect ratio of `target` and is centered on the image.

    Args:
        size: Height and width of the image.
        target: Height and width with the wanted ratio.
        nearest: `min` for the largest window in the image, `max` for the smallest around it.
    """
    (height, width), (new_height, new_width) = size, target
    window_height = max(nearest(height, int(width * new_height / new_width)), 1)
    window_width = max(nearest(width, int(height * new_width / new_height)), 1)
    return int((height - window_height) / 2), int((width - window_width) / 2), window_height, window_width


def _interpolated(batch: Tensor, size: tuple[int, int], interpolation: str, antialias: bool) -> Tensor:
    dtype = batch.dtype
    values = batch.to(dtype if dtype in (torch.float32, torch.float64) else torch.float32)
    if interpolation in LANCZOS:
        scale = [new / old for new, old in zip(size, values.shape[2:], strict=True)]
        resized = _scaled(values, (0, 0, *size), (2, 3), scale, (0.0, 0.0), interpolation, antialias)
    else:
        smooth = interpolation != "nearest"
        resized = F.interpolate(
            values,
            size,
            mode=MODES[interpolation],
            align_corners=False if smooth else None,
            antialias=antialias and smooth,
        )
    if dtype == torch.uint8 and interpolation not in ("bilinear", "nearest"):
        resized = resized.clamp(0, 255)  # these kernels overshoot
    return cast_back(resized, dtype)


@operation
def pad_images(
    images: Any,
    top_padding: int | None = None,
    left_padding: int | None = None,
    bottom_padding: int | None = None,
    right_padding: int | None = None,
    target_height: int | None = None,
    target_width: int | None = None,
    data_format: str | None = None,
) -> Tensor:
    """Pads images with zeros.

    Args:
        images: One image or a batch.
        top_padding, bottom_padding, target_height: Two of the three, which determine the third.
        left_padding, right_padding, target_width: Likewise.
        data_format: As in `resize`.
    Raises: ValueError: unless two of three are given, or if one comes out negative.

    Example:
        >>> pad_images(torch.ones(2, 4, 4, 3), 1, 2, target_height=8, target_width=8).shape
        torch.Size([2, 8, 8, 3])
    """
    images = as_tensor(images)
    old_height, old_width = _size_of(images, data_format)
    down = _two_of_three(
        top_padding, bottom_padding, target_height, old_height, -1, ("top_padding", "bottom_padding", "target_height")
    )
    across = _two_of_three(
        left_padding, right_padding, target_width, old_width, -1, ("left_padding", "right_padding", "target_width")
    )
    return on_batch(lambda batch: F.pad(batch, (*across[:2], *down[:2])), images, data_format)


@operation
def crop_images(
    images: Any,
    top_cropping: int | None = None,
    left_cropping: int | None = None,
    bottom_cropping: int | None = None,
    right_cropping: int | None = None,
    target_height: int | None = None,
    target_width: int | None = None,
    data_format: str | None = None,
) -> Tensor:
    """Returns a window of the images.

    Args:
        images: One image or a batch.
        top_cropping, bottom_cropping, target_height: Two of the three, which determine the third.
        left_cropping, right_cropping, target_width: Likewise.
        data_format: As in `resize`.
    Raises: ValueError: unless two of three are given, or if one comes out negative.

    Example:
        >>> crop_images(torch.ones(2, 6, 6, 3), 1, 2, target_height=3, target_width=4).shape
        torch.Size([2, 3, 4, 3])
    """
    images = as_tensor(images)
    old_height, old_width = _size_of(images, data_format)
    top, _, height = _two_of_three(
        top_cropping,
        bottom_cropping,
        target_height,
        old_height,
        1,
        ("top_cropping", "bottom_cropping", "target_height"),
    )
    left, _, width = _two_of_three(
        left_cropping, right_cropping, target_width, old_width, 1, ("left_cropping", "right_cropping", "target_width")
    )
    return on_batch(lambda batch: batch[:, :, top : top + height, left : left + width], images, data_format)


def _size_of(images: Tensor, data_format: str | None) -> tuple[int, int]:
    check_images(images)
    size = images.shape[-3:-1] if channel_axis(data_format) == -1 else images.shape[-2:]
    return size[0], size[1]


def _two_of_three(
    before: int | None, after: int | None, target: int | None, size: int, sign: int, names: tuple[str, str, str]
) -> tuple[int, int, int]:
    """Returns all three, from two of them: `target = size - sign * (before + after)`."""
    if [before, after, target].count(None) != 1:
        raise ValueError(f"Give exactly two of {', '.join(names)}; got {before}, {after}, {target}.")
    if target is None:
        target = size - sign * ((before or 0) + (after or 0))
    elif before is None:
        before = sign * (size - target) - (after or 0)
    else:
        after = sign * (size - target) - before
    for value, name in zip((before, after, target), names, strict=True):
        if value is None or value < 0:
            raise ValueError(f"{name} must not be negative; got {value} for images of size {size}.")
    return before or 0, after or 0, target


# ------------------------------------------------------------------------------------------------ scale and translate


def _triangle(x: Tensor) -> Tensor:
    return (1 - x).clamp_min(0)


def _keys(x: Tensor) -> Tensor:
    near, far = ((1.5 * x - 2.5) * x) * x + 1.0, ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return torch.where(x >= 2.0, 0.0, torch.where(x >= 1.0, far, near))


def _lanczos(radius: float) -> Callable[[Tensor], Tensor]:
    def kernel(x: Tensor) -> Tensor:
        wave = radius * torch.sin(math.pi * x) * torch.sin(math.pi * x / radius)
        inside = torch.where(x > 1e-3, wave / torch.where(x != 0, math.pi**2 * x**2, 1.0), 1.0)
        return torch.where(x > radius, 0.0, inside)

    return kernel


KERNELS: dict[str, Callable[[Tensor], Tensor]] = {
    **dict.fromkeys(("linear", "bilinear", "trilinear"), _triangle),
    **dict.fromkeys(("cubic", "bicubic", "tricubic"), _keys),
    "lanczos3": _lanczos(3.0),
    "lanczos5": _lanczos(5.0),
}


@operation
def scale_and_translate(
    images: Any,
    output_shape: Sequence[int],
    scale: Any,
    translation: Any,
    spatial_dims: Sequence[int],
    method: str,
    antialias: bool = True,
) -> Tensor:
    """Scales and then shifts a tensor along some of its axes.

    Args:
        images: Tensor of any rank.
        output_shape: Shape of the result, all axes.
        scale: One number for each of `spatial_dims`.
        translation: Likewise, in pixels of the result.
        spatial_dims: The axes that change.
        method: `"linear"`, `"cubic"` (also as `"bilinear"`, `"trilinear"`, `"bicubic"`, `"tricubic"`), `"lanczos3"` or
            `"lanczos5"`.
        antialias: Whether to blur before making it smaller.
    Raises: ValueError: for another method.

    Example:
        >>> zeros = torch.zeros(2)
        >>> scale_and_translate(torch.ones(4, 4), (2, 2), torch.tensor([0.5, 0.5]), zeros, (0, 1), "linear")
        tensor([[1., 1.],
                [1., 1.]])
    """
    if method not in KERNELS:
        raise ValueError(f"scale_and_translate: method must be one of {', '.join(KERNELS)}; got {method!r}.")
    images, scale, translation = as_tensor(images), as_tensor(scale), as_tensor(translation)
    values = images if images.is_floating_point() else images.to(torch.float32)
    output = _scaled(values, output_shape, spatial_dims, scale, translation, method, antialias)
    if images.is_floating_point():
        return output
    return output.round().clamp(images.min(), images.max()).to(images.dtype)


def _scaled(
    values: Tensor,
    output_shape: Sequence[int],
    dims: Sequence[int],
    scale: Any,
    move: Any,
    method: str,
    antialias: bool,
) -> Tensor:
    for i, dim in enumerate(dims):
        weights = _weights(values, values.shape[dim], output_shape[dim], scale[i], move[i], KERNELS[method], antialias)
        values = torch.tensordot(values, weights, dims=((dim % values.ndim,), (0,))).movedim(-1, dim)
    return values


def _weights(
    like: Tensor, size: int, new_size: int, scale: Any, move: Any, kernel: Callable[[Tensor], Tensor], antialias: bool
) -> Tensor:
    """Returns the weight of each element (rows) in each new element (columns)."""
    old, new = (torch.arange(n, dtype=like.dtype, device=like.device) for n in (size, new_size))
    inverse = torch.as_tensor(1.0 / scale, dtype=like.dtype, device=like.device)
    move = torch.as_tensor(move, dtype=like.dtype, device=like.device)
    place = (new + 0.5) * inverse - move * inverse - 0.5
    stretch = inverse.clamp_min(1.0) if antialias else 1.0
    weights = kernel((place[None, :] - old[:, None]).abs() / stretch)
    total = weights.sum(0, keepdim=True)
    weights = torch.where(
        total.abs() > 1000.0 * torch.finfo(torch.float32).eps, weights / torch.where(total != 0, total, 1), 0
    )
    return torch.where((place >= -0.5) & (place <= size - 0.5), weights, 0)
