"""Images as networks that were trained on ImageNet take them, and the names of the classes that they give."""

from __future__ import annotations

import functools
import json
from typing import Any

import numpy as np

from kstyle_torch import config, ops
from kstyle_torch.utils.files import get_file

__all__ = ["decode_predictions", "preprocess_input"]

CLASSES = 1000
CLASS_INDEX = "https://storage.googleapis.com/download.tensorflow.org/data/imagenet_class_index.json"
DIGEST = "c2c37ea517e94d9795004a39431a14cb"

# Of ImageNet, by channel: of blue, green and red from 0 to 255, and of red, green and blue from 0 to 1.
MEANS = {"caffe": (103.939, 116.779, 123.68), "torch": (0.485, 0.456, 0.406)}
DEVIATIONS = (0.229, 0.224, 0.225)


def preprocess_input(x: Any, data_format: str | None = None, mode: str = "caffe") -> Any:
    """Returns images with the values on which an ImageNet network was trained.

    Args:
        x: Images in RGB with values from 0 to 255, (batch, height, width, 3) or one of them: an array, a tensor or a
            symbolic tensor. An array of floats is overwritten, as in Keras; pass `x.copy()` to keep it.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
        mode: `"caffe"`: BGR, less the mean of each channel. `"tf"`: scaled to -1 to 1. `"torch"`: scaled to 0 to 1, less
            the mean of each channel, by its standard deviation.
    Returns: The same kind of images. Integers become `config.floatx()`.
    Raises: ValueError: for an unknown mode or data format, and images without three channels.

    Example:
        >>> preprocess_input(np.array([[[0, 127.5, 255]]]), mode="tf")
        array([[[-1.,  0.,  1.]]])
    """
    if mode not in ("caffe", "tf", "torch"):
        raise ValueError(f"preprocess_input: mode must be 'caffe', 'tf' or 'torch'; got {mode!r}.")
    data_format = data_format or config.image_data_format()
    if data_format not in ("channels_first", "channels_last"):
        raise ValueError(
            f"preprocess_input: data_format must be 'channels_first' or 'channels_last'; got {data_format!r}."
        )
    axis = len(x.shape) - 1 if data_format == "channels_last" else min(len(x.shape) - 3, 1)
    if mode != "tf" and (len(x.shape) < 3 or x.shape[axis] not in (3, None)):
        raise ValueError(
            f"preprocess_input: {mode!r} needs images with three channels, {data_format}; got the shape {tuple(x.shape)}."
        )
    return _overwritten(x, axis, mode) if isinstance(x, np.ndarray) else _transformed(x, axis, mode)


def _overwritten(x: np.ndarray, axis: int, mode: str) -> np.ndarray:
    """Changes an array in place where it holds floats and may be written to."""
    if not np.issubdtype(x.dtype, np.floating):
        x = x.astype(config.floatx())
    elif not x.flags.writeable:
        x = x.copy()
    if mode == "tf":
        x /= 127.5
        x -= 1.0
        return x
    channels = np.moveaxis(x, axis, -1)  # a view
    if mode == "caffe":
        channels[...] = channels[..., ::-1]
    else:
        x /= 255.0
    channels -= np.array(MEANS[mode], x.dtype)
    if mode == "torch":
        channels /= np.array(DEVIATIONS, x.dtype)
    return x


def _transformed(x: Any, axis: int, mode: str) -> Any:
    """Returns a new tensor.

    Each channel is computed with Python's numbers: constant tensors would bind the graph of a model to a device.
    """
    if not getattr(x, "torch_dtype", x.dtype).is_floating_point:
        x = ops.cast(x, config.floatx())
    if mode == "tf":
        return x / 127.5 - 1.0
    red, green, blue = (x[(slice(None),) * axis + (channel,)] for channel in range(3))
    if mode == "caffe":
        channels = [channel - mean for channel, mean in zip((blue, green, red), MEANS[mode])]
    else:
        rows = zip((red, green, blue), MEANS[mode], DEVIATIONS)
        channels = [(channel / 255.0 - mean) / deviation for channel, mean, deviation in rows]
    return ops.stack(channels, axis=axis)


def decode_predictions(preds: Any, top: int = 5) -> list[list[tuple[str, str, Any]]]:
    """Returns the likeliest classes of ImageNet for each image.

    Args:
        preds: What a model with `include_top=True` gave, (batch, 1000).
        top: How many classes; 1 to 1000.
    Returns: For each image a list of `(WordNet's id, name, score)`, the likeliest first.
    Raises: ValueError: for predictions of another shape, or another `top`. OSError: if the file with the names is not in
        Keras' cache and cannot be downloaded.
    """
    if len(preds.shape) != 2 or preds.shape[1] != CLASSES:
        raise ValueError(
            f"decode_predictions takes the predictions of a batch, (batch, {CLASSES}); got the shape {tuple(preds.shape)}."
        )
    if not 1 <= top <= CLASSES:
        raise ValueError(f"decode_predictions: top must be from 1 to {CLASSES}; got {top!r}.")
    names = _class_names()
    scores = ops.convert_to_numpy(preds)
    return [[(*names[number], row[number]) for number in row.argsort()[: -top - 1 : -1]] for row in scores]


@functools.cache
def _class_names() -> list[tuple[str, str]]:
    path = get_file("imagenet_class_index.json", CLASS_INDEX, cache_subdir="models", file_hash=DIGEST)
    with open(path, encoding="utf-8") as file:
        found = json.load(file)
    return [(*found[str(number)],) for number in range(CLASSES)]
