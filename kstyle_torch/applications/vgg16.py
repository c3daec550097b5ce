"""VGG16."""

from __future__ import annotations

from typing import Any

from kstyle_torch.applications import imagenet_utils
from kstyle_torch.applications._arguments import Arguments, architecture
from kstyle_torch.applications._vgg import vgg
from kstyle_torch.applications._weights_file import pair
from kstyle_torch.applications.imagenet_utils import decode_predictions
from kstyle_torch.models.functional import Functional

__all__ = ["VGG16", "decode_predictions", "preprocess_input"]

DEPTHS = (2, 2, 3, 3, 3)
FILES = pair(
    "vgg16/vgg16_weights_tf_dim_ordering_tf_kernels",
    "64373286793e3c8b2b4e3219cbf3544b",
    "6d6bbae143d832006294945121d1f1fc",
)


@architecture
def VGG16(  # noqa: N802, a class to its callers
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: Any = None,
    input_shape: Any = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = "vgg16",
) -> Functional:
    """Makes VGG16, for images of 224 x 224, at least 32 x 32, that went through `vgg16.preprocess_input`.

    Source: Simonyan & Zisserman 2014, Very Deep Convolutional Networks for Large-Scale Image Recognition.
    """
    arguments = Arguments(
        include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name
    )
    return vgg(arguments, DEPTHS, FILES[bool(include_top)])


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """Returns images in BGR, less ImageNet's mean of each channel; see `imagenet_utils.preprocess_input`."""
    return imagenet_utils.preprocess_input(x, data_format, "caffe")
