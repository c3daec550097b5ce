"""Files of models and weights, in Keras' formats and torch's, and objects as plain data."""

from kstyle_torch.budget import raise_limits
from kstyle_torch.saving.api import load_model, load_weights, save_model, save_weights
from kstyle_torch.saving.editor import KerasFileEditor
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

__all__ = [
    "CustomObjectScope",
    "KerasFileEditor",
    "custom_object_scope",
    "deserialize_keras_object",
    "get_custom_objects",
    "get_registered_name",
    "get_registered_object",
    "load_model",
    "load_weights",
    "raise_limits",
    "register_keras_serializable",
    "save_model",
    "save_weights",
    "serialize_keras_object",
]
