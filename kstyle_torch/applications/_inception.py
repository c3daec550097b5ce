"""Parts that InceptionV3 and InceptionResNetV2 share: convolutions, branches that are joined, and the stem.

Source: Szegedy et al. 2016, https://arxiv.org/abs/1512.00567
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from kstyle_torch import layers
from kstyle_torch.applications._shapes import channel_axis
from kstyle_torch.symbolic.tensor import SymbolicTensor


class Conv(NamedTuple):
    """A convolution without bias, its normalization and ReLU."""

    filters: int
    kernel: int | tuple[int, int] = 1
    strides: int = 1
    padding: str = "same"


class Pool(NamedTuple):
    """A pooling of 3 x 3 windows."""

    layer: type
    strides: int
    padding: str


class Fork(NamedTuple):
    """Branches that leave a branch and are joined before it ends."""

    branches: Sequence[Sequence[Any]]
    name: str | None = None


Branch = Sequence[Conv | Pool | Fork]  # one after the other

AVERAGE = Pool(layers.AveragePooling2D, 1, "same")
MAX = Pool(layers.MaxPooling2D, 2, "valid")
STEM: Branch = (
    Conv(32, 3, 2, "valid"),
    Conv(32, 3, padding="valid"),
    Conv(64, 3),
    MAX,
    Conv(80, padding="valid"),
    Conv(192, 3, padding="valid"),
    MAX,
)


def halve(filters: int) -> Conv:
    """Returns a convolution that halves the resolution."""
    return Conv(filters, 3, 2, "valid")


def follow(x: SymbolicTensor, branch: Branch) -> SymbolicTensor:
    """Returns what a branch makes of `x`; its layers get automatic names."""
    for step in branch:
        if isinstance(step, Conv):
            x = convolve(x, step)
        elif isinstance(step, Pool):
            x = step.layer(3, strides=step.strides, padding=step.padding)(x)
        else:
            x = join(x, step.branches, step.name)
    return x


def join(x: SymbolicTensor, branches: Sequence[Branch], name: str | None = None) -> SymbolicTensor:
    """Returns the channels that all the branches make of `x`, one after the other."""
    return layers.Concatenate(axis=channel_axis() % 4, name=name)([follow(x, branch) for branch in branches])


def convolve(x: SymbolicTensor, conv: Conv, name: str | None = None) -> SymbolicTensor:
    """Returns what a convolution, its normalization and ReLU make of `x`.

    Args:
        name: Name of the convolution, with which those of the other two begin; automatic names if None.
    """
    norm, activation = (None if name is None else f"{name}_{suffix}" for suffix in ("bn", "ac"))
    x = layers.Conv2D(conv.filters, conv.kernel, conv.strides, conv.padding, use_bias=False, name=name)(x)
    x = layers.BatchNormalization(axis=channel_axis() % 4, scale=False, name=norm)(x)
    return layers.Activation("relu", name=activation)(x)
