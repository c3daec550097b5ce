"""Conversion between RGB, HSV and grayscale."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kstyle_torch.ops.image.layout import channel_axis, check_images
from kstyle_torch.ops.operation import as_tensor, operation


@operation
def rgb_to_grayscale(images: Any, data_format: str | None = None) -> Tensor:
    """Returns the perceived brightness as one channel.

    Args:
        images: One image or a batch, with 3 channels; images with 1 are returned unchanged.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
    Raises: ValueError: for other numbers of axes or channels.

    Example:
        >>> rgb_to_grayscale(torch.ones(2, 4, 4, 3)).shape
        torch.Size([2, 4, 4, 1])
    """
    images, axis = _checked(images, data_format)
    if images.shape[axis] not in (1, 3):
        raise ValueError(f"rgb_to_grayscale: images must have 3 channels, or 1; got shape {tuple(images.shape)}.")
    if images.shape[axis] == 1:
        return images.clone()
    red, green, blue = images.unbind(axis)
    return (0.2989 * red + 0.587 * green + 0.114 * blue).to(images.dtype).unsqueeze(axis)


@operation
def rgb_to_hsv(images: Any, data_format: str | None = None) -> Tensor:
    """Converts RGB images to hue, saturation and value, each from 0 to 1 if the colors are.

    Args:
        images: One image or a batch, floats, with 3 channels.
        data_format: As in `rgb_to_grayscale`.
    Raises: ValueError: for other numbers of axes, and for integers.

    Example:
        >>> rgb_to_hsv(torch.tensor([[[1.0, 0.0, 0.0]]]))
        tensor([[[0., 1., 1.]]])
    """
    images, axis = _checked_float(images, data_format, "rgb_to_hsv")
    images = torch.where(images.abs() < torch.finfo(images.dtype).eps, 0.0, images)
    red, green, blue = images.unbind(axis)
    value = torch.maximum(torch.maximum(red, green), blue)
    spread = value - torch.minimum(torch.minimum(red, green), blue)
    saturation = torch.where(value > 0, spread / torch.where(value > 0, value, 1.0), 0.0)
    scale = 1.0 / (6.0 * torch.where(spread > 0, spread, 1.0))
    hue = torch.where(value == green, scale * (blue - red) + 2.0 / 6.0, scale * (red - green) + 4.0 / 6.0)
    hue = torch.where(value == red, scale * (green - blue), hue)
    hue = torch.where(spread > 0, hue, 0.0) + (hue < 0.0).to(hue.dtype)
    return torch.stack((hue, saturation, value), axis)


@operation
def hsv_to_rgb(images: Any, data_format: str | None = None) -> Tensor:
    """Converts hue, saturation and value to RGB images.

    Args:
        images: One image or a batch, floats, with 3 channels; the hue has period 1.
        data_format: As in `rgb_to_grayscale`.
    Raises: ValueError: for other numbers of axes, and for integers.

    Example:
        >>> hsv_to_rgb(torch.tensor([[[0.0, 1.0, 1.0]]]))
        tensor([[[1., 0., 0.]]])
    """
    images, axis = _checked_float(images, data_format, "hsv_to_rgb")
    hue, saturation, value = images.unbind(axis)
    angle = torch.remainder(hue, 1.0) * 6.0
    pure = (
        ((angle - 3.0).abs() - 1.0).clamp(0.0, 1.0),
        (2.0 - (angle - 2.0).abs()).clamp(0.0, 1.0),
        (2.0 - (angle - 4.0).abs()).clamp(0.0, 1.0),
    )
    return torch.stack([value * (1.0 - saturation + saturation * color) for color in pure], axis)


def _checked(images: Any, data_format: str | None) -> tuple[Tensor, int]:
    images = as_tensor(images)
    check_images(images)
    return images, channel_axis(data_format)


def _checked_float(images: Any, data_format: str | None, name: str) -> tuple[Tensor, int]:
    images, axis = _checked(images, data_format)
    if not images.is_floating_point():
        raise ValueError(f"{name}: images must be floats; got {images.dtype}. Divide them by 255 first.")
    return images, axis
