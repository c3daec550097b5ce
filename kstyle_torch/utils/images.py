"""Conversion between image files, PIL images and arrays."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from kstyle_torch import config
from kstyle_torch.registry import did_you_mean

COLOR_MODES = ("grayscale", "rgb", "rgba")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "hamming", "box", "lanczos")
GRAY_MODES = ("L", "I;16", "I")  # modes of PIL: 8, 16 and 32 bits


def load_img(
    path: Any,
    color_mode: str = "rgb",
    target_size: tuple[int, int] | None = None,
    interpolation: str = "nearest",
    keep_aspect_ratio: bool = False,
) -> Any:
    """Reads an image file as a PIL image.

    Args:
        path: Path, or `io.BytesIO`.
        color_mode: `"grayscale"`, `"rgb"` or `"rgba"`.
        target_size: (height, width) to which it is resized; None for no change.
        interpolation: `"nearest"`, `"bilinear"`, `"bicubic"`, `"hamming"`, `"box"` or `"lanczos"`.
        keep_aspect_ratio: Whether to crop to the target's aspect ratio around the center first, which avoids distortion.
    Raises: ValueError: for an unknown mode. TypeError: if `path` is neither. ModuleNotFoundError: without Pillow.
    """
    pil = _pil()
    if not isinstance(path, (io.BytesIO, str, bytes, os.PathLike)):
        raise TypeError(f"path must be a path or io.BytesIO; got a {type(path).__name__}.")
    if color_mode not in COLOR_MODES:
        raise ValueError(f"color_mode must be one of {', '.join(COLOR_MODES)}; got {color_mode!r}.")
    with pil.open(path) as opened:
        image = _in_mode(opened, color_mode)
        image.load()
    if target_size is None:
        return image
    height, width = target_size
    if image.size == (width, height):
        return image
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"Unknown interpolation {interpolation!r}.{did_you_mean(interpolation, INTERPOLATIONS)}")
    resample = getattr(pil.Resampling, interpolation.upper())
    box = _middle(image.size, (width, height)) if keep_aspect_ratio else None
    return image.resize((width, height), resample, box=box)


def img_to_array(img: Any, data_format: str | None = None, dtype: Any = None) -> np.ndarray:
    """Returns a PIL image as an array.

    Args:
        img: The image.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
        dtype: `config.floatx()` if None.
    Returns: (height, width, channels), or (channels, height, width); a gray image has one channel.
    Raises: ValueError: if it is not an image.
    """
    array = np.asarray(img, dtype=dtype or config.floatx())
    if array.ndim not in (2, 3):
        raise ValueError(f"Expected an image; got an array of shape {array.shape}.")
    array = array[:, :, None] if array.ndim == 2 else array
    return array.transpose(2, 0, 1) if _channels_first(data_format) else array


def array_to_img(x: Any, data_format: str | None = None, scale: bool = True, dtype: Any = None) -> Any:
    """Returns an array or tensor as a PIL image.

    Args:
        x: (height, width, channels) with 1, 3 or 4 channels, or (channels, height, width).
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
        scale: Whether to scale the values to the range 0 to 255.
        dtype: Dtype of this computation; `config.floatx()` if None.
    Raises: ValueError: for another shape. ModuleNotFoundError: without Pillow.
    """
    pil = _pil()
    array = np.asarray(x.detach().cpu() if isinstance(x, Tensor) else x, dtype=dtype or config.floatx())
    if array.ndim != 3:
        raise ValueError(f"Expected one image, (height, width, channels); got an array of shape {array.shape}.")
    array = array.transpose(1, 2, 0) if _channels_first(data_format) else array
    if array.shape[-1] not in (1, 3, 4):
        raise ValueError(f"An image has 1, 3 or 4 channels; got {array.shape[-1]}, in an array of shape {array.shape}.")
    if scale:
        array = array - array.min()
        array = array / (array.max() or 1) * 255
    if array.shape[-1] > 1:
        return pil.fromarray(array.astype("uint8"))
    return pil.fromarray(array[:, :, 0].astype("int32" if array.max() > 255 else "uint8"))


def save_img(
    path: Any, x: Any, data_format: str | None = None, file_format: str | None = None, scale: bool = True, **kwargs: Any
) -> None:
    """Writes an array as an image file.

    Args:
        path: Path or file.
        x: See `array_to_img`.
        data_format: See `array_to_img`.
        file_format: Such as `"png"`; determined by the path's suffix if None.
        scale: See `array_to_img`.
        kwargs: Arguments of PIL's `save`.
    """
    if file_format is None and isinstance(path, (str, os.PathLike)):
        file_format = Path(path).suffix[1:]
    file_format = "jpeg" if (file_format or "").lower() == "jpg" else file_format
    image = array_to_img(x, data_format, scale)
    if image.mode == "RGBA" and file_format == "jpeg":
        warnings.warn("A JPEG file has no alpha channel; it is dropped.", stacklevel=2)
        image = image.convert("RGB")
    image.save(path, format=file_format, **kwargs)


def _in_mode(image: Any, color_mode: str) -> Any:
    if color_mode == "grayscale":
        return image if image.mode in GRAY_MODES else image.convert("L")
    return image.convert(color_mode.upper())


def _middle(size: tuple[int, int], target: tuple[int, int]) -> tuple[int, int, int, int]:
    """Returns the largest center crop with the target's aspect ratio: left, upper, right, lower."""
    (width, height), (target_width, target_height) = size, target
    part_height = min(height, width * target_height // target_width)
    part_width = min(width, height * target_width // target_height)
    left, upper = (width - part_width) // 2, (height - part_height) // 2
    return left, upper, left + part_width, upper + part_height


def _channels_first(data_format: str | None) -> bool:
    data_format = data_format or config.image_data_format()
    if data_format not in ("channels_first", "channels_last"):
        raise ValueError(f"data_format must be 'channels_first' or 'channels_last'; got {data_format!r}.")
    return data_format == "channels_first"


def _pil() -> Any:
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("Image files need Pillow: pip install kstyle-torch[images].") from error
    return Image
