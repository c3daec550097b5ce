"""Images as arrays: of any library, with channels last."""

from __future__ import annotations

from typing import Any

import numpy as np

from kstyle_torch import config, ops


def to_images(images: Any, data_format: str | None) -> np.ndarray:
    """Returns a batch of images as an array (batch, height, width, channels) that may be changed.

    Args:
        images: Array or tensor with four axes.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
    Raises: ValueError: for another number of axes.
    """
    array = np.array(ops.convert_to_numpy(images))
    if array.ndim != 4:
        raise ValueError(f"images must be a batch, (batch, height, width, channels); got the shape {array.shape}.")
    return array.transpose(0, 2, 3, 1) if is_channels_first(data_format) else array


def is_channels_first(data_format: str | None) -> bool:
    """Returns whether channels are the second axis."""
    return (data_format or config.image_data_format()) == "channels_first"
