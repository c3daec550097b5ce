"""The layers of both kinds of residual networks: their blocks differ, all else is the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kstyle_torch import layers
from kstyle_torch.applications._arguments import Arguments
from kstyle_torch.applications._shapes import channel_axis
from kstyle_torch.applications._weights_file import WeightsFile, pair
from kstyle_torch.models.functional import Functional
from kstyle_torch.symbolic.tensor import SymbolicTensor

FILTERS = (64, 128, 256, 512)  # of each stage; its blocks give four times as many
EPSILON = 1.001e-5


def files(name: str, top: str, no_top: str) -> dict[bool, WeightsFile]:
    """Returns the published files by `include_top`, from the digests of both."""
    return pair(f"resnet/{name}_weights_tf_dim_ordering_tf_kernels", top, no_top)


def resnet(arguments: Arguments, depths: Sequence[int], file: WeightsFile) -> Functional:
    """Returns a network whose blocks end with the sum (He et al. 2015).

    Args:
        arguments: Those of the architecture.
        depths: Number of blocks in each stage.
        file: Its published weights.
    """
    image = arguments.image(default_size=224, min_size=32)
    x = _pooled_stem(_active(_convolved(_padded(image, 3, "conv1_pad"), 64, 7, "conv1", strides=2), "conv1"))
    for stage, (filters, depth) in enumerate(zip(FILTERS, depths), 2):
        for number in range(1, depth + 1):
            strides = 2 if number == 1 and stage > 2 else 1
            x = _block(x, filters, strides, f"conv{stage}_block{number}", projects=number == 1)
    return _ended(arguments, image, x, file)


def resnet_v2(arguments: Arguments, depths: Sequence[int], file: WeightsFile) -> Functional:
    """Returns a network whose blocks begin with normalization, so that sums pass unchanged (He et al. 2016).

    Here the last block of a stage has the stride, and the network ends with what the blocks begin with. The arguments are
    those of `resnet`.
    """
    image = arguments.image(default_size=224, min_size=32)
    x = _pooled_stem(layers.Conv2D(64, 7, strides=2, name="conv1_conv")(_padded(image, 3, "conv1_pad")))
    for stage, (filters, depth) in enumerate(zip(FILTERS, depths), 2):
        for number in range(1, depth + 1):
            strides = 2 if number == depth and stage < 5 else 1
            x = _block_v2(x, filters, strides, f"conv{stage}_block{number}", projects=number == 1)
    return _ended(arguments, image, _active(_normalized(x, "post"), "post"), file)


def _block(x: SymbolicTensor, filters: int, strides: int, name: str, projects: bool) -> SymbolicTensor:
    shortcut = _convolved(x, 4 * filters, 1, f"{name}_0", strides=strides) if projects else x
    x = _active(_convolved(x, filters, 1, f"{name}_1", strides=strides), f"{name}_1")
    x = _active(_convolved(x, filters, 3, f"{name}_2", padding="same"), f"{name}_2")
    x = _convolved(x, 4 * filters, 1, f"{name}_3")
    x = layers.Add(name=f"{name}_add")([shortcut, x])
    return layers.Activation("relu", name=f"{name}_out")(x)


def _block_v2(x: SymbolicTensor, filters: int, strides: int, name: str, projects: bool) -> SymbolicTensor:
    active = _active(_normalized(x, f"{name}_preact"), f"{name}_preact")
    if projects:
        shortcut = layers.Conv2D(4 * filters, 1, strides=strides, name=f"{name}_0_conv")(active)
    else:
        shortcut = layers.MaxPooling2D(1, strides=strides)(x) if strides > 1 else x
    x = _active(_convolved(active, filters, 1, f"{name}_1", use_bias=False), f"{name}_1")
    x = _convolved(_padded(x, 1, f"{name}_2_pad"), filters, 3, f"{name}_2", strides=strides, use_bias=False)
    x = layers.Conv2D(4 * filters, 1, name=f"{name}_3_conv")(_active(x, f"{name}_2"))
    return layers.Add(name=f"{name}_out")([shortcut, x])


def _padded(x: SymbolicTensor, size: int, name: str) -> SymbolicTensor:
    return layers.ZeroPadding2D(size, name=name)(x)


def _convolved(x: SymbolicTensor, filters: int, size: int, name: str, **options: Any) -> SymbolicTensor:
    """Returns a convolution of `x`, normalized."""
    return _normalized(layers.Conv2D(filters, size, name=f"{name}_conv", **options)(x), name)


def _normalized(x: SymbolicTensor, name: str) -> SymbolicTensor:
    return layers.BatchNormalization(axis=channel_axis() % 4, epsilon=EPSILON, name=f"{name}_bn")(x)


def _active(x: SymbolicTensor, name: str) -> SymbolicTensor:
    return layers.Activation("relu", name=f"{name}_relu")(x)


def _pooled_stem(x: SymbolicTensor) -> SymbolicTensor:
    return layers.MaxPooling2D(3, strides=2, name="pool1_pool")(_padded(x, 1, "pool1_pad"))


def _ended(arguments: Arguments, image: SymbolicTensor, x: SymbolicTensor, file: WeightsFile) -> Functional:
    if arguments.include_top:
        x = arguments.predictions(layers.GlobalAveragePooling2D(name="avg_pool")(x))
    else:
        x = arguments.pooled(x, "avg_pool", "max_pool")
    return arguments.model(image, x, file)
