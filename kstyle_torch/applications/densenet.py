"""DenseNet121, DenseNet169 and DenseNet201: in their blocks, each convolution reads the outputs of all before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kstyle_torch import config, layers
from kstyle_torch.applications import imagenet_utils
from kstyle_torch.applications._arguments import Arguments, architecture
from kstyle_torch.applications._weights_file import pair
from kstyle_torch.applications.imagenet_utils import decode_predictions
from kstyle_torch.models.functional import Functional
from kstyle_torch.symbolic.tensor import SymbolicTensor

__all__ = ["DenseNet121", "DenseNet169", "DenseNet201", "decode_predictions", "preprocess_input"]

GROWTH = 32  # channels that each convolution of a block adds
BOTTLENECK = 4 * GROWTH
BLOCKS = {  # convolutions in each block
    "densenet121": (6, 12, 24, 16),
    "densenet169": (6, 12, 32, 32),
    "densenet201": (6, 12, 48, 32),
}
FILES = {
    "densenet121": pair(
        "densenet/densenet121_weights_tf_dim_ordering_tf_kernels",
        "9d60b8095a5708f2dcce2bca79d332c7",
        "30ee3e1110167f948a6b9946edeeb738",
    ),
    "densenet169": pair(
        "densenet/densenet169_weights_tf_dim_ordering_tf_kernels",
        "d699b8f76981ab1b30698df4c175e90b",
        "b8c4d4c20dd625c148057b9ff1c1176b",
    ),
    "densenet201": pair(
        "densenet/densenet201_weights_tf_dim_ordering_tf_kernels",
        "1ceb130c1ea1b78c3bf6114dbdfd8807",
        "c13680b51ded0fb44dff2d8f86ac8bb1",
    ),
}


def _variant(function_name: str) -> Callable[..., Functional]:
    """Returns the function that makes a variant; they differ in numbers alone."""
    variant = function_name.lower()

    def make(
        include_top: bool = True,
        weights: Any = "imagenet",
        input_tensor: Any = None,
        input_shape: Any = None,
        pooling: str | None = None,
        classes: int = 1000,
        classifier_activation: Any = "softmax",
        name: str | None = variant,
    ) -> Functional:
        arguments = Arguments(
            include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name
        )
        return _densenet(arguments, variant)

    make.__name__ = make.__qualname__ = function_name
    make.__doc__ = f"""Makes {function_name}, for images of 224 x 224, at least 32 x 32, that went through
    `densenet.preprocess_input`; channels last only.

    Source: Huang et al. 2017, Densely Connected Convolutional Networks, https://arxiv.org/abs/1608.06993.
    """
    return architecture(make)


DenseNet121 = _variant("DenseNet121")
DenseNet169 = _variant("DenseNet169")
DenseNet201 = _variant("DenseNet201")


def _densenet(arguments: Arguments, variant: str) -> Functional:
    if config.image_data_format() == "channels_first":
        raise ValueError('DenseNet needs channels last; call config.set_image_data_format("channels_last") first.')
    image = arguments.image(default_size=224, min_size=32)
    x = _features(image, BLOCKS[variant])
    if arguments.include_top:
        x = arguments.predictions(layers.GlobalAveragePooling2D(name="avg_pool")(x))
    else:
        x = arguments.pooled(x, "avg_pool", "max_pool")
    return arguments.model(image, x, FILES[variant][bool(arguments.include_top)])


def _features(x: SymbolicTensor, blocks: tuple[int, ...]) -> SymbolicTensor:
    """Returns the output of the last block, normalized."""
    x = layers.ZeroPadding2D(3)(x)
    x = layers.Conv2D(64, 7, strides=2, use_bias=False, name="conv1_conv")(x)
    x = _activate(x, "conv1_bn", "conv1_relu")
    x = layers.ZeroPadding2D(1)(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool1")(x)
    channels = 64
    for number, length in enumerate(blocks, start=2):  # the stem is conv1
        if number > 2:
            channels //= 2
            x = _halve(x, channels, f"pool{number - 1}")
        for block in range(1, length + 1):
            x = _grow(x, f"conv{number}_block{block}")
        channels += length * GROWTH
    return _activate(x, "bn", "relu")


def _grow(x: SymbolicTensor, name: str) -> SymbolicTensor:
    """Returns `x` and the channels that one more convolution makes of it."""
    new = _activate(x, f"{name}_0_bn", f"{name}_0_relu")
    new = layers.Conv2D(BOTTLENECK, 1, use_bias=False, name=f"{name}_1_conv")(new)
    new = _activate(new, f"{name}_1_bn", f"{name}_1_relu")
    new = layers.Conv2D(GROWTH, 3, padding="same", use_bias=False, name=f"{name}_2_conv")(new)
    return layers.Concatenate(axis=3, name=f"{name}_concat")([x, new])


def _halve(x: SymbolicTensor, channels: int, name: str) -> SymbolicTensor:
    """Returns fewer channels of `x`, at half the resolution."""
    x = _activate(x, f"{name}_bn", f"{name}_relu")
    x = layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_conv")(x)
    return layers.AveragePooling2D(2, strides=2, name=f"{name}_pool")(x)


def _activate(x: SymbolicTensor, normalization: str, activation: str) -> SymbolicTensor:
    x = layers.BatchNormalization(axis=3, epsilon=1.001e-5, name=normalization)(x)
    return layers.Activation("relu", name=activation)(x)


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """Returns images scaled to 0 to 1, less ImageNet's mean of each channel, by its standard deviation."""
    return imagenet_utils.preprocess_input(x, data_format, "torch")
