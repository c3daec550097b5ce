"""InceptionV3: blocks of parallel branches with convolutions of several sizes, many of them factorized."""

from __future__ import annotations

from typing import Any

from kstyle_torch import layers
from kstyle_torch.applications import imagenet_utils
from kstyle_torch.applications._arguments import Arguments, architecture
from kstyle_torch.applications._inception import AVERAGE, MAX, STEM, Branch, Conv, Fork, follow, halve, join
from kstyle_torch.applications._weights_file import pair
from kstyle_torch.applications.imagenet_utils import decode_predictions
from kstyle_torch.models.functional import Functional

__all__ = ["InceptionV3", "decode_predictions", "preprocess_input"]

FILES = pair(
    "inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels",
    "9a0d58056eeedaa3f26cb7ebd46da564",
    "bcbd6486424b2319ff4ef7d526e38f63",
)
ROW, COLUMN = (1, 7), (7, 1)  # one after the other as wide as 7 x 7, with fewer products


def _block_35(pooled: int) -> list[Branch]:
    """Returns the branches of a block at the resolution 35 x 35.

    Args:
        pooled: Channels of the branch that pools.
    """
    return [
        [Conv(64)],
        [Conv(48), Conv(64, 5)],
        [Conv(64), Conv(96, 3), Conv(96, 3)],
        [AVERAGE, Conv(pooled)],
    ]


def _block_17(inner: int) -> list[Branch]:
    """Returns the branches of a block at the resolution 17 x 17.

    Args:
        inner: Channels between the convolutions of a branch.
    """
    return [
        [Conv(192)],
        [Conv(inner), Conv(inner, ROW), Conv(192, COLUMN)],
        [Conv(inner), Conv(inner, COLUMN), Conv(inner, ROW), Conv(inner, COLUMN), Conv(192, ROW)],
        [AVERAGE, Conv(192)],
    ]


def _block_8(fork_name: str) -> list[Branch]:
    """Returns the branches of a block at the resolution 8 x 8, two of which fork."""
    fork = ([Conv(384, (1, 3))], [Conv(384, (3, 1))])
    return [
        [Conv(320)],
        [Conv(384), Fork(fork, fork_name)],
        [Conv(448), Conv(384, 3), Fork(fork)],
        [AVERAGE, Conv(192)],
    ]


BLOCKS: list[list[Branch]] = [  # mixed0, mixed1, ...
    _block_35(32),
    _block_35(64),
    _block_35(64),
    [[halve(384)], [Conv(64), Conv(96, 3), halve(96)], [MAX]],
    _block_17(128),
    _block_17(160),
    _block_17(160),
    _block_17(192),
    [[Conv(192), halve(320)], [Conv(192), Conv(192, ROW), Conv(192, COLUMN), halve(192)], [MAX]],
    _block_8("mixed9_0"),
    _block_8("mixed9_1"),
]


@architecture
def InceptionV3(  # noqa: N802, a class to its callers
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: Any = None,
    input_shape: Any = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = "inception_v3",
) -> Functional:
    """Makes InceptionV3, for images of 299 x 299, at least 75 x 75, that went through `inception_v3.preprocess_input`.

    Source: Szegedy et al. 2016, Rethinking the Inception Architecture for Computer Vision,
        https://arxiv.org/abs/1512.00567.
    """
    arguments = Arguments(
        include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name
    )
    image = arguments.image(default_size=299, min_size=75)
    x = follow(image, STEM)
    for number, branches in enumerate(BLOCKS):
        x = join(x, branches, f"mixed{number}")
    if include_top:
        x = arguments.predictions(layers.GlobalAveragePooling2D(name="avg_pool")(x))
    else:
        x = arguments.pooled(x)
    return arguments.model(image, x, FILES[bool(include_top)])


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """Returns images scaled to -1 to 1."""
    return imagenet_utils.preprocess_input(x, data_format, "tf")
