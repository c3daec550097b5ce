"""EfficientNetV2: EfficientNet with full convolutions in the first blocks, where they are faster than depthwise ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from string import ascii_lowercase
from typing import Any, NamedTuple

from kstyle_torch import layers
from kstyle_torch.applications import _mbconv
from kstyle_torch.applications._arguments import Arguments, architecture
from kstyle_torch.applications._mbconv import Block
from kstyle_torch.applications._shapes import channel_axis
from kstyle_torch.applications._weights_file import pair
from kstyle_torch.applications.imagenet_utils import DEVIATIONS, MEANS, decode_predictions
from kstyle_torch.models.functional import Functional
from kstyle_torch.symbolic.tensor import SymbolicTensor

__all__ = [
    "EfficientNetV2B0",
    "EfficientNetV2B1",
    "EfficientNetV2B2",
    "EfficientNetV2B3",
    "EfficientNetV2L",
    "EfficientNetV2M",
    "EfficientNetV2S",
    "decode_predictions",
    "preprocess_input",
]

TOP_FILTERS = 1280
DROP_RATE = 0.2  # part of the samples that skip a block in training; rises to it from 0 at the first block
DROPOUT = 0.2
MOMENTUM = 0.9


class _Stage(NamedTuple):
    """Blocks in a row, of which only the first has strides."""

    repeats: int
    filters: int
    expansion: int
    strides: int
    squeeze: float = 0.0  # as in `Block`; fused blocks, whose one convolution is a full one, have none


class _Network(NamedTuple):
    """The stages of a network, and the channels of its stem."""

    stem_filters: int
    stages: tuple[_Stage, ...]


BASE = _Network(
    32,
    (
        _Stage(1, 16, 1, 1),
        _Stage(2, 32, 4, 2),
        _Stage(2, 48, 4, 2),
        _Stage(3, 96, 4, 2, 0.25),
        _Stage(5, 112, 6, 1, 0.25),
        _Stage(8, 192, 6, 2, 0.25),
    ),
)
SMALL = _Network(
    24,
    (
        _Stage(2, 24, 1, 1),
        _Stage(4, 48, 4, 2),
        _Stage(4, 64, 4, 2),
        _Stage(6, 128, 4, 2, 0.25),
        _Stage(9, 160, 6, 1, 0.25),
        _Stage(15, 256, 6, 2, 0.25),
    ),
)
MEDIUM = _Network(
    24,
    (
        _Stage(3, 24, 1, 1),
        _Stage(5, 48, 4, 2),
        _Stage(5, 80, 4, 2),
        _Stage(7, 160, 4, 2, 0.25),
        _Stage(14, 176, 6, 1, 0.25),
        _Stage(18, 304, 6, 2, 0.25),
        _Stage(5, 512, 6, 1, 0.25),
    ),
)
LARGE = _Network(
    32,
    (
        _Stage(4, 32, 1, 1),
        _Stage(7, 64, 4, 2),
        _Stage(7, 96, 4, 2),
        _Stage(10, 192, 4, 2, 0.25),
        _Stage(19, 224, 6, 1, 0.25),
        _Stage(25, 384, 6, 2, 0.25),
        _Stage(7, 640, 6, 1, 0.25),
    ),
)


class _Variant(NamedTuple):
    """A network, and the factors by which it is wider and deeper."""

    network: _Network
    width: float
    depth: float
    image_size: int
    digests: tuple[str, str]  # of the weights with the top and without


VARIANTS = {
    "b0": _Variant(BASE, 1.0, 1.0, 224, ("21ecbf6da12460d5c40bb2f29ceb2188", "893217f2bb855e2983157299931e43ff")),
    "b1": _Variant(BASE, 1.0, 1.1, 240, ("069f0534ff22adf035c89e2d9547a9dc", "0e80663031ca32d657f9caa404b6ec37")),
    "b2": _Variant(BASE, 1.1, 1.2, 260, ("424e49f28180edbde1e94797771950a7", "1dfe2e7a5d45b6632553a8961ea609eb")),
    "b3": _Variant(BASE, 1.2, 1.4, 300, ("1f1fc43bd98a6e4fd8fdfd551e02c7a0", "f6abf7b5849ac99a89b50dd3fd532856")),
    "s": _Variant(SMALL, 1.0, 1.0, 384, ("e1d88a8495beba45748fedd0cecbe016", "af0682fb74e8c54910f2d4393339c070")),
    "m": _Variant(MEDIUM, 1.0, 1.0, 480, ("a3bf6aa3276309f4fc6a34aa114c95cd", "1b8dc055df72dde80d614482840fe342")),
    "l": _Variant(LARGE, 1.0, 1.0, 480, ("27e6d408b53c7ebc868fefa357689935", "b0b66b5c863aef5b46e8608fe1711615")),
}


def _variant(key: str) -> Callable[..., Functional]:
    """Returns the function that makes a variant; they differ in numbers alone."""
    variant = VARIANTS[key]

    def make(
        include_top: bool = True,
        weights: Any = "imagenet",
        input_tensor: Any = None,
        input_shape: Any = None,
        pooling: str | None = None,
        classes: int = 1000,
        classifier_activation: Any = "softmax",
        include_preprocessing: bool = True,
        name: str | None = f"efficientnetv2-{key}",
    ) -> Functional:
        arguments = Arguments(
            include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name
        )
        x = image = arguments.image(variant.image_size, min_size=32)
        if include_preprocessing:
            x = _preprocess(x, is_base=variant.network is BASE)
        x = _mbconv.finish(_features(x, variant), arguments, DROPOUT)
        files = pair(f"efficientnet_v2/efficientnetv2-{key}", *variant.digests)
        return arguments.model(image, x, files[bool(include_top)])

    make.__name__ = make.__qualname__ = f"EfficientNetV2{key.upper()}"
    make.__doc__ = f"""Makes {make.__name__}, for images of {variant.image_size} x {variant.image_size}, at least 32 x 32.

    Args:
        include_preprocessing: Whether the network takes values from 0 to 255, and brings them to those that it works with.

    Source: Tan & Le 2021, EfficientNetV2: Smaller Models and Faster Training, https://arxiv.org/abs/2104.00298.
    """
    return architecture(make)


EfficientNetV2B0 = _variant("b0")
EfficientNetV2B1 = _variant("b1")
EfficientNetV2B2 = _variant("b2")
EfficientNetV2B3 = _variant("b3")
EfficientNetV2S = _variant("s")
EfficientNetV2M = _variant("m")
EfficientNetV2L = _variant("l")


def _preprocess(x: SymbolicTensor, is_base: bool) -> SymbolicTensor:
    """Returns images with values around 0; those of the networks B0 to B3 as EfficientNet takes them."""
    axis = channel_axis() % 4
    if not is_base or x.shape[axis] != 3:
        return layers.Rescaling(1 / 128, offset=-1)(x)
    variances = [deviation**2 for deviation in DEVIATIONS]
    x = layers.Rescaling(1 / 255)(x)
    return layers.Normalization(mean=[*MEANS["torch"]], variance=variances, axis=axis)(x)


def _features(x: SymbolicTensor, variant: _Variant) -> SymbolicTensor:
    x = _mbconv.convolve(x, _scaled(variant.network.stem_filters, variant), 3, "stem_conv", strides=2)
    x = _mbconv.activate(_mbconv.normalize(x, "stem_bn", MOMENTUM), "stem_activation")
    for block in _blocks(variant):
        x = _apply(x, block) if block.squeeze else _apply_fused(x, block)
    x = _mbconv.convolve(x, _scaled(TOP_FILTERS, variant), 1, "top_conv")
    return _mbconv.activate(_mbconv.normalize(x, "top_bn", MOMENTUM), "top_activation")


def _scaled(filters: int, variant: _Variant) -> int:
    """Returns the multiple of 8 next to a number of channels."""
    return max(8, int(filters * variant.width + 4) // 8 * 8)


def _blocks(variant: _Variant) -> Iterator[Block]:
    """Yields all blocks in their order."""
    stages = variant.network.stages
    unscaled = sum(
        stage.repeats for stage in stages
    )  # as in Keras: the rate rises beyond DROP_RATE in the deeper networks
    filters_in, count = _scaled(variant.network.stem_filters, variant), 0
    for number, stage in enumerate(stages, start=1):
        for letter in ascii_lowercase[: math.ceil(variant.depth * stage.repeats)]:
            block = Block(
                name=f"block{number}{letter}_",
                filters_in=filters_in,
                filters=_scaled(stage.filters, variant),
                expansion=stage.expansion,
                kernel=3,
                strides=stage.strides if letter == "a" else 1,
                squeeze=stage.squeeze,
                drop_rate=DROP_RATE * count / unscaled,
                momentum=MOMENTUM,
            )
            yield block
            filters_in, count = block.filters, count + 1


def _apply(inputs: SymbolicTensor, block: Block) -> SymbolicTensor:
    """Returns the output of a block with a depthwise convolution."""
    x = _mbconv.convolve_depthwise(_mbconv.expand(inputs, block), block, f"{block.name}dwconv2")
    x = _mbconv.project(_mbconv.squeeze_and_excite(x, block), block)
    return _mbconv.add_shortcut(x, inputs, block)


def _apply_fused(inputs: SymbolicTensor, block: Block) -> SymbolicTensor:
    """Returns the output of a block with a full convolution, which expands the channels where that is to be done."""
    if block.expansion == 1:
        x = _mbconv.project(inputs, block, block.kernel, block.strides)
        x = _mbconv.activate(x, f"{block.name}project_activation")
    else:
        x = _mbconv.project(_mbconv.expand(inputs, block, block.kernel, block.strides), block)
    return _mbconv.add_shortcut(x, inputs, block)


def preprocess_input(x: Any, data_format: str | None = None) -> Any:  # noqa: ARG001
    """Returns its input: the preprocessing is part of the network."""
    return x
