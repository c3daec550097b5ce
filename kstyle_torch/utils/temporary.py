"""Unfinished files and folders beside their target, told apart from those that killed processes left."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: the leftovers of killed processes stay, since nothing tells that they are
    fcntl = None  # type: ignore[assignment]

END = ".part"


@contextlib.contextmanager
def unfinished(target: Path, is_folder: bool = False) -> Iterator[Path]:
    """Makes an empty file or folder beside `target`, to be renamed when it is whole; what is left of it is deleted.

    It is locked as long as the process lives; the kernel unlocks it when the process ends, however it ends. What killed
    processes left for the same target is deleted after the new one was made, so that there is always a trace of them.

    Args:
        target: The name that it will get.
        is_folder: Makes a folder.
    """
    path, lock = _made(target, is_folder)
    try:
        for other in leftovers(target):
            if other != path:
                _delete_if_abandoned(other)
        yield path
    finally:
        _delete(path)
        os.close(lock)


def leftovers(target: Path) -> list[Path]:
    """Returns the unfinished files and folders for `target`, of living and of killed processes."""
    start = _start(target)
    return [path for path in target.parent.iterdir() if path.name.startswith(start) and path.name.endswith(END)]


def _start(target: Path) -> str:
    """Returns how the names begin: with that of the target, cut (255 bytes are allowed), and a checksum of all of it."""
    return f".{target.name[:40]}.{zlib.crc32(os.fsencode(target.name)):08x}."


def _made(target: Path, is_folder: bool) -> tuple[Path, int]:
    """Makes the file or folder, and returns it with the descriptor that holds its lock."""
    while True:
        path = target.with_name(f"{_start(target)}{secrets.token_hex(8)}{END}")
        if is_folder:
            path.mkdir()
        else:
            path.touch(exist_ok=False)
        lock = os.open(os.devnull if fcntl is None else path, os.O_RDONLY)
        _locked(lock)
        if path.exists():
            return path, lock
        os.close(lock)  # another process took it for a leftover before it was locked


def _locked(descriptor: int) -> bool:
    """Locks a file or folder; returns False if a living process holds it, or if locks do not work here."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (AttributeError, OSError):  # AttributeError: without fcntl
        return False
    return True


def _delete_if_abandoned(path: Path) -> None:
    with contextlib.suppress(OSError):  # another process was faster
        lock = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        try:
            if _locked(lock):
                _delete(path)
        finally:
            os.close(lock)


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
