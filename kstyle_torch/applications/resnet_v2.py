"""ResNet50V2, ResNet101V2 and ResNet152V2."""

from __future__ import annotations

from typing import Any

from kstyle_torch.applications import imagenet_utils
from kstyle_torch.applications._arguments import Arguments, architecture
from kstyle_torch.applications._resnet import files, resnet_v2
from kstyle_torch.applications.imagenet_utils import decode_predictions
from kstyle_torch.models.functional import Functional

__all__ = ["ResNet50V2", "ResNet101V2", "ResNet152V2", "decode_predictions", "preprocess_input"]

DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
FILES = {
    50: files("resnet50v2", "3ef43a0b657b3be2300d5770ece849e0", "fac2f116257151a9d068a22e544a4917"),
    101: files("resnet101v2", "6343647c601c52e1368623803854d971", "c0ed64b8031c3730f411d2eb4eea35b5"),
    152: files("resnet152v2", "a49b44d1979771252814e80f8ec446f9", "ed17cf2e0169df9d443503ef94b23b33"),
}


@architecture
def ResNet50V2(  # noqa: N802, a class to its callers
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: Any = None,
    input_shape: Any = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = "resnet50v2",
) -> Functional:
    """Makes ResNet50V2, for images of 224 x 224, at least 32 x 32, that went through `resnet_v2.preprocess_input`.

    Source: He et al. 2016, Identity Mappings in Deep Residual Networks.
    """
    arguments = Arguments(
        include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name
    )
    return resnet_v2(arguments, DEPTHS[50], FILES[50][bool(include_top)])


@architecture
def ResNet101V2(  # noqa: N802, a class to its callers
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: Any = None,
    input_shape: Any = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = "resnet101v2",
) -> Functional:
    """Makes ResNet101V2, for images of 224 x 224, at least 32 x 32, that went through `resnet_v2.preprocess_input`.

    Source: He et al. 2016, Identity Mappings in Deep Residual Networks.
    """
    arguments = Arguments(
        include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name
    )
    return resnet_v2(arguments, DEPTHS[101], FILES[101][bool(include_top)])


@architecture
def ResNet152V2(  # noqa: N802, a class to its callers
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: Any = None,
    input_shape: Any = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = "resnet152v2",
) -> Functional:
    """Makes ResNet152V2, for images of 224 x 224, at least 32 x 32, that went through `resnet_v2.preprocess_input`.

    Source: He et al. 2016, Identity Mappings in Deep Residual Networks.
    """
    arguments = Arguments(
        include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name
    )
    return resnet_v2(arguments, DEPTHS[152], FILES[152][bool(include_top)])


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """Returns images scaled to -1 to 1; see `imagenet_utils.preprocess_input`."""
    return imagenet_utils.preprocess_input(x, data_format, "tf")
