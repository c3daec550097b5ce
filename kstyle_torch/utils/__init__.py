"""Tools around models: conversions, seeds, and objects to and from configs."""

import sys
from typing import TYPE_CHECKING

from kstyle_torch import namespaces
from kstyle_torch.data.py_dataset import PyDataset
from kstyle_torch.data.split import pack_x_y_sample_weight, unpack_x_y_sample_weight
from kstyle_torch.serialization import (
    CustomObjectScope,
    custom_object_scope,
    deserialize_keras_object,
    get_custom_objects,
    get_registered_name,
    get_registered_object,
    register_keras_serializable,
    serialize_keras_object,
)
from kstyle_torch.utils import legacy
from kstyle_torch.utils.numeric import normalize, to_categorical
from kstyle_torch.utils.seeds import clear_session, set_random_seed

if TYPE_CHECKING:
    from kstyle_torch.utils.files import get_file
    from kstyle_torch.utils.folders import image_dataset_from_directory, text_dataset_from_directory
    from kstyle_torch.utils.images import array_to_img, img_to_array, load_img, save_img
    from kstyle_torch.utils.plot import model_to_dot, model_to_mermaid, plot_model
    from kstyle_torch.utils.sequences import pad_sequences
    from kstyle_torch.utils.timeseries import timeseries_dataset_from_array

Sequence = PyDataset  # its name in older Keras

__all__ = [
    "CustomObjectScope",
    "PyDataset",
    "Sequence",
    "array_to_img",
    "clear_session",
    "custom_object_scope",
    "deserialize_keras_object",
    "get_custom_objects",
    "get_file",
    "get_registered_name",
    "get_registered_object",
    "image_dataset_from_directory",
    "img_to_array",
    "legacy",
    "load_img",
    "model_to_dot",
    "model_to_mermaid",
    "normalize",
    "pack_x_y_sample_weight",
    "pad_sequences",
    "plot_model",
    "register_keras_serializable",
    "save_img",
    "serialize_keras_object",
    "set_random_seed",
    "text_dataset_from_directory",
    "timeseries_dataset_from_array",
    "to_categorical",
    "unpack_x_y_sample_weight",
]

LAZY = {  # modules that few programs need, with their public names
    "files": ("get_file",),
    "folders": ("image_dataset_from_directory", "text_dataset_from_directory"),
    "images": ("array_to_img", "img_to_array", "load_img", "save_img"),
    "plot": ("model_to_dot", "model_to_mermaid", "plot_model"),
    "sequences": ("pad_sequences",),
    "timeseries": ("timeseries_dataset_from_array",),
}
homes = {name: f"{__name__}.{home}" for home, names in LAZY.items() for name in names}
namespaces.install(sys.modules[__name__], lazy=homes)
