"""Position of an image's channels, and amounts of `padding="same"`: shared by operations and layers.

Images are channels_last for the user. `to_channels_first` returns a view, which has torch's channels_last memory
format, so nothing is copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from kstyle_torch import config

Pads = list[tuple[int, int]]  # (before, after) for each axis


def is_channels_last(data_format: str | None, name: str) -> bool:
    """Returns whether channels come last; None means `config.image_data_format()`.

    Raises: ValueError: if `data_format` is neither `"channels_last"` nor `"channels_first"`.
    """
    data_format = config.image_data_format() if data_format is None else str(data_format).lower()
    if data_format not in ("channels_last", "channels_first"):
        raise ValueError(f"{name}: data_format must be 'channels_last' or 'channels_first'; got {data_format!r}.")
    return data_format == "channels_last"


def is_same(padding: str, name: str) -> bool:
    """Returns whether `padding` is `"same"`.

    Raises: ValueError: if it is neither `"same"` nor `"valid"`.
    """
    if str(padding).lower() not in ("valid", "same"):
        raise ValueError(f"{name}: padding must be 'valid' or 'same'; got {padding!r}.")
    return padding.lower() == "same"


def per_axis(value: Any, rank: int, argument: str, name: str) -> tuple[Any, ...]:
    """Returns one value for each axis, from a single one or a sequence.

    Raises: ValueError: if their number is not `rank`.
    """
    values = tuple(value) if isinstance(value, Iterable) else (value,) * rank
    if len(values) != rank:
        raise ValueError(f"{name}: {argument} must be one number, or one for each of {rank} axes; got {value!r}.")
    return values


def to_channels_first(x: Tensor) -> Tensor:
    """Converts (batch, ..., channels) to (batch, channels, ...), a view."""
    return x.permute(0, x.ndim - 1, *range(1, x.ndim - 1))


def to_channels_last(x: Tensor) -> Tensor:
    """Converts (batch, channels, ...) to (batch, ..., channels), a view."""
    return x.permute(0, *range(2, x.ndim), 1)


def same_padding(size: int, window: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """Returns the padding before and after an axis for `ceil(size / stride)` windows; an odd element goes after."""
    total = max((-(-size // stride) - 1) * stride + (window - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def same_pads(x: Tensor, window: Sequence[int], strides: Sequence[int], dilation: Sequence[int]) -> Pads:
    """Returns `same_padding` of every axis of a channels_first tensor."""
    return [same_padding(*axis) for axis in zip(x.shape[2:], window, strides, dilation)]


def flat_pads(pads: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """Converts (before, after) for each axis to the order of `F.pad`: from the last axis to the first."""
    return tuple(amount for pair in reversed(pads) for amount in pair)


def pad(x: Tensor, pads: Pads, mode: str = "constant") -> Tensor:
    """Pads a channels_first tensor, with zeros unless `mode` is given; negative pads crop it."""
    flat = flat_pads(pads)
    return F.pad(x, flat, mode=mode) if any(flat) else x


def pad_same(x: Tensor, window: Sequence[int], strides: Sequence[int], dilation: Sequence[int]) -> Tensor:
    """Pads a channels_first tensor with zeros for `padding="same"`."""
    return pad(x, same_pads(x, window, strides, dilation))


def transposed_pads(window: int, stride: int, dilation: int, same: bool, output_padding: int | None) -> tuple[int, int]:
    """Returns Keras' padding before and after an axis of torch's unpadded transposed convolution; negative to crop.

    Args:
        window: Size of the kernel.
        stride: Stride.
        dilation: Dilation.
        same: Whether `padding` is `"same"`.
        output_padding: Length of the output beyond the shortest possible one; None for a length of `size * stride` with
            `same`, and `(size - 1) * stride + max(window, stride)` without.
    """
    reach = (window - 1) * dilation + 1
    if not same:
        return 0, max(stride - reach, 0) if output_padding is None else output_padding
    total = stride + reach - 2 if output_padding is None else reach + reach % 2 - 2 + output_padding
    before = min(total - total // 2, reach - 1)
    return before - (reach - 1), total - before - (reach - 1)
