"""Shapes of images and numbers of channels, as several architectures reckon them."""

from __future__ import annotations

from kstyle_torch import config
from kstyle_torch.symbolic.tensor import SymbolicTensor

Pads = tuple[tuple[int, int], tuple[int, int]]


def channel_axis() -> int:
    """Returns the axis of the channels in a batch: -1 or 1."""
    return -1 if config.image_data_format() == "channels_last" else 1


def in_data_format(rows: int | None, columns: int | None, channels: int) -> tuple[int | None, ...]:
    """Returns the shape of an image."""
    return (rows, columns, channels) if channel_axis() == -1 else (channels, rows, columns)


def pads_before_stride(x: SymbolicTensor, kernel_size: int) -> Pads:
    """Returns the zeros around images with which a kernel of stride 2 sees them as TensorFlow's `padding="same"` would.

    Even and unknown sizes need one row and column less in front.
    """
    rows, columns = x.shape[1:3] if channel_axis() == -1 else x.shape[2:4]
    odd = (0, 0) if rows is None or columns is None else (rows % 2, columns % 2)
    half = kernel_size // 2
    return (half - 1 + odd[0], half), (half - 1 + odd[1], half)


def divisible(channels: float, divisor: int = 8) -> int:
    """Returns the multiple of `divisor` next to a number of channels, of which no more than a tenth is cut.

    Source: Sandler et al. 2018, in the authors' program for MobileNetV2.
    """
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * channels else nearest


def channels_of(x: SymbolicTensor) -> int:
    """Returns the number of channels.

    Raises: ValueError: if it is not known.
    """
    found = x.shape[channel_axis()]
    if found is None:
        raise ValueError(f"The number of channels must be known; got images of shape {x.shape[1:]}.")
    return found
