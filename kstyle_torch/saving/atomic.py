"""Atomic replacement of files and folders: after a crash at any point, either the old or the new one is there."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(filepath: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields an empty file beside `filepath`; when the block ends without an error, it is synced and replaces `filepath`.

    Args:
        filepath: File to replace or create; a link is followed.
    Raises: FileNotFoundError: if its folder does not exist. OSError: for example if the disk is full; the old file is kept.

    Example:
        >>> import pathlib, tempfile
        >>> target = pathlib.Path(tempfile.mkdtemp(), "a.txt")
        >>> with replacing(target) as unfinished:
        ...     _ = unfinished.write_text("whole")
        >>> target.read_text()
        'whole'
    """
    path = _target(filepath)
    unfinished = path.with_name(_hidden(path.name))
    os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        with _explained(path):
            yield unfinished
            _sync(unfinished)
            if path.exists():
                shutil.copymode(path, unfinished)
            os.replace(unfinished, path)
            _sync_folder(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Does what `replacing` does, for a folder. Between the two renames at the end, the old one is named `.NAME.old-...`."""
    path = _target(folder)
    unfinished = path.with_name(_hidden(path.name))
    unfinished.mkdir()
    try:
        with _explained(path):
            yield unfinished
            for file in unfinished.rglob("*"):
                _sync_folder(file) if file.is_dir() else _sync(file)
            old = path.with_name(f".{path.name}.old-{secrets.token_hex(4)}")
            if path.exists():
                os.rename(path, old)
            os.rename(unfinished, path)
            _sync_folder(path.parent)
            shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def write_bytes(filepath: str | os.PathLike[str], content: bytes) -> None:
    """Replaces a file's content; see `replacing`."""
    with replacing(filepath) as unfinished:
        unfinished.write_bytes(content)


def write_text(filepath: str | os.PathLike[str], content: str) -> None:
    """Replaces a file's content, as UTF-8; see `replacing`."""
    write_bytes(filepath, content.encode())


def _target(filepath: str | os.PathLike[str]) -> Path:
    path = Path(os.path.realpath(filepath))
    if not path.parent.is_dir():
        raise FileNotFoundError(f"Cannot save {str(filepath)!r}: the folder {str(path.parent)!r} does not exist.")
    return path


def _hidden(name: str) -> str:
    return f".{name[:200]}.{secrets.token_hex(4)}.tmp"


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        was = "the existing file is unchanged" if path.exists() else "nothing was written"
        raise type(error)(error.errno, f"Cannot save {str(path)!r}: {error.strerror or error}; {was}") from error


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    if os.name == "posix":  # on other systems a folder cannot be opened
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
