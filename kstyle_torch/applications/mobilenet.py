"""MobileNet."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kstyle_torch import layers
from kstyle_torch.applications import imagenet_utils
from kstyle_torch.applications._arguments import Arguments, architecture
from kstyle_torch.applications._mobile import published_rows, trained_size
from kstyle_torch.applications._shapes import channel_axis
from kstyle_torch.applications._weights_file import WeightsFile
from kstyle_torch.applications.imagenet_utils import decode_predictions
from kstyle_torch.models.functional import Functional
from kstyle_torch.symbolic.tensor import SymbolicTensor

__all__ = ["MobileNet", "decode_predictions", "preprocess_input"]

SIZES = (128, 160, 192, 224)
WIDTHS = {0.25: "2_5", 0.5: "5_0", 0.75: "7_5", 1.0: "1_0"}  # alpha: its spelling in the names of files
# Filters and stride of each block.
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))


@architecture
def MobileNet(  # noqa: N802, a class to its callers
    input_shape: Any = None,
    alpha: float = 1.0,
    depth_multiplier: int = 1,
    dropout: float = 1e-3,
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: Any = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
) -> Functional:
    """Makes MobileNet, for images of 224 x 224, at least 32 x 32, that went through `mobilenet.preprocess_input`.

    Args:
        alpha: Factor of the filters of every layer. Weights are published for 0.25, 0.5, 0.75 and 1, on images of 128, 160,
            192 and 224.
        depth_multiplier: Outputs of each depthwise convolution for each of its input channels; 1 for published weights.
        dropout: Rate in front of the classes.
    Source: Howard et al. 2017, MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications.
    """
    arguments = Arguments(
        include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name
    )
    size = trained_size(input_shape, SIZES)
    rows = published_rows(arguments, arguments.image_shape(size, 32), alpha, (*WIDTHS,), SIZES)
    if arguments.is_published and depth_multiplier != 1:
        raise ValueError(f"weights='imagenet' needs depth_multiplier=1; got {depth_multiplier!r}.")
    image = arguments.image(size, min_size=32)
    x = layers.Conv2D(int(32 * alpha), 3, strides=2, padding="same", use_bias=False, name="conv1")(image)
    x = _active(x, "conv1")
    for block, (filters, strides) in enumerate(BLOCKS, 1):
        x = _block(x, int(filters * alpha), strides, depth_multiplier, block)
    if include_top:
        x = layers.GlobalAveragePooling2D(keepdims=True)(x)
        x = layers.Dropout(dropout, name="dropout")(x)
        x = layers.Conv2D(classes, 1, padding="same", name="conv_preds")(x)
        x = layers.Reshape((classes,), name="reshape_2")(x)
        x = layers.Activation(classifier_activation, name="predictions")(x)
    else:
        x = arguments.pooled(x)
    suffix = "" if include_top else "_no_top"
    file = WeightsFile(f"mobilenet/mobilenet_{WIDTHS.get(alpha)}_{rows}_tf{suffix}.h5")
    return replace(arguments, name=name or f"mobilenet_{alpha:0.2f}_{rows}").model(image, x, file)


def _block(x: SymbolicTensor, filters: int, strides: int, multiplier: int, block: int) -> SymbolicTensor:
    """Returns a 3 x 3 convolution of each channel, followed by one of 1 x 1 over all of them."""
    if strides > 1:
        x = layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"conv_pad_{block}")(x)
    x = layers.DepthwiseConv2D(
        3,
        strides=strides,
        padding="same" if strides == 1 else "valid",
        depth_multiplier=multiplier,
        use_bias=False,
        name=f"conv_dw_{block}",
    )(x)
    x = _active(x, f"conv_dw_{block}")
    x = layers.Conv2D(filters, 1, padding="same", use_bias=False, name=f"conv_pw_{block}")(x)
    return _active(x, f"conv_pw_{block}")


def _active(x: SymbolicTensor, name: str) -> SymbolicTensor:
    x = layers.BatchNormalization(axis=channel_axis(), name=f"{name}_bn")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x)


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """Returns images scaled to -1 to 1; see `imagenet_utils.preprocess_input`."""
    return imagenet_utils.preprocess_input(x, data_format, "tf")
