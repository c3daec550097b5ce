"""Temporary files and folders beside their target, with cleanup of those that killed processes left."""

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
except ImportError:  # Windows: leftovers of killed processes stay, since they cannot be recognized
    fcntl = None  # type: ignore[assignment]

END = ".part"


@contextlib.contextmanager
def unfinished(target: Path, is_folder: bool = False) -> Iterator[Path]:
    """Yields an empty file or folder beside `target`, to be renamed when it is complete, else deleted.

    It is locked while the process lives; the kernel releases the lock when the process ends in any way. Leftovers of
    killed processes for the same target are deleted after the new one was created, so that a trace of them always exists.

    Args:
        target: The final name.
        is_folder: Whether to create a folder.
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
    """Returns the prefix of temporary names: the target's name, truncated (the limit is 255 bytes), and its checksum."""
    return f".{target.name[:40]}.{zlib.crc32(os.fsencode(target.name)):08x}."


def _made(target: Path, is_folder: bool) -> tuple[Path, int]:
    """Creates the file or folder. Returns: Its path, and the descriptor that holds its lock."""
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
        os.close(lock)  # another process deleted it as a leftover before it was locked


def _locked(descriptor: int) -> bool:
    """Locks a file or folder. Returns: False if a living process holds it, or locks are not supported."""
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
