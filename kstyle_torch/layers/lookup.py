"""Conversion of layers to and from Keras' JSON form."""

from __future__ import annotations

from typing import Any

from kstyle_torch.layer.base import Layer, layer_registry
from kstyle_torch.serialization import deserialized, serialize_keras_object


def serialize(layer: Layer) -> dict[str, Any]:
    """Returns the layer in Keras' JSON form: a dict with its class and its config."""
    return serialize_keras_object(layer)


def deserialize(config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Layer:
    """Returns the unbuilt layer for a result of `serialize`.

    Args:
        config: Result of `serialize`.
        custom_objects: `{name: class or function}` that the config may refer to, in addition to public ones.
    Raises: ValueError: if it names an unknown class, or describes something else than a layer.
    """
    layer = deserialized(config, custom_objects, registry=layer_registry)
    if not isinstance(layer, Layer):
        raise ValueError(f"Expected the config of a layer; got that of a {type(layer).__name__}.")
    return layer
