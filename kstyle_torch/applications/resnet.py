"""ResNet50, ResNet101 and ResNet152."""

from __future__ import annotations

from typing import Any

from kstyle_torch.applications import imagenet_utils
from kstyle_torch.applications._arguments import Arguments, architecture
from kstyle_torch.applications._resnet import files, resnet
from kstyle_torch.applications.imagenet_utils import decode_predictions
from kstyle_torch.models.functional import Functional

__all__ = ["ResNet50", "ResNet101", "ResNet152", "decode_predictions", "preprocess_input"]

DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
FILES = {
    50: files("resnet50", "2cb95161c43110f7111970584f804107", "4d473c1dd8becc155b73f8504c6f6626"),
    101: files("resnet101", "f1aeb4b969a6efcfb50fad2f0c20cfc5", "88cf7a10940856eca736dc7b7e228a21"),
    152: files("resnet152", "100835be76be38e30d865e96f2aaae62", "ee4c566cf9a93f14d82f913c2dc6dd0c"),
}


@architecture
def ResNet50(  # noqa: N802, a class to its callers
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: Any = None,
    input_shape: Any = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = "resnet50",
) -> Functional:
    """Makes ResNet50, for images of 224 x 224, at least 32 x 32, that went through `resnet.preprocess_input`.

    Source: He et al. 2015, Deep Residual Learning for Image Recognition.
    """
    arguments = Arguments(
        include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name
    )
    return resnet(arguments, DEPTHS[50], FILES[50][bool(include_top)])


@architecture
def ResNet101(  # noqa: N802, a class to its callers
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: Any = None,
    input_shape: Any = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = "resnet101",
) -> Functional:
    """Makes ResNet101, for images of 224 x 224, at least 32 x 32, that went through `resnet.preprocess_input`.

    Source: He et al. 2015, Deep Residual Learning for Image Recognition.
    """
    arguments = Arguments(
        include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name
    )
    return resnet(arguments, DEPTHS[101], FILES[101][bool(include_top)])


@architecture
def ResNet152(  # noqa: N802, a class to its callers
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: Any = None,
    input_shape: Any = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = "resnet152",
) -> Functional:
    """Makes ResNet152, for images of 224 x 224, at least 32 x 32, that went through `resnet.preprocess_input`.

    Source: He et al. 2015, Deep Residual Learning for Image Recognition.
    """
    arguments = Arguments(
        include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name
    )
    return resnet(arguments, DEPTHS[152], FILES[152][bool(include_top)])


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """Returns images in BGR, less ImageNet's mean of each channel; see `imagenet_utils.preprocess_input`."""
    return imagenet_utils.preprocess_input(x, data_format, "caffe")
