"""Axes of images, and conversion of single images to batches."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kstyle_torch import config


def channel_axis(data_format: str | None, rank: int = 2) -> int:
    """Returns the channels axis, counted from the end; that of `config.image_data_format()` for None.

    Raises: ValueError: if the format is neither `"channels_last"` nor `"channels_first"`.
    """
    data_format = config.image_data_format() if data_format is None else str(data_format).lower()
    if data_format not in ("channels_last", "channels_first"):
        raise ValueError(f"data_format must be 'channels_last' or 'channels_first'; got {data_format!r}.")
    return -1 if data_format == "channels_last" else -1 - rank


def check_images(images: Tensor, rank: int = 2) -> None:
    """Raises: ValueError: if `images` is neither one image nor a batch."""
    if images.ndim not in (rank + 1, rank + 2):
        raise ValueError(
            f"Images must have {rank + 1} axes (one image) or {rank + 2} (a batch of them); got shape {tuple(images.shape)}."
        )


def on_batch(function: Callable[[Tensor], Tensor], images: Tensor, data_format: str | None, rank: int = 2) -> Tensor:
    """Returns `function` of a batch with its channels in front, in the layout that `images` (or the one image) has.

    The channels move as a view, both ways.
    """
    check_images(images, rank)
    channels = channel_axis(data_format, rank)
    batch = images if images.ndim == rank + 2 else images[None]
    outputs = function(batch.movedim(channels, 1)).movedim(1, channels)
    return outputs if images.ndim == rank + 2 else outputs[0]


def cast_back(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Casts computed floats to the dtype of the images; rounds them if it is an integer dtype."""
    if values.dtype == dtype:
        return values
    return (values if dtype.is_floating_point else values.round()).to(dtype)
