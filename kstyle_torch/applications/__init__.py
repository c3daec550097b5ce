"""Architectures for images, with weights that were trained on ImageNet."""

import sys

from kstyle_torch import namespaces
from kstyle_torch.applications import (
    imagenet_utils,
    mobilenet,
    mobilenet_v2,
    mobilenet_v3,
    resnet,
    resnet50,
    resnet_v2,
    vgg16,
    vgg19,
    xception,
)
from kstyle_torch.applications.mobilenet import MobileNet
from kstyle_torch.applications.mobilenet_v2 import MobileNetV2
from kstyle_torch.applications.mobilenet_v3 import MobileNetV3Large, MobileNetV3Small
from kstyle_torch.applications.resnet import ResNet50, ResNet101, ResNet152
from kstyle_torch.applications.resnet_v2 import ResNet50V2, ResNet101V2, ResNet152V2
from kstyle_torch.applications.vgg16 import VGG16
from kstyle_torch.applications.vgg19 import VGG19
from kstyle_torch.applications.xception import Xception

__all__ = [
    "VGG16",
    "VGG19",
    "MobileNet",
    "MobileNetV2",
    "MobileNetV3Large",
    "MobileNetV3Small",
    "ResNet50",
    "ResNet50V2",
    "ResNet101",
    "ResNet101V2",
    "ResNet152",
    "ResNet152V2",
    "Xception",
    "imagenet_utils",
    "mobilenet",
    "mobilenet_v2",
    "mobilenet_v3",
    "resnet",
    "resnet50",
    "resnet_v2",
    "vgg16",
    "vgg19",
    "xception",
]

namespaces.install(sys.modules[__name__])
