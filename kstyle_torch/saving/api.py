"""Saving and loading by suffix: whole models, and weights alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from kstyle_torch.saving import keras_file, weights
from kstyle_torch.serialization import custom_object_scope, whole_configs


def save_model(
    model: Any,
    filepath: str | os.PathLike[str],
    overwrite: bool = True,
    zipped: bool | None = None,
    **kwargs: Any,
) -> None:
    """Writes a whole model to a file that Keras opens too.

    The file is replaced once the new one is whole and on the disk: a crash, or a full disk, leaves the old one.

    Args:
        model: Any model.
        filepath: Ends in `.keras`; a folder with `zipped=False`.
        overwrite: Whether a file of that name is replaced.
        zipped: False for a folder with the same files in it.
        kwargs: `include_optimizer` and `save_format`, from older Keras.
    Raises: ValueError: for another ending. FileExistsError: see `overwrite`. TypeError: if a layer has no config.
    Example:
        >>> import tempfile
        >>> model = Sequential([Input((3,)), Dense(2)])
        >>> save_model(model, f"{tempfile.mkdtemp()}/m.keras")
    """
    path = Path(filepath)
    kwargs.pop("save_format", None)
    kwargs.pop("include_optimizer", True)
    if kwargs:
        raise ValueError(f"save_model() has no argument {next(iter(kwargs))!r}.")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{str(path)!r} exists already; pass overwrite=True to replace it.")
    zipped = zipped is None or zipped
    if zipped != (path.suffix == ".keras"):
        wanted = "A model's file ends in '.keras'" if zipped else "A folder (zipped=False) does not end in '.keras'"
        raise ValueError(f"{wanted}; got {str(filepath)!r}. For weights alone there is save_weights().")
    with whole_configs():
        keras_file.save(model, path, zipped)


def load_model(
    filepath: str | os.PathLike[str],
    custom_objects: dict[str, Any] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
) -> Any:
    """The model in a file that `save_model`, or Keras, wrote.

    No code from the file is run, and nothing is imported because the file names it.

    Args:
        filepath: A `.keras` file, or a folder with the same in it.
        custom_objects: `{name: class or function}` for what the file names and no library has.
        compile: Whether the model is compiled as it was, with the optimizer's state.
        safe_mode: Whether lambdas, which are code, are refused.
    Raises: FileNotFoundError: if there is no such file. ValueError: if it is broken, unsafe or of another kind, or names a
        class that is not known.
    Example:
        >>> import tempfile
        >>> path = f"{tempfile.mkdtemp()}/m.keras"
        >>> save_model(Sequential([Input((3,)), Dense(2)]), path)
        >>> load_model(path)(torch.ones(1, 3)).shape
        torch.Size([1, 2])
    """
    path = Path(filepath)
    if not path.exists():
        raise FileNotFoundError(f"There is no file {str(filepath)!r}.")
    with custom_object_scope(custom_objects):
        return keras_file.load(path, compile, safe_mode)


def save_weights(
    model: Any,
    filepath: str | os.PathLike[str],
    overwrite: bool = True,
    max_shard_size: float | None = None,
) -> None:
    """Writes a model's weights, to be read into a model of the same layers.

    Args:
        model: A model that is built.
        filepath: Ends in `.weights.h5`, which Keras reads too, `.safetensors` or `.pt`.
        overwrite: Whether a file of that name is replaced.
        max_shard_size: Not supported yet.
    Raises: ValueError: for another ending, or a model without weights. FileExistsError: see `overwrite`.
    """
    weights.save_weights(model, filepath, overwrite)


def load_weights(model: Any, filepath: str | os.PathLike[str], skip_mismatch: bool = False, **kwargs: Any) -> None:
    """Reads weights into a model; nothing changes unless all of it fits.

    Args:
        model: A model that is built.
        filepath: What `save_weights` or `save_model` wrote, here or in Keras.
        skip_mismatch: Whether layers that do not fit are left as they are, with a warning.
    Raises: FileNotFoundError: if there is no such file. ValueError: if it does not fit.
    """
    weights.load_weights(model, filepath, skip_mismatch)
