"""Files and texts that may be anybody's: looked at before they are opened or parsed."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from kstyle_torch import budget
from kstyle_torch.errors import MissingFileError

# of a list, dict or string object with its place in what holds it; what separates them in JSON tells how many there are
BYTES_AN_OBJECT = {"{": 250, "[": 80, ",": 60, ":": 60}
MAX_NAME = 255  # of a file, in most file systems
EXPECTED = {
    ".keras": "a zip archive that holds a model",
    ".h5": "an HDF5 file",
    ".hdf5": "an HDF5 file",
    ".json": "a JSON file",
    ".safetensors": "a safetensors file",
}


def check_file(path: str | os.PathLike[str]) -> Path:
    """Checks that a path, after links that the caller gave, leads to an ordinary file, on which reading does not wait.

    Raises: FileNotFoundError: if there is none. ValueError: if it is a folder, pipe, socket or device, or empty.
    """
    path = Path(path)
    try:
        found = path.stat()
    except FileNotFoundError:
        raise MissingFileError(f"There is no file {str(path)!r}.") from None
    except (OSError, ValueError) as error:  # of a name that no file can have
        raise ValueError(f"{shortened(path)} cannot be the name of a file: {error}.") from error
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{shortened(path)} is not a file but a {kind_of(found.st_mode)}.")
    if not found.st_size:
        expected = EXPECTED.get(path.suffix, "a file of saved weights")
        raise ValueError(f"The file is empty (0 bytes); expected {expected}. Was a copy or download interrupted?")
    return path


def check_member(path: Path, root: Path) -> Path:
    """Checks that a file of a folder that may be anybody's is ordinary, and in the folder: links are not followed.

    Args:
        path: The file or folder, below `root`.
        root: The folder, which may be a link itself: the caller gave it.
    Raises: FileNotFoundError: if there is none. ValueError: if it, or a folder on the way to it, is a link, or if it is
        neither file nor folder.
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
    for home, folders, files in os.walk(folder):  # lists links to folders, and does not enter them
        for name in (*folders, *files):
            check_member(Path(home, name), root)
    return folder


def kind_of(mode: int) -> str:
    """Returns what a file is that is not an ordinary one, in words."""
    kinds = {stat.S_IFLNK: "link", stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}
    return kinds.get(stat.S_IFMT(mode), "device")


def shortened(text: Any, length: int = 80) -> str:
    """Returns a name from a file, for a message: in quotes, and cut where it is long."""
    text = str(text)
    return repr(text if len(text) <= length else f"{text[:length]}...")


def parse_json(text: str, name: str) -> Any:
    """Parses JSON whose objects, many times as large as their text, are counted first.

    Args:
        text: The JSON.
        name: What it is, for messages.
    Raises: ValueError: if it is not JSON, is nested too deeply, or asks for more than the budget in force allows.
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

    Raises: ValueError: see `parse_json`; or if it has more than `max_bytes`, or is not text.
    """
    size = check_file(path).stat().st_size
    if size > max_bytes:
        raise ValueError(f"{path.name} has {size} bytes; more than {max_bytes} are not read.")
    try:
        return parse_json(path.read_text(encoding="utf-8"), path.name)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is not text.") from error
