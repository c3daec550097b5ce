"""Saving and loading by suffix: whole models, and weights alone."""

from __future__ import annotations

import os
import warnings
import zipfile
from pathlib import Path
from typing import Any

from kstyle_torch.errors import MissingFileError
from kstyle_torch.saving import keras_file, weights
from kstyle_torch.serialization import custom_object_scope, whole_configs

LEGACY = (".h5", ".hdf5")


def save_model(
    model: Any,
    filepath: str | os.PathLike[str],
    overwrite: bool = True,
    zipped: bool | None = None,
    **kwargs: Any,
) -> None:
    """Writes a whole model to a file that Keras opens too.

    The file is replaced only after the new one is complete and on the disk: after a crash, or if the disk is full, the
    old file is still there.

    Args:
        model: Any model.
        filepath: Ends in `.keras`, or in `.h5` for the older format; a folder with `zipped=False`.
        overwrite: Whether an existing file is replaced.
        zipped: False writes a folder with the same files instead.
    kwargs: `include_optimizer` and `save_format`, from older Keras.
    Raises: ValueError: for another ending. FileExistsError: see `overwrite`. TypeError: if a layer has no config.

    Example:
        >>> import tempfile
        >>> model = Sequential([Input((3,)), Dense(2)])
        >>> save_model(model, f"{tempfile.mkdtemp()}/m.keras")
    """
    path = Path(filepath)
    kwargs.pop("save_format", None)
    include_optimizer = kwargs.pop("include_optimizer", True)
    if kwargs:
        raise ValueError(f"save_model() has no argument {next(iter(kwargs))!r}.")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{str(path)!r} exists already; pass overwrite=True to replace it.")
    zipped = zipped is None or zipped
    if not model.built:
        warnings.warn(
            f"{model.name!r} is not built yet, so that the file may lack weights; call the model on data before.",
            stacklevel=3,
        )
    if zipped and path.suffix in LEGACY:
        from kstyle_torch.saving import legacy_h5

        with whole_configs():
            legacy_h5.save(model, path, include_optimizer)
        return
    if zipped != (path.suffix == ".keras"):
        wanted = (
            "A model's file ends in '.keras' (or '.h5')"
            if zipped
            else "A folder (zipped=False) does not end in '.keras'"
        )
        raise ValueError(f"{wanted}; got {str(filepath)!r}. For weights alone there is save_weights().")
    with whole_configs():
        keras_file.save(model, path, zipped)


def _is_hdf5(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(8) == b"\x89HDF\r\n\x1a\n"


def _check_kind(path: Path) -> None:
    """Raises the error for a file or folder that cannot be loaded, with what it is."""
    if not path.exists():
        raise MissingFileError(f"The file {str(path)!r} does not exist.")
    if path.is_dir() and (path / "saved_model.pb").exists():
        raise ValueError(
            f"{str(path)!r} is a SavedModel of TensorFlow, which only TensorFlow opens. Save the model as '.keras' there."
        )
    if path.suffix in (".safetensors", ".pt", ".pth"):
        raise ValueError(f"{str(path)!r} holds weights without a model; make the model and call load_weights().")


def load_model(
    filepath: str | os.PathLike[str],
    custom_objects: dict[str, Any] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
) -> Any:
    """Returns the model in a file that `save_model` or Keras wrote.

    Code in the file is not run, and modules that it names are not imported.

    Args:
        filepath: A `.keras` file, a folder with the same in it, or an `.h5` file of Keras 2 or 3.
        custom_objects: `{name: class or function}` of your own that the file refers to.
        compile: Whether the model is compiled as before, with the optimizer's state.
        safe_mode: Whether lambdas, which contain code, are refused.
    Raises: FileNotFoundError: if the file does not exist. ValueError: if it is broken, unsafe or of another kind, or names
        an unknown class.

    Example:
        >>> import tempfile
        >>> path = f"{tempfile.mkdtemp()}/m.keras"
        >>> save_model(Sequential([Input((3,)), Dense(2)]), path)
        >>> load_model(path)(torch.ones(1, 3)).shape
        torch.Size([1, 2])
    """
    path = Path(filepath)
    _check_kind(path)
    with custom_object_scope(custom_objects):
        # Decided by content, since suffixes can be wrong; by suffix for a file that is neither.
        is_neither = path.suffix in LEGACY and path.is_file() and not zipfile.is_zipfile(path)
        if not _is_hdf5(path) and not is_neither:
            return keras_file.load(path, compile, safe_mode)
        from kstyle_torch.saving import legacy_h5

        return legacy_h5.load(path, compile, safe_mode)


def save_weights(
    model: Any,
    filepath: str | os.PathLike[str],
    overwrite: bool = True,
    max_shard_size: float | None = None,
    **kwargs: Any,
) -> None:
    """Writes a model's weights, which can be loaded into a model with the same layers.

    Args:
        model: A model that is built.
        filepath: Ends in `.weights.h5` or `.weights.json` (shards), which Keras reads too, `.safetensors` or `.pt`.
        overwrite: Whether an existing file is replaced.
        max_shard_size: Largest size of one file in gigabytes; the files are listed in `.weights.json`, which lies beside them.
        kwargs: `objects_to_skip`, for `.weights.h5` files and shards: layers that are left out.
    Raises: ValueError: for another ending, or a model without weights. FileExistsError: see `overwrite`.
    """
    skipped = kwargs.pop("objects_to_skip", None)
    if kwargs:
        raise TypeError(f"save_weights() got the unknown argument {next(iter(kwargs))!r}.")
    weights.save_weights(model, filepath, overwrite, max_shard_size, skipped=skipped)


def load_weights(
    model: Any,
    filepath: str | os.PathLike[str],
    skip_mismatch: bool = False,
    **kwargs: Any,
) -> None:
    """Loads weights into a model; nothing changes unless everything fits.

    Args:
        model: A model that is built.
        filepath: A file that `save_weights` or `save_model` wrote, here or in Keras 2 or 3.
        skip_mismatch: Whether layers that do not fit are skipped, with a warning.
        kwargs: `by_name`, for `.h5` files of Keras 2: whether layers are looked up by name. `objects_to_skip`, for
            `.weights.h5` files and shards: layers that are skipped.
    Raises: FileNotFoundError: if the file does not exist. ValueError: if it does not fit, or for an unknown argument.
    """
    by_name, skipped = kwargs.pop("by_name", None), kwargs.pop("objects_to_skip", None)
    if kwargs:
        raise ValueError(f"load_weights() got the unknown argument {next(iter(kwargs))!r}.")
    weights.load_weights(model, filepath, skip_mismatch, bool(by_name), skipped=skipped)
