"""Xception."""

from __future__ import annotations

from typing import Any

from kstyle_torch import layers
from kstyle_torch.applications import imagenet_utils
from kstyle_torch.applications._arguments import Arguments, architecture
from kstyle_torch.applications._shapes import channel_axis
from kstyle_torch.applications._weights_file import pair
from kstyle_torch.applications.imagenet_utils import decode_predictions
from kstyle_torch.models.functional import Functional
from kstyle_torch.symbolic.tensor import SymbolicTensor

__all__ = ["Xception", "decode_predictions", "preprocess_input"]

ENTRY = (128, 256, 728)  # filters of blocks 2 to 4
MIDDLE = range(5, 13)  # blocks whose images keep their size
FILES = pair(
    "xception/xception_weights_tf_dim_ordering_tf_kernels",
    "0a58e3b7378bc2990ea3b43d5981f1f6",
    "b0042744bf5b25fce3cb969f33bebb97",
)


@architecture
def Xception(  # noqa: N802, a class to its callers
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: Any = None,
    input_shape: Any = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = "xception",
) -> Functional:
    """Makes Xception, for images of 299 x 299, at least 71 x 71, that went through `xception.preprocess_input`.

    Source: Chollet 2016, Xception: Deep Learning with Depthwise Separable Convolutions.
    """
    arguments = Arguments(
        include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name
    )
    image = arguments.image(default_size=299, min_size=71)
    x = _features(image)
    if include_top:
        x = arguments.predictions(layers.GlobalAveragePooling2D(name="avg_pool")(x))
    else:
        x = arguments.pooled(x)
    return arguments.model(image, x, FILES[bool(include_top)])


def _features(x: SymbolicTensor) -> SymbolicTensor:
    for name, filters, strides in (("block1_conv1", 32, 2), ("block1_conv2", 64, 1)):
        x = layers.Conv2D(filters, 3, strides=strides, use_bias=False, name=name)(x)
        x = _active(_normalized(x, f"{name}_bn"), name)
    for block, filters in enumerate(ENTRY, 2):
        x = _halved(x, block, (filters, filters), begins_active=block > 2)
    for block in MIDDLE:
        y = x
        for number in range(1, 4):
            name = f"block{block}_sepconv{number}"
            y = _separated(_active(y, name), 728, name)
        x = layers.Add()([y, x])
    x = _halved(x, 13, (728, 1024))
    for name, filters in (("block14_sepconv1", 1536), ("block14_sepconv2", 2048)):
        x = _active(_separated(x, filters, name), name)
    return x


def _halved(x: SymbolicTensor, block: int, filters: tuple[int, int], begins_active: bool = True) -> SymbolicTensor:
    """Returns the output of a block that halves the size of images, beside a convolution that does so too."""
    shortcut = layers.Conv2D(filters[1], 1, strides=2, padding="same", use_bias=False)(x)
    shortcut = _normalized(shortcut)
    for number, each in enumerate(filters, 1):
        name = f"block{block}_sepconv{number}"
        x = _separated(_active(x, name) if begins_active or number > 1 else x, each, name)
    x = layers.MaxPooling2D(3, strides=2, padding="same", name=f"block{block}_pool")(x)
    return layers.Add()([x, shortcut])


def _separated(x: SymbolicTensor, filters: int, name: str) -> SymbolicTensor:
    x = layers.SeparableConv2D(filters, 3, padding="same", use_bias=False, name=name)(x)
    return _normalized(x, f"{name}_bn")


def _normalized(x: SymbolicTensor, name: str | None = None) -> SymbolicTensor:
    return layers.BatchNormalization(axis=channel_axis(), name=name)(x)


def _active(x: SymbolicTensor, name: str) -> SymbolicTensor:
    return layers.Activation("relu", name=f"{name}_act")(x)


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """Returns images scaled to -1 to 1; see `imagenet_utils.preprocess_input`."""
    return imagenet_utils.preprocess_input(x, data_format, "tf")
