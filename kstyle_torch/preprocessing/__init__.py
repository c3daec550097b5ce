"""Preprocessing of images, sequences and texts, as in older Keras programs."""

import sys

from kstyle_torch import namespaces
from kstyle_torch.preprocessing import image, sequence, text
from kstyle_torch.utils.folders import image_dataset_from_directory, text_dataset_from_directory
from kstyle_torch.utils.timeseries import timeseries_dataset_from_array

__all__ = [
    "image",
    "image_dataset_from_directory",
    "sequence",
    "text",
    "text_dataset_from_directory",
    "timeseries_dataset_from_array",
]

namespaces.install(sys.modules[__name__])
