"""VGG19."""

from __future__ import annotations

from typing import Any

from kstyle_torch.applications import imagenet_utils
from kstyle_torch.applications._arguments import Arguments, architecture
from kstyle_torch.applications._vgg import vgg
from kstyle_torch.applications._weights_file import pair
from kstyle_torch.applications.imagenet_utils import decode_predictions
from kstyle_torch.models.functional import Functional

__all__ = ["VGG19", "decode_predictions", "preprocess_input"]

DEPTHS = (2, 2, 4, 4, 4)
FILES = pair(
    "vgg19/vgg19_weights_tf_dim_ordering_tf_kernels",
    "cbe5617147190e668d6c5d5026f83318",
    "253f8cb515780f3b799900260a226db6",
)


@architecture
def VGG19(  # noqa: N802, a class to its callers
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: Any = None,
    input_shape: Any = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = "vgg19",
) -> Functional:
    """Makes VGG19, for images of 224 x 224, at least 32 x 32, that went through `vgg19.preprocess_input`.

    Source: Simonyan & Zisserman 2014, Very Deep Convolutional Networks for Large-Scale Image Recognition.
    """
    arguments = Arguments(
        include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name
    )
    return vgg(arguments, DEPTHS, FILES[bool(include_top)])


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """Returns images in BGR, less ImageNet's mean of each channel; see `imagenet_utils.preprocess_input`."""
    return imagenet_utils.preprocess_input(x, data_format, "caffe")
