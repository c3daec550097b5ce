"""Keras' own format: `.keras` files, and folders with the same content. Neither reading nor writing needs Keras."""

from __future__ import annotations

import contextlib
import datetime
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kstyle_torch import initializers
from kstyle_torch.budget import Budget
from kstyle_torch.layer.reparametrization import warn_of_computed
from kstyle_torch.saving import archive, hdf5, weight_tree
from kstyle_torch.saving.atomic import replacing, replacing_folder
from kstyle_torch.serialization import (
    deserialize_keras_object,
    lenient_configs,
    safe_mode_scope,
    serialize_keras_object,
)

FORMAT_VERSION = "3.15.0"  # version of Keras whose format this is
# errors that a constructor may raise for an invalid config
NONSENSE = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, NotImplementedError, RuntimeError),
    *(RecursionError, TypeError),
)


def save(model: Any, path: Path, zipped: bool = True) -> None:
    """Writes a model to a `.keras` file or a folder, and replaces an existing one when the new one is complete."""
    config = json.dumps(serialize_keras_object(model))
    if not zipped:
        with replacing_folder(path) as folder:
            _write_folder(model, config, folder)
        return
    with replacing(path) as unfinished, archive.make_scratch(unfinished.parent) as scratch:
        _write_folder(model, config, Path(scratch))
        archive.write_zip(unfinished, Path(scratch))


def _write_folder(model: Any, config: str, folder: Path) -> None:
    saved = datetime.datetime.now().strftime("%Y-%m-%d@%H:%M:%S")
    metadata = {"keras_version": FORMAT_VERSION, "date_saved": saved}
    (folder / archive.METADATA).write_text(json.dumps(metadata))
    (folder / archive.CONFIG).write_text(config)
    write_weights(model, folder / archive.WEIGHTS, folder / archive.ASSETS)


def write_weights(model: Any, path: Path, assets: Path | None = None, skipped: Sequence[Any] = ()) -> None:
    """Writes all variables to an HDF5 file in Keras' layout."""
    with hdf5.created(path) as root:
        warn_of_computed(model, f"The file of {model.name}")
        weight_tree.write(model, lambda at: root.create_group(f"{at}/vars" if at else "vars"), assets, skipped)


# ------------------------------------------------------------------------------------------------------------- reading


def load(path: Path, compile: bool = True, safe_mode: bool = True) -> Any:
    """Returns the model in a `.keras` file or a folder.

    Raises: ValueError: if it is broken, or not a model. FileNotFoundError: if it does not exist.
    """
    with (
        explained(path),
        archive.opened(path) as source,
        safe_mode_scope(safe_mode),
        Budget(source.stored(archive.WEIGHTS), source.stored(archive.CONFIG)),
    ):
        config = source.json(archive.CONFIG)
        with initializers.left_out():
            model = model_from_config(config, compile)
        with source.binary(archive.WEIGHTS) as file, source.folder(archive.ASSETS) as assets:
            read_weights(model, file, assets)
    return model


def model_from_config(config: Any, compile: bool = True) -> Any:
    """Returns a model with new weights, compiled if the config says how.

    Raises: ValueError: if the config is not that of a model.
    """
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
        raise ValueError("config.json does not describe a model.")
    with lenient_configs():
        model: Any = deserialize_keras_object({key: value for key, value in config.items() if key != "compile_config"})
    if not hasattr(model, "save"):  # a FeatureSpace is saved like a model
        raise ValueError(f"config.json describes a {type(model).__name__}, not a model.")
    if not model.built and config.get("build_config"):
        model.build_from_config(config["build_config"])
    if compile and config.get("compile_config"):
        with lenient_configs():
            model.compile_from_config(config["compile_config"])
    return model


def read_weights(
    model: Any, file: Any, assets: Path | None = None, skip_mismatch: bool = False, skipped: Sequence[Any] = ()
) -> None:
    """Sets all variables from an HDF5 file in Keras' layout; nothing changes unless everything fits.

    Raises: ValueError: if it does not fit, or is broken.
    """
    with hdf5.opened(file) as root:
        plan = weight_tree.Plan(model, lambda at: entries_at(root, at), skip_mismatch, skipped)
        with hdf5.readable():
            plan.carry_out(assets)


def entries_at(root: Any, path: str) -> hdf5.Entries:
    """Returns the variables of the object at a path in a file."""
    group = hdf5.group_at(root, f"{path}/vars" if path else "vars")
    if group is None and "_layer_checkpoint_dependencies" in root:  # Keras 2.13
        older = path.replace("layers", "_layer_checkpoint_dependencies")
        group = hdf5.group_at(root, f"{older}/vars" if older else "vars")
    return hdf5.Entries(group)


@contextlib.contextmanager
def explained(path: Any) -> Iterator[None]:
    """Adds the file's name to errors, and converts those that a constructor raised for an invalid config to ValueError."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"Cannot load {str(path)!r}: {error}") from error
    except NONSENSE as error:
        raise ValueError(f"Cannot load {str(path)!r}: {type(error).__name__}: {error}") from error
