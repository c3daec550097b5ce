"""Conversion between the arguments of `compile` and the `compile_config` of Keras' files."""

from __future__ import annotations

import warnings
from typing import Any

from kstyle_torch.serialization import deserialize_keras_object, serialize_keras_object

KEYS = (
    "optimizer loss loss_weights metrics weighted_metrics run_eagerly steps_per_execution jit_compile auto_scale_loss"
).split()


def compile_config(model: Any) -> dict[str, Any]:
    """Returns the arguments of `model.compile` as plain data; empty if it was not called, or they have no config."""
    given = model._compile_arguments
    if model.optimizer is None or given is None:
        return {}
    given = {**{key: given.get(key) for key in KEYS}, "optimizer": model.optimizer}
    if not isinstance(given["jit_compile"], (bool, str)) or given["jit_compile"] not in (True, False, "auto"):
        given["jit_compile"] = "auto"
    if not isinstance(given["steps_per_execution"], int):
        given["steps_per_execution"] = 1
    try:
        return {key: serialize_keras_object(value) for key, value in given.items()}
    except TypeError as error:
        warnings.warn(f"{model.name} is saved without its compile() settings: {error}", stacklevel=4)
        return {}


def compile_from_config(model: Any, config: dict[str, Any]) -> None:
    """Compiles a model and builds its optimizer, so that the optimizer's state can be loaded.

    Raises: ValueError: if the config names an object that is neither public nor registered by the user.
    """
    settings = deserialize_keras_object({key: value for key, value in config.items() if key in KEYS})
    model.compile(**settings)
    if model.built and hasattr(model.optimizer, "build"):
        model.optimizer.build(model.trainable_weights)
