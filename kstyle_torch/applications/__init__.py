"""Architectures for images, with weights that were trained on ImageNet."""

import sys

from kstyle_torch import namespaces
from kstyle_torch.applications import (
    imagenet_utils,
    vgg16,
    vgg19,
)
from kstyle_torch.applications.vgg16 import VGG16
from kstyle_torch.applications.vgg19 import VGG19

__all__ = [
    "VGG16",
    "VGG19",
    "imagenet_utils",
    "vgg16",
    "vgg19",
]

namespaces.install(sys.modules[__name__])
