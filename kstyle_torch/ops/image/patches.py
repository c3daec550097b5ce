"""Patches: windows of an image or a volume, each flattened to one vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from kstyle_torch.ops.image.layout import on_batch
from kstyle_torch.ops.operation import as_tensor, operation

Sizes = int | Sequence[int]


@operation
def extract_patches(
    images: Any,
    size: Sizes,
    strides: Sizes | None = None,
    dilation_rate: Sizes = 1,
    padding: str = "valid",
    data_format: str | None = None,
) -> Tensor:
    """Returns the windows of images, flattened into the channels.

    Args:
        images: One image or a batch; with three sizes, one volume or a batch.
        size: Height and width (or depth, height and width) of a window; an int for a square one.
        strides: Step between windows; `size` if None.
        dilation_rate: Distance between the pixels of a window.
        padding: `"valid"`, or `"same"` for a window at every stride, with zeros around the image.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
    Output shape: (batch, rows, columns, height * width * channels).
    Raises: ValueError: for bad sizes, padding or ranks. TypeError: if `size` is not an int, tuple or list.

    Example:
        >>> extract_patches(torch.ones(2, 20, 20, 3), (5, 5)).shape
        torch.Size([2, 4, 4, 75])
    """
    if not isinstance(size, (int, tuple, list)):
        raise TypeError(f"extract_patches: size must be an int or a tuple; got {size!r}.")
    if not isinstance(size, int) and len(size) not in (2, 3):
        raise ValueError(f"extract_patches: size must have 2 numbers (images) or 3 (volumes); got {size!r}.")
    rank = 2 if isinstance(size, int) else len(size)
    return _patches(images, size, strides, dilation_rate, padding, data_format, rank)


@operation
def extract_patches_3d(
    volumes: Any,
    size: Sizes,
    strides: Sizes | None = None,
    dilation_rate: Sizes = 1,
    padding: str = "valid",
    data_format: str | None = None,
) -> Tensor:
    """Returns the windows of volumes, flattened into the channels.

    Args:
        volumes: One volume or a batch.
        size: Depth, height and width of a window; an int for a cube.
        strides, dilation_rate, padding, data_format: As in `extract_patches`.
    Raises: ValueError: for bad sizes, padding or ranks.

    Example:
        >>> extract_patches_3d(torch.ones(2, 6, 6, 6, 3), 3).shape
        torch.Size([2, 2, 2, 2, 81])
    """
    return _patches(volumes, size, strides, dilation_rate, padding, data_format, 3)


def _patches(
    images: Any,
    size: Sizes,
    strides: Sizes | None,
    dilation_rate: Sizes,
    padding: str,
    data_format: str | None,
    rank: int,
) -> Tensor:
    if padding not in ("valid", "same"):
        raise ValueError(f"extract_patches: padding must be 'valid' or 'same'; got {padding!r}.")
    windows = _each(size, rank, "size")
    steps = _each(strides or windows, rank, "strides")
    dilations = _each(dilation_rate, rank, "dilation_rate")
    spans = [(window - 1) * dilation + 1 for window, dilation in zip(windows, dilations, strict=True)]

    def extract(batch: Tensor) -> Tensor:
        if padding == "same":
            batch = _pad_same(batch, spans, steps)
        for axis, (span, step, dilation) in enumerate(zip(spans, steps, dilations, strict=True), 2):
            batch = batch.unfold(axis, span, step)[..., ::dilation]  # a view: the window is one more axis at the end
        places, window = range(2, 2 + rank), range(2 + rank, 2 + 2 * rank)
        return batch.permute(0, *window, 1, *places).flatten(1, 1 + rank)

    return on_batch(extract, as_tensor(images), data_format, rank)


def _pad_same(batch: Tensor, spans: Sequence[int], steps: Sequence[int]) -> Tensor:
    pads: list[int] = []
    for size, span, step in zip(reversed(batch.shape[2:]), reversed(spans), reversed(steps), strict=True):
        total = max((-(-size // step) - 1) * step + span - size, 0)
        pads += (total // 2, total - total // 2)
    return F.pad(batch, pads)


def _each(value: Sizes, rank: int, name: str) -> tuple[int, ...]:
    values = (value,) * rank if isinstance(value, int) else tuple(value)
    if len(values) != rank or any(not isinstance(n, int) or n < 1 for n in values):
        raise ValueError(f"extract_patches: {name} must be a positive int or {rank} of them; got {value!r}.")
    return values
