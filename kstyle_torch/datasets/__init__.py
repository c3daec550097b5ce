"""Keras' data sets, downloaded once into Keras' cache (`$KERAS_HOME` or `~/.keras`) and read from there."""

import sys

from kstyle_torch import namespaces
from kstyle_torch.datasets import (
    boston_housing,
    california_housing,
    cifar10,
    cifar100,
    fashion_mnist,
    imdb,
    mnist,
    reuters,
)

__all__ = [
    "boston_housing",
    "california_housing",
    "cifar10",
    "cifar100",
    "fashion_mnist",
    "imdb",
    "mnist",
    "reuters",
]

namespaces.install(sys.modules[__name__])
