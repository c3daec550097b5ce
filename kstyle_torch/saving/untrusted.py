"""Checks of untrusted files and texts before they are opened or parsed."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from kstyle_torch import budget
from kstyle_torch.errors import MissingFileError

# of a list, dict or string object with its slot in its container; separators in the JSON bound their number
BYTES_AN_OBJECT = {"{": 250, "[": 80, ",": 60, ":": 60}
MAX_NAME = 255  # length of a file name in most file systems
EXPECTED = {
    ".keras": "a zip archive that holds a model",
    ".h5": "an HDF5 file",
    ".hdf5": "an HDF5 file",
    ".json": "a JSON file",
    ".safetensors": "a safetensors file",
}


def check_file(path: str | os.PathLike[str]) -> Path:
    """Checks that a path, with links of the caller's resolved, is a regular file, whose reading does not block.

    Raises: FileNotFoundError: if it does not exist. ValueError: if it is a folder, pipe, socket or device, or empty.
    """
    path = Path(path)
    try:
        found = path.stat()
    except FileNotFoundError:
        raise MissingFileError(f"The file {str(path)!r} does not exist.") from None
    except (OSError, ValueError) as error:  # for invalid names
        raise ValueError(f"{shortened(path)} cannot be the name of a file: {error}.") from error
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{shortened(path)} is not a file but a {kind_of(found.st_mode)}.")
    if not found.st_size:
        expected = EXPECTED.get(path.suffix, "a file of saved weights")
        raise ValueError(f"The file is empty (0 bytes); expected {expected}. Was a copy or download interrupted?")
    return path


def check_member(path: Path, root: Path) -> Path:
    """Checks that a file in an untrusted folder is a regular file inside of it; links are not followed.

    Args:
        path: The file or folder, below `root`.
        root: The folder, which may be a link itself: the caller gave it.
    Raises: FileNotFoundError: if it does not exist. ValueError: if it, or a folder on the way to it, is a link, or if it
        is neither a file nor a folder.
    """
    for step in (path, *path.parents):
        if step == root:
            break
        mode = step.lstat().st_mode
        if not (stat.S_ISREG(mode) if step == path else False) and not stat.S_ISDIR(mode):
            raise ValueError(f"{shortened(step.relative_to(root))} in it is a {kind_of(mode)}, which is not followed.")
    return path


def check_members(folder: Path, root: Path) -> Path:
    """Checks everything below a folder as `check_member` does."""
    check_member(folder, root)
    for home, folders, files in os.walk(folder):  # lists links to folders without entering them
        for name in (*folders, *files):
            check_member(Path(home, name), root)
    return folder


def kind_of(mode: int) -> str:
    """Returns the name of a kind of file that is not a regular file, for messages."""
    kinds = {stat.S_IFLNK: "link", stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}
    return kinds.get(stat.S_IFMT(mode), "device")


def shortened(text: Any, length: int = 80) -> str:
    """Returns a name from an untrusted file for a message: quoted, and truncated if it is long."""
    text = str(text)
    return repr(text if len(text) <= length else f"{text[:length]}...")


def parse_json(text: str, name: str) -> Any:
    """Parses JSON, after bounding the memory of its objects, which may be many times as large as the text.

    Args:
        text: The JSON.
        name: Description for messages.
    Raises: ValueError: if it is not JSON, is nested too deeply, or needs more than the current budget.
    """
    budget.take(len(text) + sum(size * text.count(mark) for mark, size in BYTES_AN_OBJECT.items()), name)
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError(f"{name} is nested too deeply.") from error
    except ValueError as error:
        raise ValueError(f"{name} is not JSON: {error}.") from error


def read_json(path: Path, max_bytes: int) -> Any:
    """Parses a JSON file.

    Raises: ValueError: if it has more than `max_bytes`, or is not text; see also `parse_json`.
    """
    size = check_file(path).stat().st_size
    if size > max_bytes:
        raise ValueError(f"{path.name} has {size} bytes; more than {max_bytes} are not read.")
    try:
        return parse_json(path.read_text(encoding="utf-8"), path.name)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is not text.") from error
