"""MobileNetV3, small and large."""

from __future__ import annotations

from typing import Any, NamedTuple

from kstyle_torch import layers
from kstyle_torch.applications._arguments import Arguments, architecture
from kstyle_torch.applications._mobile import rows_and_columns
from kstyle_torch.applications._shapes import channel_axis, channels_of, divisible, in_data_format, pads_before_stride
from kstyle_torch.applications._weights_file import WeightsFile
from kstyle_torch.applications.imagenet_utils import decode_predictions
from kstyle_torch.models.functional import Functional
from kstyle_torch.symbolic.tensor import SymbolicTensor, is_symbolic
from kstyle_torch.tracebacks import warn_user

__all__ = ["decode_predictions", "preprocess_input"]

SMALLEST = 32
SQUEEZED = 0.25  # share of the channels that is left between squeeze and excitation


class Block(NamedTuple):
    """An inverted residual: a row of tables 1 and 2 of the paper. Minimalistic networks read the first three alone."""

    expansion: float
    filters: int
    strides: int
    kernel_size: int
    squeezes: bool
    is_swish: bool


SMALL = (
    Block(1, 16, 2, 3, True, False),
    Block(72 / 16, 24, 2, 3, False, False),
    Block(88 / 24, 24, 1, 3, False, False),
    Block(4, 40, 2, 5, True, True),
    *[Block(6, 40, 1, 5, True, True)] * 2,
    *[Block(3, 48, 1, 5, True, True)] * 2,
    Block(6, 96, 2, 5, True, True),
    *[Block(6, 96, 1, 5, True, True)] * 2,
)
LARGE = (
    Block(1, 16, 1, 3, False, False),
    Block(4, 24, 2, 3, False, False),
    Block(3, 24, 1, 3, False, False),
    Block(3, 40, 2, 5, True, False),
    *[Block(3, 40, 1, 5, True, False)] * 2,
    Block(6, 80, 2, 3, False, True),
    Block(2.5, 80, 1, 3, False, True),
    *[Block(2.3, 80, 1, 3, False, True)] * 2,
    *[Block(6, 112, 1, 3, True, True)] * 2,
    Block(6, 160, 2, 5, True, True),
    *[Block(6, 160, 1, 5, True, True)] * 2,
)
LAST = {"small": 1024, "large": 1280}  # filters of the last hidden convolution
DIGESTS = {  # of the files with and without the top
    "large_224_0.75": ("765b44a33ad4005b3ac83185abf1d0eb", "40af19a13ebea4e2ee0c676887f69a2e"),
    "large_224_1.0": ("59e551e166be033d707958cf9e29a6a7", "07fb09a5933dd0c8eaafa16978110389"),
    "large_minimalistic_224_1.0": ("675e7b876c45c57e9e63e6d90a36599c", "ec5221f64a2f6d1ef965a614bdae7973"),
    "small_224_0.75": ("cb65d4e5be93758266aa0a7f2c6708b7", "ebdb5cc8e0b497cd13a7c275d475c819"),
    "small_224_1.0": ("8768d4c2e7dee89b9d02b2d03d65d862", "d3e8ec802a04aa4fc771ee12a9a9b836"),
    "small_minimalistic_224_1.0": ("99cd97fb2fcdad2bf028eb838de69e37", "cde8136e733e811080d9fcd8a252f7e4"),
}


@architecture
def MobileNetV3Small(  # noqa: N802, a class to its callers
    input_shape: Any = None,
    alpha: float = 1.0,
    minimalistic: bool = False,
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: Any = None,
    classes: int = 1000,
    pooling: str | None = None,
    dropout_rate: float = 0.2,
    classifier_activation: Any = "softmax",
    include_preprocessing: bool = True,
    name: str | None = "MobileNetV3Small",
) -> Functional:
    """Makes the small MobileNetV3, for images of 224 x 224, at least 32 x 32, with values from 0 to 255.

    Args:
        alpha: Factor of the filters of every layer. Weights are published for 0.75 and 1.
        minimalistic: Leaves out what some accelerators are slow at: squeeze and excitation, hard swish and 5 x 5 kernels.
            Weights are published for an alpha of 1.
        dropout_rate: In front of the classes.
        include_preprocessing: Whether the model scales its inputs; without, they are values from -1 to 1.
    Source: Howard et al. 2019, Searching for MobileNetV3.
    """
    arguments = Arguments(
        include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name
    )
    return _mobilenet(arguments, "small", SMALL, alpha, minimalistic, dropout_rate, include_preprocessing)


@architecture
def MobileNetV3Large(  # noqa: N802, a class to its callers
    input_shape: Any = None,
    alpha: float = 1.0,
    minimalistic: bool = False,
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: Any = None,
    classes: int = 1000,
    pooling: str | None = None,
    dropout_rate: float = 0.2,
    classifier_activation: Any = "softmax",
    include_preprocessing: bool = True,
    name: str | None = "MobileNetV3Large",
) -> Functional:
    """Makes the large MobileNetV3, for images of 224 x 224, at least 32 x 32, with values from 0 to 255.

    Args:
        alpha: Factor of the filters of every layer. Weights are published for 0.75 and 1.
        minimalistic: Leaves out what some accelerators are slow at: squeeze and excitation, hard swish and 5 x 5 kernels.
            Weights are published for an alpha of 1.
        dropout_rate: In front of the classes.
        include_preprocessing: Whether the model scales its inputs; without, they are values from -1 to 1.
    Source: Howard et al. 2019, Searching for MobileNetV3.
    """
    arguments = Arguments(
        include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name
    )
    return _mobilenet(arguments, "large", LARGE, alpha, minimalistic, dropout_rate, include_preprocessing)


def preprocess_input(x: Any, data_format: str | None = None) -> Any:  # noqa: ARG001
    """Returns images as they are: the models scale them; `data_format` is not used."""
    return x


def _mobilenet(
    arguments: Arguments,
    size: str,
    blocks: tuple[Block, ...],
    alpha: float,
    minimalistic: bool,
    dropout_rate: float,
    include_preprocessing: bool,
) -> Functional:
    file = _file(arguments, size, alpha, minimalistic)
    image = _image(arguments)
    active = _relu if minimalistic else _hard_swish
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(image) if include_preprocessing else image
    x = layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False, name="conv")(x)
    x = active(_normalized(x, "conv_bn"))
    for number, block in enumerate(blocks):
        if minimalistic:
            block = block._replace(kernel_size=3, squeezes=False, is_swish=False)
        x = _residual(x, block._replace(filters=divisible(block.filters * alpha)), number)
    x = _pointwise(x, divisible(channels_of(x) * 6), "conv_1")
    x = active(_normalized(x, "conv_1_bn"))
    if arguments.include_top:
        x = layers.GlobalAveragePooling2D(keepdims=True)(x)
        last = divisible(LAST[size] * alpha) if alpha > 1.0 else LAST[size]
        x = active(_pointwise(x, last, "conv_2", use_bias=True))
        x = layers.Dropout(dropout_rate)(x) if dropout_rate > 0 else x
        x = layers.Flatten()(_pointwise(x, arguments.classes, "logits", use_bias=True))
        x = layers.Activation(arguments.classifier_activation, name="predictions")(x)
    else:
        x = arguments.pooled(x, "avg_pool", "max_pool")
    return arguments.model(image, x, file)


def _file(arguments: Arguments, size: str, alpha: float, minimalistic: bool) -> WeightsFile:
    kind = f"{size}{'_minimalistic' if minimalistic else ''}_224_{float(alpha)}"
    if arguments.is_published and kind not in DIGESTS:
        widths = "1.0" if minimalistic else "0.75 or 1.0"
        raise ValueError(f"weights='imagenet' with minimalistic={minimalistic} needs alpha={widths}; got {alpha!r}.")
    top, no_top = DIGESTS.get(kind, ("", ""))
    path = f"mobilenet_v3/weights_mobilenet_v3_{kind}_float"
    return WeightsFile(f"{path}.h5", top) if arguments.include_top else WeightsFile(f"{path}_no_top_v2.h5", no_top)


def _image(arguments: Arguments) -> SymbolicTensor:
    """Returns the symbolic image: of any size where none is given, with the top too."""
    arguments.check_same_shape()
    shape, tensor = arguments.input_shape, arguments.input_tensor
    if shape is None and is_symbolic(tensor):
        shape = tensor.shape[1:]
    shape = in_data_format(None, None, 3) if shape is None else tuple(shape)
    if len(shape) != 3:
        raise ValueError(f"input_shape must have three sizes, such as {in_data_format(224, 224, 3)}; got {shape}.")
    rows, columns = rows_and_columns(shape)
    if rows and columns and min(rows, columns) < SMALLEST:
        raise ValueError(f"Images must be at least {SMALLEST} x {SMALLEST}; got input_shape={shape}.")
    if arguments.is_published and (rows, columns) != (224, 224):
        warn_user("The weights were trained on images of 224 x 224.")
    return arguments.input_tensor if is_symbolic(tensor) else layers.Input(shape, tensor=tensor)


def _residual(x: SymbolicTensor, block: Block, number: int) -> SymbolicTensor:
    prefix, shortcut = f"expanded_conv_{number}_" if number else "expanded_conv_", x
    active = _hard_swish if block.is_swish else _relu
    channels = channels_of(x)
    expanded = divisible(channels * block.expansion)
    if number:
        x = active(_normalized(_pointwise(x, expanded, f"{prefix}expand"), f"{prefix}expand_bn"))
    if block.strides > 1:
        x = layers.ZeroPadding2D(pads_before_stride(x, block.kernel_size), name=f"{prefix}depthwise_pad")(x)
    x = layers.DepthwiseConv2D(
        block.kernel_size,
        strides=block.strides,
        padding="same" if block.strides == 1 else "valid",
        use_bias=False,
        name=f"{prefix}depthwise",
    )(x)
    x = active(_normalized(x, f"{prefix}depthwise_bn"))
    if block.squeezes:
        x = _squeezed(x, expanded, f"{prefix}squeeze_excite_")
    x = _normalized(_pointwise(x, block.filters, f"{prefix}project"), f"{prefix}project_bn")
    is_sum = block.strides == 1 and channels == block.filters
    return layers.Add(name=f"{prefix}add")([shortcut, x]) if is_sum else x


def _squeezed(x: SymbolicTensor, filters: int, prefix: str) -> SymbolicTensor:
    """Returns `x` with a factor from 0 to 1 for each channel, computed from the means of all of them (Hu et al. 2017)."""
    factors: Any = layers.GlobalAveragePooling2D(keepdims=True, name=f"{prefix}avg_pool")(x)
    factors = _pointwise(factors, divisible(filters * SQUEEZED), f"{prefix}conv", use_bias=True)
    factors = layers.ReLU(name=f"{prefix}relu")(factors)
    factors = _pointwise(factors, filters, f"{prefix}conv_1", use_bias=True)
    factors = layers.ReLU(6.0)(factors + 3.0) * (1.0 / 6.0)
    return layers.Multiply(name=f"{prefix}mul")([x, factors])


def _pointwise(x: SymbolicTensor, filters: int, name: str, use_bias: bool = False) -> SymbolicTensor:
    return layers.Conv2D(filters, 1, padding="same", use_bias=use_bias, name=name)(x)


def _normalized(x: SymbolicTensor, name: str) -> SymbolicTensor:
    return layers.BatchNormalization(axis=channel_axis(), epsilon=1e-3, momentum=0.999, name=name)(x)


def _relu(x: SymbolicTensor) -> SymbolicTensor:
    return layers.ReLU()(x)


def _hard_swish(x: SymbolicTensor) -> SymbolicTensor:
    return layers.Activation("hard_swish")(x)
