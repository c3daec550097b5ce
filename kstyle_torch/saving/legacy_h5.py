"""The `.h5` format of Keras 2, which Keras 3 also reads and writes: whole models, and weights by layer name."""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kstyle_torch import initializers
from kstyle_torch.budget import Budget, TooLargeError
from kstyle_torch.layer.reparametrization import warn_of_computed
from kstyle_torch.registry import snake_case
from kstyle_torch.saving import hdf5, keras2, keras_file, untrusted
from kstyle_torch.saving.atomic import replacing
from kstyle_torch.serialization import (
    REGISTRIES,
    deserialize_keras_object,
    lenient_configs,
    safe_mode_scope,
    serialize_keras_object,
)

NAMED = ("loss", "metrics", "weighted_metrics")
SHAPED = ("accuracy", "acc", "crossentropy", "ce")  # metrics whose kind depends on the shape of the outputs
HEADER_LIMIT = 64512  # largest size of an HDF5 attribute in bytes


# ------------------------------------------------------------------------------------------------------------- reading


def load(path: Path, compile: bool = True, safe_mode: bool = True) -> Any:
    """Returns the model in an `.h5` file.

    Raises: ValueError: if it is broken, or holds weights alone.
    """
    with keras_file.explained(path):
        hdf5.check_heaps(path)
    with keras_file.explained(path), hdf5.opened(path) as root, safe_mode_scope(safe_mode):
        texts = [hdf5.attribute(root, f"{what}_config") for what in ("model", "training")]
        if texts[0] is None:
            raise ValueError("it holds weights without a model; make the model and call load_weights().")
        with Budget(path.stat().st_size, len(texts[0])):
            return _load(root, texts[0], texts[1], compile)


def _load(root: Any, text: Any, training_text: Any, compile: bool) -> Any:
    config = keras2.modern(untrusted.parse_json(text, "the config"))
    training = None if training_text is None else untrusted.parse_json(training_text, "the training_config")
    with initializers.left_out(), lenient_configs():
        model = deserialize_keras_object({"module": None, "registered_name": None, **config})
        if not hasattr(model, "compile_from_config"):
            raise ValueError(f"it describes a {type(model).__name__}, not a model.")
        if not model.built and config.get("build_config"):
            model.build_from_config(config["build_config"])
    read_weights(model, hdf5.group_at(root, "model_weights"))
    if compile and training:
        _compile(model, training, hdf5.group_at(root, "optimizer_weights"))
    return model


def _compile(model: Any, training: Any, group: Any) -> None:
    try:
        with lenient_configs():
            model.compile_from_config(keras2.compile_config(training))
    except TooLargeError:
        raise
    except (ValueError, TypeError) as error:
        warnings.warn(f"The model is not compiled as it was: {error}", stacklevel=5)
        return
    if group is None:
        return
    datasets, variables = _datasets(group), list(model.optimizer.variables)
    if [tuple(dataset.shape) for dataset in datasets] != [tuple(variable.shape) for variable in variables]:
        warnings.warn("The optimizer's state is of an older kind and is not read.", stacklevel=5)
        return
    for variable, dataset in zip(variables, datasets, strict=True):
        variable.assign(hdf5.array_of(dataset))


def read_weights(model: Any, group: Any, by_name: bool = False, skip_mismatch: bool = False) -> None:
    """Sets the weights from the group that holds them by layer; nothing changes unless everything fits.

    Args:
        model: A built model.
        group: HDF5 group with the attribute `layer_names`.
        by_name: Whether layers are looked up by name; those that are not in the file are skipped.
        skip_mismatch: Whether layers that do not fit are skipped, with a warning.
    Raises: ValueError: if something does not fit.
    """
    if group is None or ("layer_names" not in group.attrs and "layer_names0" not in group.attrs):
        raise ValueError("it does not hold weights by layer name.")
    stored = {name: _member(group, name) for name in _names(group, "layer_names")}
    stored = {name: layer for name, layer in stored.items() if layer is not None and _names(layer, "weight_names")}
    layers = [layer for layer in _layers(model) if _views(layer)]
    if by_name:
        pairs = [(layer, stored[layer.name]) for layer in layers if layer.name in stored]
    elif len(layers) != len(stored):
        raise ValueError(f"it has {len(stored)} layers with weights, {list(stored)[:8]}; the model has {len(layers)}.")
    else:
        pairs = list(zip(layers, stored.values(), strict=True))
    found = [(_views(layer), _fitting(_views(layer), _datasets(at), layer.name, skip_mismatch)) for layer, at in pairs]
    own = model._own_views()
    if own and (top := hdf5.group_at(group, "top_level_model_weights")) is not None:
        found.append((own, _fitting(own, _datasets(top), model.name, skip_mismatch)))
    for views, datasets in found:
        _set(views, datasets)


def _layers(model: Any) -> Sequence[Any]:
    return [layer for layer in model.layers if hasattr(layer, "trainable_weights")]


def _views(layer: Any) -> list[Any]:
    return sorted(layer.weights, key=lambda view: not view.trainable)


def _fitting(views: list[Any], datasets: list[Any], name: str, skip_mismatch: bool) -> list[Any] | None:
    shapes, wanted = ([tuple(each.shape) for each in part] for part in (datasets, views))
    if shapes == wanted:
        for dataset, view in zip(datasets, views, strict=True):
            hdf5.check_values(dataset, view.parameter)
        return datasets
    text = f"layer {name!r} has weights of shapes {wanted}; the file has {shapes}."
    if not skip_mismatch:
        raise ValueError(text)
    warnings.warn(f"Left as it is: {text}", stacklevel=7)
    return None


def _set(views: list[Any], datasets: list[Any] | None) -> None:
    if datasets is not None:
        for view, dataset in zip(views, datasets, strict=True):
            view.assign(torch.as_tensor(hdf5.array_of(dataset)))


def _datasets(group: Any) -> list[Any]:
    """Returns the arrays listed in `weight_names`, in that order."""
    import h5py

    found = [_member(group, name) for name in _names(group, "weight_names")]
    if not all(isinstance(each, h5py.Dataset) for each in found):
        raise ValueError(f"{group.name} lists weights that it does not have.")
    for each in found:
        hdf5.shape_of(each)
    return found


def _member(group: Any, path: str) -> Any:
    home, _, name = path.rpartition("/")
    group = hdf5.group_at(group, home)
    return None if group is None else hdf5.child(group, name)


def _names(group: Any, attribute: str) -> list[str]:
    """Returns a list of names from an attribute, or from several if they were too long for one."""
    with hdf5.readable():
        if attribute in group.attrs:
            keys = [attribute]
        else:
            numbered = (f"{attribute}{number}" for number in range(len(group.attrs)))
            keys = [*itertools.takewhile(lambda key: key in group.attrs, numbered)]
        parts = [hdf5.attribute(group, key) for key in keys]
        names = [name for part in parts for name in np.asarray(part).reshape(-1).tolist()]
        return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


# ------------------------------------------------------------------------------------------------------------- writing


def save(model: Any, path: Path, include_optimizer: bool = True) -> None:
    """Writes a model to an `.h5` file that Keras 3 reads."""
    config = serialize_keras_object(model)
    compiled = config.pop("compile_config", None)
    config.pop("build_config", None)
    with replacing(path) as unfinished, hdf5.created(unfinished) as root:
        root.attrs["keras_version"], root.attrs["backend"] = keras_file.FORMAT_VERSION, "torch"
        root.attrs["model_config"] = json.dumps({"class_name": config["class_name"], "config": config["config"]})
        group = root.create_group("model_weights")
        write_weights(model, group)
        if compiled and include_optimizer:
            optimizer = compiled.pop("optimizer")
            named = {key: _long_names(compiled.pop(key), "losses" if key == "loss" else "metrics") for key in NAMED}
            root.attrs["training_config"] = json.dumps({**compiled, **named, "optimizer_config": optimizer})
            if hasattr(model.optimizer, "save_own_variables"):
                _write_arrays(root.create_group("optimizer_weights"), list(model.optimizer.variables))


def _long_names(value: Any, kind: str) -> Any:
    """Returns `"mean_squared_error"` for `"mse"`: Keras 3 reads only the long name from an `.h5` file."""
    if isinstance(value, dict):
        return value if "class_name" in value else {key: _long_names(item, kind) for key, item in value.items()}
    if isinstance(value, list):
        return [_long_names(item, kind) for item in value]
    known = REGISTRIES[f"keras.{kind}"]
    if not isinstance(value, str) or value in SHAPED or value not in known:
        return value
    found = known.lookup(value)
    return snake_case(found.__name__)


def write_weights(model: Any, group: Any) -> None:
    """Writes the weights by layer name."""
    layers = _layers(model)
    warn_of_computed(model, f"The file of {model.name}")
    group.attrs["keras_version"], group.attrs["backend"] = keras_file.FORMAT_VERSION, "torch"
    _write_names(group, "layer_names", [layer.name for layer in layers])
    for layer in layers:
        _write_arrays(group.create_group(layer.name), _views(layer))
    _write_arrays(group.create_group("top_level_model_weights"), model._own_views())


def _write_arrays(group: Any, variables: list[Any]) -> None:
    names: list[str] = []
    for variable in variables:
        name, number = str(variable.path), 0
        while name in names or any(other.startswith(f"{name}/") for other in names):
            number += 1
            name = f"{variable.path}_{number}"
        names.append(name)
        hdf5.write_array(group, name, variable)
    _write_names(group, "weight_names", names)


def _write_names(group: Any, attribute: str, names: list[str]) -> None:
    encoded = [name.encode() for name in names]
    if sum(map(len, encoded)) + 8 * len(encoded) <= HEADER_LIMIT // 4:
        group.attrs[attribute] = np.array(encoded) if encoded else np.array([], dtype="S1")
        return
    for part, start in enumerate(range(0, len(encoded), 100)):
        group.attrs[f"{attribute}{part}"] = np.array(encoded[start : start + 100])
