"""EfficientNetB0 to EfficientNetB7: one network of inverted bottlenecks, scaled in width, depth and resolution together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from string import ascii_lowercase
from typing import Any, NamedTuple

from kstyle_torch import layers
from kstyle_torch.applications import _mbconv
from kstyle_torch.applications._arguments import Arguments, architecture
from kstyle_torch.applications._mbconv import Block
from kstyle_torch.applications._shapes import channel_axis, divisible, pads_before_stride
from kstyle_torch.applications._weights_file import WeightsFile
from kstyle_torch.applications.imagenet_utils import DEVIATIONS, decode_predictions
from kstyle_torch.models.functional import Functional
from kstyle_torch.symbolic.tensor import SymbolicTensor

__all__ = [
    "EfficientNetB0",
    "EfficientNetB1",
    "EfficientNetB2",
    "EfficientNetB3",
    "EfficientNetB4",
    "EfficientNetB5",
    "EfficientNetB6",
    "EfficientNetB7",
    "decode_predictions",
    "preprocess_input",
]

ORIGIN = "https://storage.googleapis.com/keras-applications/"
STEM_FILTERS, TOP_FILTERS = 32, 1280
DROP_RATE = 0.2  # part of the samples that skip a block in training; rises to it from 0 at the first block
MOMENTUM = 0.99


class _Stage(NamedTuple):
    """Blocks in a row, of which only the first has strides."""

    kernel: int
    repeats: int
    filters: int
    expansion: int
    strides: int


STAGES = (
    _Stage(3, 1, 16, 1, 1),
    _Stage(3, 2, 24, 6, 2),
    _Stage(5, 2, 40, 6, 2),
    _Stage(3, 3, 80, 6, 2),
    _Stage(5, 3, 112, 6, 1),
    _Stage(5, 4, 192, 6, 2),
    _Stage(3, 1, 320, 6, 1),
)


class _Scale(NamedTuple):
    """Factors by which a network is wider and deeper than EfficientNetB0, and what else grows with them."""

    width: float
    depth: float
    image_size: int
    dropout: float
    digests: tuple[str, str]  # of the weights with the top and without


SCALES = {
    "b0": _Scale(1.0, 1.0, 224, 0.2, ("902e53a9f72be733fc0bcb005b3ebbac", "50bc09e76180e00e4465e1a485ddc09d")),
    "b1": _Scale(1.0, 1.1, 240, 0.2, ("1d254153d4ab51201f1646940f018540", "74c4e6b3e1f6a1eea24c589628592432")),
    "b2": _Scale(1.1, 1.2, 260, 0.3, ("b15cce36ff4dcbd00b6dd88e7857a6ad", "111f8e2ac8aa800a7a99e3239f7bfb39")),
    "b3": _Scale(1.2, 1.4, 300, 0.3, ("ffd1fdc53d0ce67064dc6a9c7960ede0", "af6d107764bb5b1abb91932881670226")),
    "b4": _Scale(1.4, 1.8, 380, 0.4, ("18c95ad55216b8f92d7e70b3a046e2fc", "ebc24e6d6c33eaebbd558eafbeedf1ba")),
    "b5": _Scale(1.6, 2.2, 456, 0.4, ("ace28f2a6363774853a83a0b21b9421a", "38879255a25d3c92d5e44e04ae6cec6f")),
    "b6": _Scale(1.8, 2.6, 528, 0.5, ("165f6e37dce68623721b423839de8be5", "9ecce42647a20130c1f39a5d4cb75743")),
    "b7": _Scale(2.0, 3.1, 600, 0.5, ("8c03f828fec3ef71311cd463b6759d99", "cbcfe4450ddf6f3ad90b1b398090fe4a")),
}


def _variant(key: str) -> Callable[..., Functional]:
    """Returns the function that makes a variant; they differ in numbers alone."""
    scale = SCALES[key]

    def make(
        include_top: bool = True,
        weights: Any = "imagenet",
        input_tensor: Any = None,
        input_shape: Any = None,
        pooling: str | None = None,
        classes: int = 1000,
        classifier_activation: Any = "softmax",
        name: str | None = f"efficientnet{key}",
    ) -> Functional:
        arguments = Arguments(
            include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name
        )
        image = arguments.image(scale.image_size, min_size=32)
        x = _features(image, scale, arguments.is_published)
        x = _mbconv.finish(x, arguments, scale.dropout)
        suffix, digest = (".h5", scale.digests[0]) if include_top else ("_notop.h5", scale.digests[1])
        return arguments.model(image, x, WeightsFile(f"efficientnet{key}{suffix}", digest, origin=ORIGIN))

    make.__name__ = make.__qualname__ = f"EfficientNet{key.upper()}"
    make.__doc__ = f"""Makes {make.__name__}, for images of {scale.image_size} x {scale.image_size}, at least 32 x 32, with
    values from 0 to 255.

    Source: Tan & Le 2019, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks,
        https://arxiv.org/abs/1905.11946.
    """
    return architecture(make)


EfficientNetB0 = _variant("b0")
EfficientNetB1 = _variant("b1")
EfficientNetB2 = _variant("b2")
EfficientNetB3 = _variant("b3")
EfficientNetB4 = _variant("b4")
EfficientNetB5 = _variant("b5")
EfficientNetB6 = _variant("b6")
EfficientNetB7 = _variant("b7")


def _features(x: SymbolicTensor, scale: _Scale, is_published: bool) -> SymbolicTensor:
    x = layers.Rescaling(1 / 255)(x)
    x = layers.Normalization(axis=channel_axis() % 4)(x)
    if is_published:
        # By Keras' account, the files hold standard deviations in place of variances. Normalization divides by the roots
        # of what they hold, so it takes the other roots to divide by the deviations.
        x = layers.Rescaling([1 / math.sqrt(deviation) for deviation in DEVIATIONS])(x)
    x = layers.ZeroPadding2D(pads_before_stride(x, 3), name="stem_conv_pad")(x)
    x = _mbconv.convolve(x, _scaled(STEM_FILTERS, scale), 3, "stem_conv", strides=2, padding="valid")
    x = _mbconv.activate(_mbconv.normalize(x, "stem_bn", MOMENTUM), "stem_activation")
    for block in _blocks(scale):
        x = _apply(x, block)
    x = _mbconv.convolve(x, _scaled(TOP_FILTERS, scale), 1, "top_conv")
    return _mbconv.activate(_mbconv.normalize(x, "top_bn", MOMENTUM), "top_activation")


def _scaled(filters: int, scale: _Scale) -> int:
    """Returns the number of channels of a wider network."""
    return divisible(filters * scale.width)


def _blocks(scale: _Scale) -> Iterator[Block]:
    """Yields all blocks in their order."""
    repeats = [math.ceil(scale.depth * stage.repeats) for stage in STAGES]
    filters_in, count = _scaled(STEM_FILTERS, scale), 0
    for number, stage in enumerate(STAGES):
        for letter in ascii_lowercase[: repeats[number]]:
            block = Block(
                name=f"block{number + 1}{letter}_",
                filters_in=filters_in,
                filters=_scaled(stage.filters, scale),
                expansion=stage.expansion,
                kernel=stage.kernel,
                strides=stage.strides if letter == "a" else 1,
                squeeze=0.25,
                drop_rate=DROP_RATE * count / sum(repeats),
                momentum=MOMENTUM,
            )
            yield block
            filters_in, count = block.filters, count + 1


def _apply(inputs: SymbolicTensor, block: Block) -> SymbolicTensor:
    """Returns the output of a block."""
    x, padding = _mbconv.expand(inputs, block), "same"
    if block.strides == 2:
        x = layers.ZeroPadding2D(pads_before_stride(x, block.kernel), name=f"{block.name}dwconv_pad")(x)
        padding = "valid"
    x = _mbconv.convolve_depthwise(x, block, f"{block.name}dwconv", padding)
    x = _mbconv.project(_mbconv.squeeze_and_excite(x, block), block)
    return _mbconv.add_shortcut(x, inputs, block)


def preprocess_input(x: Any, data_format: str | None = None) -> Any:  # noqa: ARG001
    """Returns its input: the preprocessing is part of the network."""
    return x
