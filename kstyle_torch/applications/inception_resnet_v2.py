"""InceptionResNetV2: Inception blocks that add a small part of their output to their input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from kstyle_torch import layers, serialization
from kstyle_torch.applications import imagenet_utils
from kstyle_torch.applications._arguments import Arguments, architecture
from kstyle_torch.applications._inception import AVERAGE, MAX, STEM, Branch, Conv, convolve, follow, halve, join
from kstyle_torch.applications._weights_file import pair
from kstyle_torch.applications.imagenet_utils import decode_predictions
from kstyle_torch.layers import Layer
from kstyle_torch.models.functional import Functional
from kstyle_torch.symbolic.tensor import SymbolicTensor

__all__ = ["InceptionResNetV2", "decode_predictions", "preprocess_input"]

FILES = pair(
    "inception_resnet_v2/inception_resnet_v2_weights_tf_dim_ordering_tf_kernels",
    "e693bd0210a403b3192acc6073ad2e96",
    "d19885ff4a710c122648d3b5c3b684e4",
)


class _Stage(NamedTuple):
    """A block that changes resolution and channels, and the residual blocks after it."""

    entry_name: str
    entry: list[Branch]
    channels: int
    block_name: str
    block: list[Branch]
    repeats: int
    scale: float  # of what a residual block adds


STAGES = (
    _Stage(
        "mixed_5b",
        [[Conv(96)], [Conv(48), Conv(64, 5)], [Conv(64), Conv(96, 3), Conv(96, 3)], [AVERAGE, Conv(64)]],
        320,
        "block35",
        [[Conv(32)], [Conv(32), Conv(32, 3)], [Conv(32), Conv(48, 3), Conv(64, 3)]],
        repeats=10,
        scale=0.17,
    ),
    _Stage(
        "mixed_6a",
        [[halve(384)], [Conv(256), Conv(256, 3), halve(384)], [MAX]],
        1088,
        "block17",
        [[Conv(192)], [Conv(128), Conv(160, (1, 7)), Conv(192, (7, 1))]],
        repeats=20,
        scale=0.1,
    ),
    _Stage(
        "mixed_7a",
        [[Conv(256), halve(384)], [Conv(256), halve(288)], [Conv(256), Conv(288, 3), halve(320)], [MAX]],
        2080,
        "block8",
        [[Conv(192)], [Conv(192), Conv(224, (1, 3)), Conv(256, (3, 1))]],
        repeats=10,
        scale=0.2,
    ),
)

own_layers = serialization.registry("layer of InceptionResNetV2", "keras.src.applications.inception_resnet_v2")


@own_layers.register()
class CustomScaleLayer(Layer):
    """The first of two tensors, plus the second times a number.

    Args:
        scale: The number.
    """

    def __init__(self, scale: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.scale = scale

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        return inputs[0] + inputs[1] * self.scale


@architecture
def InceptionResNetV2(  # noqa: N802, a class to its callers
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: Any = None,
    input_shape: Any = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = "inception_resnet_v2",
) -> Functional:
    """Makes InceptionResNetV2, for images of 299 x 299, at least 75 x 75.

    They go through `inception_resnet_v2.preprocess_input` first.

    Source: Szegedy et al. 2017, Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning,
        https://arxiv.org/abs/1602.07261.
    """
    arguments = Arguments(
        include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name
    )
    image = arguments.image(default_size=299, min_size=75)
    x = follow(image, STEM)
    for stage in STAGES:
        x = join(x, stage.entry, stage.entry_name)
        for number in range(1, stage.repeats + 1):
            is_last = stage is STAGES[-1] and number == stage.repeats
            x = _residual_block(x, stage, f"{stage.block_name}_{number}", is_last)
    x = convolve(x, Conv(1536), "conv_7b")
    if include_top:
        x = arguments.predictions(layers.GlobalAveragePooling2D(name="avg_pool")(x))
    else:
        x = arguments.pooled(x)
    return arguments.model(image, x, FILES[bool(include_top)])


def _residual_block(x: SymbolicTensor, stage: _Stage, name: str, is_last: bool) -> SymbolicTensor:
    """Returns `x` plus a part of what the branches make of it; the last block adds all of it, and has no ReLU."""
    mixed = join(x, stage.block, f"{name}_mixed")
    change = layers.Conv2D(stage.channels, 1, padding="same", name=f"{name}_conv")(mixed)
    x = CustomScaleLayer(1.0 if is_last else stage.scale)([x, change])
    return x if is_last else layers.Activation("relu", name=f"{name}_ac")(x)


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """Returns images scaled to -1 to 1."""
    return imagenet_utils.preprocess_input(x, data_format, "tf")
