"""MobileNetV2."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kstyle_torch import layers
from kstyle_torch.applications import imagenet_utils
from kstyle_torch.applications._arguments import Arguments, architecture
from kstyle_torch.applications._mobile import published_rows, trained_size
from kstyle_torch.applications._shapes import channel_axis, channels_of, divisible, pads_before_stride
from kstyle_torch.applications._weights_file import WeightsFile
from kstyle_torch.applications.imagenet_utils import decode_predictions
from kstyle_torch.models.functional import Functional
from kstyle_torch.symbolic.tensor import SymbolicTensor, is_symbolic

__all__ = ["MobileNetV2", "decode_predictions", "preprocess_input"]

SIZES = (96, 128, 160, 192, 224)
WIDTHS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
# Expansion, filters, number of blocks, and stride of the first of them: table 2 of the paper.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
LAST = 1280  # filters of the last convolution, at least


@architecture
def MobileNetV2(  # noqa: N802, a class to its callers
    input_shape: Any = None,
    alpha: float = 1.0,
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: Any = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
) -> Functional:
    """Makes MobileNetV2, for images of 224 x 224, at least 32 x 32, that went through `mobilenet_v2.preprocess_input`.

    Args:
        alpha: Factor of the filters of every layer. Weights are published for 0.35, 0.5, 0.75, 1, 1.3 and 1.4, on images of
            96, 128, 160, 192 and 224.
    Source: Sandler et al. 2018, MobileNetV2: Inverted Residuals and Linear Bottlenecks.
    """
    arguments = Arguments(
        include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name
    )
    arguments.check_same_shape()
    is_given = input_shape is None and is_symbolic(input_tensor)
    size = trained_size(input_tensor.shape[1:] if is_given else input_shape, SIZES)
    rows = published_rows(arguments, arguments.image_shape(size, 32), alpha, WIDTHS, SIZES)
    image = arguments.image(size, min_size=32)
    x = layers.Conv2D(divisible(32 * alpha), 3, strides=2, padding="same", use_bias=False, name="Conv1")(image)
    x = layers.ReLU(6.0, name="Conv1_relu")(_normalized(x, "bn_Conv1"))
    block = 0
    for expansion, filters, depth, first_strides in STAGES:
        for number in range(depth):
            x = _block(x, expansion, divisible(int(filters * alpha)), first_strides if number == 0 else 1, block)
            block += 1
    x = layers.Conv2D(divisible(LAST * max(alpha, 1.0)), 1, use_bias=False, name="Conv_1")(x)
    x = layers.ReLU(6.0, name="out_relu")(_normalized(x, "Conv_1_bn"))
    x = arguments.predictions(layers.GlobalAveragePooling2D()(x)) if include_top else arguments.pooled(x)
    suffix = "" if include_top else "_no_top"
    path = f"mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{float(alpha)}_{rows}{suffix}.h5"
    named = replace(arguments, name=name or f"mobilenetv2_{alpha:0.2f}_{rows}")
    return named.model(image, x, WeightsFile(path))


def _block(x: SymbolicTensor, expansion: int, filters: int, strides: int, block: int) -> SymbolicTensor:
    """Returns an inverted residual: wide in the middle, where each channel is convolved alone, and linear at its end."""
    prefix, shortcut = f"block_{block}_" if block else "expanded_conv_", x
    channels = channels_of(x)
    if block:
        x = layers.Conv2D(expansion * channels, 1, padding="same", use_bias=False, name=f"{prefix}expand")(x)
        x = layers.ReLU(6.0, name=f"{prefix}expand_relu")(_normalized(x, f"{prefix}expand_BN"))
    if strides > 1:
        x = layers.ZeroPadding2D(pads_before_stride(x, 3), name=f"{prefix}pad")(x)
    padding = "same" if strides == 1 else "valid"
    x = layers.DepthwiseConv2D(3, strides=strides, padding=padding, use_bias=False, name=f"{prefix}depthwise")(x)
    x = layers.ReLU(6.0, name=f"{prefix}depthwise_relu")(_normalized(x, f"{prefix}depthwise_BN"))
    x = layers.Conv2D(filters, 1, padding="same", use_bias=False, name=f"{prefix}project")(x)
    x = _normalized(x, f"{prefix}project_BN")
    is_sum = strides == 1 and channels == filters
    return layers.Add(name=f"{prefix}add")([shortcut, x]) if is_sum else x


def _normalized(x: SymbolicTensor, name: str) -> SymbolicTensor:
    return layers.BatchNormalization(axis=channel_axis(), epsilon=1e-3, momentum=0.999, name=name)(x)


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """Returns images scaled to -1 to 1; see `imagenet_utils.preprocess_input`."""
    return imagenet_utils.preprocess_input(x, data_format, "tf")
