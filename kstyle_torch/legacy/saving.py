"""Conversion of objects to and from the config format of Keras 2: `{"class_name": ..., "config": ...}`, without modules."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from kstyle_torch.registry import custom_object_scope
from kstyle_torch.serialization import get_registered_name, get_registered_object

__all__ = ["deserialize_keras_object", "serialize_keras_object"]

NESTED = "__passive_serialization__"  # Keras' mark of objects inside a config


def serialize_keras_object(instance: Any) -> Any:
    """Returns an object as its class' name and its config; a function or class as its name, None as None.

    Raises: ValueError: for anything else.
    """
    if instance is None:
        return None
    instance = inspect.unwrap(instance)
    if hasattr(instance, "get_config"):
        config = {key: _item(value) for key, value in instance.get_config().items()}
        return {"class_name": get_registered_name(type(instance)), "config": config}
    if hasattr(instance, "__name__"):
        return get_registered_name(instance)
    raise ValueError(f"{instance!r} cannot be serialized: it has no get_config().")


def _item(value: Any) -> Any:
    if isinstance(value, str) or not (hasattr(value, "get_config") or hasattr(value, "__name__")):
        return value
    made = serialize_keras_object(value)
    return {**made, NESTED: True} if isinstance(made, dict) else made


def deserialize_keras_object(
    identifier: Any,
    module_objects: Mapping[str, Any] | None = None,
    custom_objects: dict[str, Any] | None = None,
    printable_module_name: str = "object",
) -> Any:
    """Returns the object for a name or a config in the format of Keras 2.

    Args:
        identifier: Result of `serialize_keras_object`; a function, which is returned; or None.
        module_objects: `{name: class or function}` of the library; a config may refer to these and the user's only.
        custom_objects: `{name: class or function}` of the user.
        printable_module_name: The kind of object, for messages.
    Raises: ValueError: for an unknown name, or an object of a type that is not an identifier.
    """
    if identifier is None or inspect.isfunction(identifier):
        return identifier
    known = dict(module_objects or {})
    if isinstance(identifier, str):
        found = _find(identifier, known, custom_objects, printable_module_name)
        return found() if inspect.isclass(found) else found
    if not isinstance(identifier, dict) or not {"class_name", "config"} <= identifier.keys():
        raise ValueError(f"Expected a name or a dict with class_name and config; got {identifier!r}.")
    cls = _find(identifier["class_name"], known, custom_objects, printable_module_name)
    config = identifier["config"]
    if isinstance(config, dict):
        config = {key: _revived(key, value, known, custom_objects) for key, value in config.items()}
    with custom_object_scope(custom_objects):
        return cls.from_config(config) if hasattr(cls, "from_config") else cls(**config)


def _revived(key: str, value: Any, known: dict[str, Any], custom_objects: dict[str, Any] | None) -> Any:
    """Returns an entry of a config, deserialized if it describes an object or a function."""
    if isinstance(value, dict) and NESTED in value:
        return deserialize_keras_object(value, known, custom_objects, "config_item")
    if isinstance(value, str) and key != "name":
        found = get_registered_object(value, custom_objects, known)
        return found if inspect.isfunction(found) else value
    return value


def _find(name: str, known: dict[str, Any], custom_objects: dict[str, Any] | None, kind: str) -> Any:
    found = get_registered_object(name, custom_objects, known)
    if found is None:
        raise ValueError(f"Unknown {kind}: {name!r}. For a name of your own, pass custom_objects={{{name!r}: {name}}}.")
    return found
