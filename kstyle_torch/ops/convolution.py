"""Convolutions with given kernels, windows as columns, and rearrangement between space and channels.

Kernels have Keras' shape, (*window, input channels / groups, output channels).
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from kstyle_torch.ops.operation import TensorLike, operation
from kstyle_torch.ops.padding import (
    is_channels_last,
    is_same,
    pad,
    per_axis,
    same_pads,
    to_channels_first,
    to_channels_last,
    transposed_pads,
)

__all__ = [
    "conv",
    "conv_transpose",
    "depth_to_space",
    "depthwise_conv",
    "fold",
    "separable_conv",
    "space_to_depth",
    "unfold",
]

Sizes = int | tuple[int, ...]
CONVOLUTIONS: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED: dict[int, Any] = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@operation
def conv(
    inputs: TensorLike,
    kernel: TensorLike,
    strides: Sizes = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Sizes = 1,
) -> Tensor:
    """Convolves over one, two or three axes.

    Args:
        inputs: (batch, *sizes, channels), or channels second with channels_first.
        kernel: (*window, channels / groups, filters); the groups follow from it.
        strides: Step of the window; an int or one for each axis.
        padding: `"valid"` (none) or `"same"` (as many windows as `size / stride`, rounded up).
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
        dilation_rate: Distance between the points of the window; an int or one for each axis.
    Raises: ValueError: if the ranks or channels of inputs and kernel do not fit.

    Example:
        >>> ops.conv(torch.ones(1, 5, 5, 3), torch.ones(2, 2, 3, 8)).shape
        torch.Size([1, 4, 4, 8])
    """
    return _conv(inputs, kernel, strides, padding, data_format, dilation_rate, "conv")


@operation
def depthwise_conv(
    inputs: TensorLike,
    kernel: TensorLike,
    strides: Sizes = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Sizes = 1,
) -> Tensor:
    """Convolves each channel separately.

    Args:
        inputs: As in `conv`.
        kernel: (*window, channels, filters per channel).
        strides: As in `conv`.
        padding: As in `conv`.
        data_format: As in `conv`.
        dilation_rate: As in `conv`.
    """
    return _depthwise(inputs, kernel, strides, padding, data_format, dilation_rate, "depthwise_conv")


@operation
def separable_conv(
    inputs: TensorLike,
    depthwise_kernel: TensorLike,
    pointwise_kernel: TensorLike,
    strides: Sizes = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Sizes = 1,
) -> Tensor:
    """Returns a `depthwise_conv` followed by a `conv` with window 1, which mixes channels.

    Args:
        inputs: As in `conv`.
        depthwise_kernel: (*window, channels, filters per channel).
        pointwise_kernel: (*ones, channels * filters per channel, filters).
        strides: As in `conv`.
        padding: As in `conv`.
        data_format: As in `conv`.
        dilation_rate: As in `conv`.
    """
    name = "separable_conv"
    x = _depthwise(inputs, depthwise_kernel, strides, padding, data_format, dilation_rate, name)
    return _conv(x, pointwise_kernel, 1, "valid", data_format, 1, name)


@operation
def conv_transpose(
    inputs: TensorLike,
    kernel: TensorLike,
    strides: Sizes = 1,
    padding: str = "valid",
    output_padding: Sizes | None = None,
    data_format: str | None = None,
    dilation_rate: Sizes = 1,
) -> Tensor:
    """Returns the transposed convolution, which is the gradient of a convolution: a larger image from a smaller one.

    Args:
        inputs: As in `conv`.
        kernel: (*window, filters, channels).
        strides: As in `conv`.
        padding: `"valid"`, or `"same"` for an output `strides` times as large.
        output_padding: How much longer the output is than its shortest possible length; chosen by `padding` if None.
        data_format: As in `conv`.
        dilation_rate: As in `conv`.
    Raises: ValueError: if the ranks or channels of inputs and kernel do not fit.

    Example:
        >>> ops.conv_transpose(torch.ones(1, 4, 4, 3), torch.ones(3, 3, 8, 3), strides=2, padding="same").shape
        torch.Size([1, 8, 8, 8])
    """
    name = "conv_transpose"
    last, rank = is_channels_last(data_format, name), _rank(inputs, kernel, name)
    x, weight = to_channels_first(inputs) if last else inputs, _to_torch(kernel)
    if x.shape[1] != weight.shape[0]:
        raise ValueError(f"{name}: the kernel {tuple(kernel.shape)} does not fit {x.shape[1]} input channels.")
    strides = per_axis(strides, rank, "strides", name)
    dilation = per_axis(dilation_rate, rank, "dilation_rate", name)
    extra = per_axis(output_padding, rank, "output_padding", name)
    same = is_same(padding, name)
    pads = [transposed_pads(*axis) for axis in zip(weight.shape[2:], strides, dilation, [same] * rank, extra)]
    even = [max(min(-before, -after), 0) for before, after in pads]  # torch's kernels crop these at no cost
    y = TRANSPOSED[rank](x, weight, stride=strides, padding=even, dilation=dilation)
    y = pad(y, [(before + cut, after + cut) for (before, after), cut in zip(pads, even)])
    return to_channels_last(y) if last else y


@operation
def unfold(x: TensorLike, kernel_size: Sizes, dilation: Sizes = 1, padding: Sizes = 0, stride: Sizes = 1) -> Tensor:
    """Returns the windows of channels_first images as columns.

    Args:
        x: (batch, channels, height, width).
        kernel_size: Size of the window; an int or two.
        dilation: Distance between the points of the window.
        padding: Zeros added around the image.
        stride: Step of the window.
    Returns: (batch, channels * window, number of windows).
    Raises: ValueError: if `x` has another rank.
    """
    if x.ndim != 4:
        raise ValueError(f"unfold: expected (batch, channels, height, width); got shape {tuple(x.shape)}.")
    return F.unfold(x, kernel_size, dilation, padding, stride)


@operation
def fold(
    x: TensorLike, output_size: Sizes, kernel_size: Sizes, dilation: Sizes = 1, padding: Sizes = 0, stride: Sizes = 1
) -> Tensor:
    """Returns images from their windows; values of overlapping windows are added.

    Args:
        x: (batch, channels * window, number of windows), as `unfold` returns.
        output_size: Height and width of the images.
        kernel_size: As in `unfold`.
        dilation: As in `unfold`.
        padding: As in `unfold`.
        stride: As in `unfold`.
    Returns: (batch, channels, height, width).
    Raises: ValueError: if `x` has another rank.
    """
    if x.ndim != 3:
        raise ValueError(f"fold: expected (batch, channels * window, windows); got shape {tuple(x.shape)}.")
    return F.fold(x, output_size, kernel_size, dilation, padding, stride)


@operation
def depth_to_space(x: TensorLike, block_size: int, data_format: str | None = "channels_last") -> Tensor:
    """Rearranges the channels of each pixel into a block of pixels.

    Args:
        x: (batch, height, width, block_size**2 * channels), or channels second with channels_first.
        block_size: Height and width of a block, 2 or more.
        data_format: `"channels_last"` or `"channels_first"`.
    Returns: (batch, block_size * height, block_size * width, channels), or channels second.
    Raises: ValueError: if `block_size` is under 2.

    Example:
        >>> ops.depth_to_space(torch.ones(1, 4, 4, 12), 2).shape
        torch.Size([1, 8, 8, 3])
    """
    _check_block(block_size, "depth_to_space")
    if not is_channels_last(data_format, "depth_to_space"):
        return F.pixel_shuffle(x, block_size)
    n, height, width, channels = x.shape
    channels //= block_size**2
    blocks = x.reshape(n, height, width, block_size, block_size, channels).permute(0, 1, 3, 2, 4, 5)
    return blocks.reshape(n, height * block_size, width * block_size, channels)


@operation
def space_to_depth(x: TensorLike, block_size: int, data_format: str | None = "channels_last") -> Tensor:
    """Rearranges each block of pixels into the channels of one pixel: the inverse of `depth_to_space`.

    Args:
        x: (batch, height, width, channels), or channels second with channels_first; sizes are multiples of a block's.
        block_size: Height and width of a block, 2 or more.
        data_format: `"channels_last"` or `"channels_first"`.
    Raises: ValueError: if `block_size` is under 2.
    """
    _check_block(block_size, "space_to_depth")
    if not is_channels_last(data_format, "space_to_depth"):  # F.pixel_unshuffle returns an empty batch unchanged
        n, channels, height, width = x.shape
        height, width = height // block_size, width // block_size
        blocks = x.reshape(n, channels, height, block_size, width, block_size).permute(0, 1, 3, 5, 2, 4)
        return blocks.reshape(n, channels * block_size**2, height, width)
    n, height, width, channels = x.shape
    height, width = height // block_size, width // block_size
    blocks = x.reshape(n, height, block_size, width, block_size, channels).permute(0, 1, 3, 2, 4, 5)
    return blocks.reshape(n, height, width, channels * block_size**2)


def _conv(
    inputs: Tensor, kernel: Tensor, strides: Any, padding: str, data_format: str | None, dilation_rate: Any, name: str
) -> Tensor:
    last, rank = is_channels_last(data_format, name), _rank(inputs, kernel, name)
    x, weight = to_channels_first(inputs) if last else inputs, _to_torch(kernel)
    groups, rest = divmod(x.shape[1], weight.shape[1])
    if rest:
        raise ValueError(
            f"{name}: {x.shape[1]} input channels are not a multiple of the kernel's, {tuple(kernel.shape)}."
        )
    strides = per_axis(strides, rank, "strides", name)
    dilation = per_axis(dilation_rate, rank, "dilation_rate", name)
    even = [0] * rank
    if is_same(padding, name):
        pads = same_pads(x, weight.shape[2:], strides, dilation)
        even = [min(pair) for pair in pads]  # torch's kernels add these at no cost
        x = pad(x, [(before - least, after - least) for (before, after), least in zip(pads, even)])
    y = CONVOLUTIONS[rank](x, weight, stride=strides, padding=even, dilation=dilation, groups=groups)
    return to_channels_last(y) if last else y


def _depthwise(inputs: Tensor, kernel: Tensor, *arguments: Any) -> Tensor:
    """Returns `_conv` of the kernel reshaped from (channels, filters per channel) to (1, channels * filters per channel)."""
    data_format, name = arguments[2], arguments[-1]
    channels = inputs.shape[-1 if is_channels_last(data_format, name) else 1]
    if channels != kernel.shape[-2]:
        raise ValueError(f"{name}: the kernel {tuple(kernel.shape)} does not fit {channels} input channels.")
    return _conv(inputs, kernel.flatten(-2).unsqueeze(-2), *arguments)


def _to_torch(kernel: Tensor) -> Tensor:
    return kernel.permute(kernel.ndim - 1, kernel.ndim - 2, *range(kernel.ndim - 2))


def _rank(inputs: Tensor, kernel: Tensor, name: str) -> int:
    if inputs.ndim not in (3, 4, 5) or kernel.ndim != inputs.ndim:
        raise ValueError(
            f"{name}: inputs and kernel must both have rank 3, 4 or 5; got shapes {tuple(inputs.shape)} and "
            f"{tuple(kernel.shape)}."
        )
    return inputs.ndim - 2


def _check_block(block_size: int, name: str) -> None:
    if block_size < 2:
        raise ValueError(f"{name}: block_size must be at least 2; got {block_size}.")
