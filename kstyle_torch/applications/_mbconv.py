"""Parts of the blocks of EfficientNet and EfficientNetV2: inverted bottlenecks with squeeze and excitation.

Source: Tan and Le 2019, https://arxiv.org/abs/1905.11946; Hu et al. 2018, https://arxiv.org/abs/1709.01507
"""

from __future__ import annotations

from typing import NamedTuple

from kstyle_torch import layers
from kstyle_torch.applications._arguments import Arguments
from kstyle_torch.applications._shapes import channel_axis
from kstyle_torch.initializers import VarianceScaling
from kstyle_torch.symbolic.tensor import SymbolicTensor


class Block(NamedTuple):
    """One block: the names of its layers begin with `name`."""

    name: str
    filters_in: int
    filters: int
    expansion: int
    kernel: int
    strides: int
    squeeze: float  # channels of the squeeze, as a part of `filters_in`; 0 for none
    drop_rate: float
    momentum: float  # of the normalizations

    @property
    def inner_filters(self) -> int:
        """The channels between expansion and projection."""
        return self.filters_in * self.expansion


def kernel_initializer() -> VarianceScaling:
    """Returns the initializer of all convolutions."""
    return VarianceScaling(2.0, "fan_out", "truncated_normal")


def convolve(
    x: SymbolicTensor, filters: int, kernel: int, name: str, *, strides: int = 1, padding: str = "same"
) -> SymbolicTensor:
    """Returns a convolution of `x` without bias."""
    return layers.Conv2D(
        filters,
        kernel,
        strides=strides,
        padding=padding,
        use_bias=False,
        kernel_initializer=kernel_initializer(),
        name=name,
    )(x)


def normalize(x: SymbolicTensor, name: str, momentum: float) -> SymbolicTensor:
    """Returns `x` with its channels normalized."""
    return layers.BatchNormalization(axis=channel_axis() % 4, momentum=momentum, name=name)(x)


def activate(x: SymbolicTensor, name: str) -> SymbolicTensor:
    """Returns the activation of `x`."""
    return layers.Activation("swish", name=name)(x)


def expand(x: SymbolicTensor, block: Block, kernel: int = 1, strides: int = 1) -> SymbolicTensor:
    """Returns `x` with the inner channels of a block; `x` itself where they are as many."""
    if block.expansion == 1:
        return x
    x = convolve(x, block.inner_filters, kernel, f"{block.name}expand_conv", strides=strides)
    return activate(normalize(x, f"{block.name}expand_bn", block.momentum), f"{block.name}expand_activation")


def convolve_depthwise(x: SymbolicTensor, block: Block, name: str, padding: str = "same") -> SymbolicTensor:
    """Returns a convolution of each channel of `x`, normalized and activated."""
    x = layers.DepthwiseConv2D(
        block.kernel,
        strides=block.strides,
        padding=padding,
        use_bias=False,
        depthwise_initializer=kernel_initializer(),
        name=name,
    )(x)
    return activate(normalize(x, f"{block.name}bn", block.momentum), f"{block.name}activation")


def squeeze_and_excite(x: SymbolicTensor, block: Block) -> SymbolicTensor:
    """Returns `x` with each channel scaled by a factor that all of the image decides."""
    if not block.squeeze:
        return x
    name, channels = block.name, block.inner_filters
    scale = layers.GlobalAveragePooling2D(name=f"{name}se_squeeze")(x)
    shape = (channels, 1, 1) if channel_axis() == 1 else (1, 1, channels)
    scale = layers.Reshape(shape, name=f"{name}se_reshape")(scale)
    steps = (("reduce", max(1, int(block.filters_in * block.squeeze)), "swish"), ("expand", channels, "sigmoid"))
    for step, filters, activation in steps:
        scale = layers.Conv2D(
            filters,
            1,
            padding="same",
            activation=activation,
            kernel_initializer=kernel_initializer(),
            name=f"{name}se_{step}",
        )(scale)
    return layers.Multiply(name=f"{name}se_excite")([x, scale])


def project(x: SymbolicTensor, block: Block, kernel: int = 1, strides: int = 1) -> SymbolicTensor:
    """Returns `x` with the outer channels of a block, normalized."""
    x = convolve(x, block.filters, kernel, f"{block.name}project_conv", strides=strides)
    return normalize(x, f"{block.name}project_bn", block.momentum)


def add_shortcut(x: SymbolicTensor, inputs: SymbolicTensor, block: Block) -> SymbolicTensor:
    """Returns the sum of a block's output and its input, if they are alike; in training, some samples skip the block."""
    if block.strides != 1 or block.filters_in != block.filters:
        return x
    if block.drop_rate:
        x = layers.Dropout(block.drop_rate, noise_shape=(None, 1, 1, 1), name=f"{block.name}drop")(x)
    return layers.Add(name=f"{block.name}add")([x, inputs])


def finish(x: SymbolicTensor, arguments: Arguments, dropout: float) -> SymbolicTensor:
    """Returns the scores of the classes, or pooled features, as the arguments say."""
    if not arguments.include_top:
        return arguments.pooled(x, "avg_pool", "max_pool")
    x = layers.Dropout(dropout, name="top_dropout")(layers.GlobalAveragePooling2D(name="avg_pool")(x))
    return layers.Dense(
        arguments.classes,
        activation=arguments.classifier_activation,
        kernel_initializer=VarianceScaling(1 / 3, "fan_out", "uniform"),
        name="predictions",
    )(x)
