"""Files: models in files that are open, too."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from kstyle_torch.saving import api
from kstyle_torch.serialization import safe_mode_scope


class SafeModeScope:
    """A block in which configs may hold code, or not.

    Args:
        safe_mode: Whether they may not.
    """

    def __init__(self, safe_mode: bool = True):
        self.safe_mode = safe_mode

    def __enter__(self) -> None:
        self._scope = safe_mode_scope(self.safe_mode)
        self._scope.__enter__()

    def __exit__(self, *args: Any) -> None:
        self._scope.__exit__(*args)


def _is_open_file(file: Any) -> bool:
    return hasattr(file, "read") or hasattr(file, "write")


def save_model(model: Any, filepath: Any, weights_format: str = "h5", zipped: bool = True) -> None:
    """Writes a model to a `.keras` file, a folder, or a file that is open for writing.

    Raises: ValueError: for another format of weights.
    """
    if weights_format != "h5":
        raise ValueError(f"weights_format must be 'h5'; got {weights_format!r}.")
    if not _is_open_file(filepath):
        api.save_model(model, filepath, zipped=zipped)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        api.save_model(model, path)
        filepath.write(path.read_bytes())


def load_model(filepath: Any, custom_objects: Any = None, compile: bool = True, safe_mode: bool = True) -> Any:
    """Returns the model in a `.keras` file, a folder, or a file that is open for reading."""
    if not _is_open_file(filepath):
        return api.load_model(filepath, custom_objects, compile, safe_mode)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        path.write_bytes(filepath.read())
        return api.load_model(path, custom_objects, compile, safe_mode)


def save_weights_only(model: Any, filepath: Any) -> None:
    """Writes a model's weights to a `.weights.h5` file."""
    model.save_weights(filepath)


def load_weights_only(model: Any, filepath: Any, skip_mismatch: bool = False) -> None:
    """Reads a model's weights from a `.weights.h5` file."""
    model.load_weights(filepath, skip_mismatch=skip_mismatch)
