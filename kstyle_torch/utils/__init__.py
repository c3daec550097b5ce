"""Utilities: data conversion, datasets from files, seeds, and serialization of objects."""

import sys
from typing import TYPE_CHECKING

from kstyle_torch import namespaces
from kstyle_torch.callbacks.curves import plot_history
from kstyle_torch.config import (
    disable_interactive_logging,
    enable_interactive_logging,
    is_interactive_logging_enabled,
)
from kstyle_torch.data.py_dataset import PyDataset
from kstyle_torch.data.split import pack_x_y_sample_weight, unpack_x_y_sample_weight
from kstyle_torch.dtype_policies import standardize_dtype
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
from kstyle_torch.symbolic.graph import get_source_inputs
from kstyle_torch.symbolic.tensor import is_symbolic as is_keras_tensor
from kstyle_torch.utils import legacy
from kstyle_torch.utils.numeric import normalize, to_categorical
from kstyle_torch.utils.seeds import clear_session, set_random_seed

if TYPE_CHECKING:
    from kstyle_torch.utils import bounding_boxes
    from kstyle_torch.utils.feature_space import FeatureSpace
    from kstyle_torch.utils.files import get_file
    from kstyle_torch.utils.folders import (
        audio_dataset_from_directory,
        image_dataset_from_directory,
        text_dataset_from_directory,
    )
    from kstyle_torch.utils.images import array_to_img, img_to_array, load_img, save_img
    from kstyle_torch.utils.plot import model_to_dot, model_to_mermaid, plot_model
    from kstyle_torch.utils.progbar import Progbar
    from kstyle_torch.utils.sequences import pad_sequences
    from kstyle_torch.utils.settings import Config
    from kstyle_torch.utils.splitting import split_dataset
    from kstyle_torch.utils.timeseries import timeseries_dataset_from_array

Sequence = PyDataset  # name in older Keras

__all__ = [
    "Config",
    "CustomObjectScope",
    "FeatureSpace",
    "Progbar",
    "PyDataset",
    "Sequence",
    "array_to_img",
    "audio_dataset_from_directory",
    "bounding_boxes",
    "clear_session",
    "custom_object_scope",
    "deserialize_keras_object",
    "disable_interactive_logging",
    "enable_interactive_logging",
    "get_custom_objects",
    "get_file",
    "get_registered_name",
    "get_registered_object",
    "get_source_inputs",
    "image_dataset_from_directory",
    "img_to_array",
    "is_interactive_logging_enabled",
    "is_keras_tensor",
    "legacy",
    "load_img",
    "model_to_dot",
    "model_to_mermaid",
    "normalize",
    "pack_x_y_sample_weight",
    "pad_sequences",
    "plot_history",
    "plot_model",
    "register_keras_serializable",
    "save_img",
    "serialize_keras_object",
    "set_random_seed",
    "split_dataset",
    "standardize_dtype",
    "text_dataset_from_directory",
    "timeseries_dataset_from_array",
    "to_categorical",
    "unpack_x_y_sample_weight",
]

LAZY = {  # modules that few programs need, with their public names
    "bounding_boxes": ("bounding_boxes",),
    "feature_space": ("FeatureSpace",),
    "files": ("get_file",),
    "folders": ("audio_dataset_from_directory", "image_dataset_from_directory", "text_dataset_from_directory"),
    "images": ("array_to_img", "img_to_array", "load_img", "save_img"),
    "plot": ("model_to_dot", "model_to_mermaid", "plot_model"),
    "progbar": ("Progbar",),
    "sequences": ("pad_sequences",),
    "settings": ("Config",),
    "splitting": ("split_dataset",),
    "timeseries": ("timeseries_dataset_from_array",),
}
homes = {name: f"{__name__}.{home}" for home, names in LAZY.items() for name in names}
namespaces.install(sys.modules[__name__], lazy=homes)
