"""Pooling over windows of one, two or three axes, and adaptive pooling."""

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
)

__all__ = ["adaptive_average_pool", "adaptive_max_pool", "average_pool", "max_pool"]

Sizes = int | tuple[int, ...]
MAX: dict[int, Any] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVERAGE: dict[int, Any] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
ADAPTIVE_MAX: dict[int, Any] = {1: F.adaptive_max_pool1d, 2: F.adaptive_max_pool2d, 3: F.adaptive_max_pool3d}
ADAPTIVE_AVERAGE: dict[int, Any] = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}


@operation
def max_pool(
    inputs: TensorLike,
    pool_size: Sizes,
    strides: Sizes | None = None,
    padding: str = "valid",
    data_format: str | None = None,
) -> Tensor:
    """Returns the largest value of every window.

    Args:
        inputs: (batch, *sizes, channels), or channels second with channels_first.
        pool_size: Size of the window; an int or one for each axis.
        strides: Step of the window; `pool_size` if None.
        padding: `"valid"` (none) or `"same"` (as many windows as `size / stride`, rounded up).
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
    Raises: ValueError: if `inputs` has another rank than 3, 4 or 5.

    Example:
        >>> ops.max_pool(torch.ones(1, 5, 5, 3), 2, padding="same").shape
        torch.Size([1, 3, 3, 3])
    """
    return _pool(MAX, {}, inputs, pool_size, strides, padding, data_format, "max_pool")


@operation
def average_pool(
    inputs: TensorLike,
    pool_size: Sizes,
    strides: Sizes | None = None,
    padding: str = "valid",
    data_format: str | None = None,
) -> Tensor:
    """Returns the mean of every window. The arguments are those of `max_pool`.

    Args:
        inputs: As in `max_pool`.
        pool_size: As in `max_pool`.
        strides: As in `max_pool`.
        padding: As in `max_pool`. Padding is not averaged, except that uneven padding repeats the edge.
        data_format: As in `max_pool`.
    Raises: ValueError: if `inputs` has another rank than 3, 4 or 5.
    """
    uncounted = {"count_include_pad": False}
    return _pool(AVERAGE, uncounted, inputs, pool_size, strides, padding, data_format, "average_pool")


@operation
def adaptive_max_pool(inputs: TensorLike, output_size: Sizes, data_format: str | None = None) -> Tensor:
    """Returns the largest value of each of `output_size` evenly spaced windows.

    Args:
        inputs: (batch, *sizes, channels), or channels second with channels_first.
        output_size: Sizes of the output; an int or one for each axis.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
    Raises: ValueError: if `inputs` has another rank than 3, 4 or 5.
    """
    return _adaptive(ADAPTIVE_MAX, inputs, output_size, data_format, "adaptive_max_pool")


@operation
def adaptive_average_pool(inputs: TensorLike, output_size: Sizes, data_format: str | None = None) -> Tensor:
    """Returns the mean of each of `output_size` evenly spaced windows.

    Args:
        inputs: As in `adaptive_max_pool`.
        output_size: As in `adaptive_max_pool`.
        data_format: As in `adaptive_max_pool`.
    Raises: ValueError: if `inputs` has another rank than 3, 4 or 5.
    """
    return _adaptive(ADAPTIVE_AVERAGE, inputs, output_size, data_format, "adaptive_average_pool")


def _pool(
    kernels: dict[int, Any],
    options: dict[str, Any],
    inputs: Tensor,
    pool_size: Any,
    strides: Any,
    padding: str,
    data_format: str | None,
    name: str,
) -> Tensor:
    last, rank = is_channels_last(data_format, name), _rank(inputs, name)
    x = to_channels_first(inputs) if last else inputs
    window = per_axis(pool_size, rank, "pool_size", name)
    step = window if strides is None else per_axis(strides, rank, "strides", name)
    pads = same_pads(x, window, step, (1,) * rank) if is_same(padding, name) else [(0, 0)] * rank
    if any(before != after for before, after in pads):
        x, pads = pad(x, pads, mode="replicate"), [(0, 0)] * rank
    y = kernels[rank](x, window, step, padding=[before for before, _ in pads], **options)
    return to_channels_last(y) if last else y


def _adaptive(kernels: dict[int, Any], inputs: Tensor, size: Any, data_format: str | None, name: str) -> Tensor:
    last, rank = is_channels_last(data_format, name), _rank(inputs, name)
    y = kernels[rank](to_channels_first(inputs) if last else inputs, per_axis(size, rank, "output_size", name))
    return to_channels_last(y) if last else y


def _rank(inputs: Tensor, name: str) -> int:
    if inputs.ndim not in (3, 4, 5):
        raise ValueError(f"{name}: inputs must have rank 3, 4 or 5; got shape {tuple(inputs.shape)}.")
    return inputs.ndim - 2
