"""Safe unpacking of untrusted archives: completely or not at all, and only into their folder."""

from __future__ import annotations

import bz2
import contextlib
import functools
import gzip
import lzma
import os
import posixpath
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from kstyle_torch.utils.temporary import leftovers, unfinished

BLOCK = 2**20
FREE_BYTES = 2**32  # unpacked size that is allowed for any archive
MAX_RATIO = 100  # limit of the compression ratio beyond that; texts and tables reach about 20
ENTRY_BYTES = 2**14  # cost of an empty file, which takes memory and a block of the disk
MAX_READ = 2**26  # limit of a single read of tarfile, which trusts the declared length of headers

COMPRESSIONS: dict[bytes, Callable[[Path], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError)
UNREADABLE = (NotImplementedError, RuntimeError)  # unsupported compression; password


class Entry(NamedTuple):
    """A file or folder in an archive."""

    path: Path  # relative
    size: int = 0
    is_folder: bool = False
    is_executable: bool = False
    link: Path | None = None  # file in the archive that this one links to
    open: Callable[[], Any] | None = None


def unpack(path: Path, folder: Path, formats: tuple[str, ...]) -> None:
    """Unpacks an archive into a folder, unless all of its files exist.

    It is unpacked beside the folder. If the folder does not exist, the result is renamed; otherwise its files are moved
    one by one, and other files are kept. An interrupted run is detected and repeated.

    Args:
        path: The archive.
        folder: Folder for its content.
        formats: `"tar"` and `"zip"`, in the order to try.
    Raises: ValueError: for what is not an archive or a damaged one, names or links that lead out of the folder, devices,
        and content out of proportion to the archive's size.
    """
    with _explained(path):
        entries = _reader(path, formats)
        if folder.is_dir() and not leftovers(folder) and all(_is_there(folder, entry) for entry in entries(path)):
            return
        with unfinished(folder, is_folder=True) as stage:
            _write(entries(path), stage, max(FREE_BYTES, MAX_RATIO * path.stat().st_size))
            _settle(stage, folder)


def _is_there(folder: Path, entry: Entry) -> bool:
    path = folder / entry.path
    if entry.is_folder:
        return path.is_dir()
    return path.is_file() and (entry.link is not None or path.stat().st_size == entry.size)


def _write(entries: Iterator[Entry], stage: Path, limit: int) -> None:
    """Writes files and folders; links become copies, since a link could lead later files out of the folder."""
    links, written = [], 0
    for entry in entries:
        written = _counted(written, entry.size, limit)
        path = stage / entry.path
        if entry.is_folder:
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if entry.open is None:
            links.append(entry)
            continue
        with entry.open() as source, path.open("wb") as target:
            shutil.copyfileobj(source, target, BLOCK)
        if entry.is_executable:
            path.chmod(path.stat().st_mode | 0o100)
    while links:
        waiting = [entry for entry in links if not (stage / str(entry.link)).is_file()]
        if len(waiting) == len(links):
            raise ValueError(f"its link {str(links[0].path)!r} leads to {str(links[0].link)!r}, not to a file in it")
        for entry in links:
            if entry not in waiting:
                written = _counted(written, (stage / str(entry.link)).stat().st_size, limit)
                shutil.copy(stage / str(entry.link), stage / entry.path)
        links = waiting


def _counted(written: int, size: int, limit: int) -> int:
    written += max(size, ENTRY_BYTES)
    if written > limit:
        raise ValueError(f"it would unpack to more than {limit:,} bytes, out of proportion to its size")
    return written


def _settle(stage: Path, folder: Path) -> None:
    """Renames the folder, or moves its files into an existing one."""
    if not folder.is_dir():
        try:
            os.rename(stage, folder)
            return
        except OSError:
            if not folder.is_dir():  # unless another process was faster
                raise
    for path in sorted(stage.rglob("*")):  # folders before their content
        place = folder / path.relative_to(stage)
        if path.is_dir():
            place.mkdir(exist_ok=True)
        else:
            os.replace(path, place)


def _reader(path: Path, formats: tuple[str, ...]) -> Callable[[Path], Iterator[Entry]]:
    for name in formats:
        if name == "tar" and _is_tar(path):
            return _tar_entries
        if name == "zip" and zipfile.is_zipfile(path):
            return _zip_entries
    raise ValueError(f"it is not a {' or '.join(formats)} archive")


def _is_tar(path: Path) -> bool:
    try:
        with _opened_tar(path):
            return True
    except tarfile.ReadError:
        return False


@contextlib.contextmanager
def _opened_tar(path: Path) -> Iterator[tarfile.TarFile]:
    with path.open("rb") as file:
        start = file.read(6)
    opened = next((function for magic, function in COMPRESSIONS.items() if start.startswith(magic)), None)
    with opened(path) if opened else path.open("rb") as raw:
        limit = max(FREE_BYTES, MAX_RATIO * path.stat().st_size)
        with tarfile.open(fileobj=_Limited(raw, limit), mode="r:") as archive:  # type: ignore[call-overload]
            yield archive


class _Limited:
    """File with limits for its reader, since tarfile trusts the sizes in headers."""

    def __init__(self, raw: IO[bytes], limit: int):
        self.raw, self.limit, self.tell = raw, limit, raw.tell

    def read(self, size: int) -> bytes:
        """Reads at most `size` bytes."""
        if not 0 <= size <= MAX_READ:
            raise ValueError(f"it has a header of {size:,} bytes")
        content = self.raw.read(size)
        self._check(self.raw.tell())
        return content

    def seek(self, position: int) -> int:
        """Moves to a position, counted from the start."""
        self._check(position)
        return self.raw.seek(position)

    def _check(self, position: int) -> None:
        if position > self.limit:
            raise ValueError(f"it would unpack to more than {self.limit:,} bytes, out of proportion to its size")


def _tar_entries(path: Path) -> Iterator[Entry]:
    with _opened_tar(path) as archive:
        for member in archive:
            place = _inside(member.name)
            if member.isdir():
                yield Entry(place, is_folder=True)
            elif member.isreg():  # sparse files, too
                opened = functools.partial(archive.extractfile, member)
                yield Entry(place, member.size, is_executable=bool(member.mode & 0o100), open=opened)
            elif member.islnk():
                yield Entry(place, link=_inside(member.linkname))
            elif member.issym():
                target = posixpath.join(posixpath.dirname(member.name), member.linkname)
                yield Entry(place, link=_inside(posixpath.normpath(target)))
            else:
                raise ValueError(f"{member.name!r} in it is a device or a pipe")
        _check_end(archive.fileobj, archive.offset)


def _check_end(file: Any, position: int) -> None:
    """Checks that a tar archive ends where tarfile stopped, which also stops at damaged headers and truncated files."""
    file.seek(position)
    mark = file.read(tarfile.BLOCKSIZE)
    if len(mark) < tarfile.BLOCKSIZE or mark.strip(b"\0"):
        raise tarfile.ReadError("it is truncated" if not mark else "a header in the middle is damaged")
    while file.read(BLOCK):  # to the end, to check the checksum of compressed data
        pass


def _zip_entries(path: Path) -> Iterator[Entry]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            place = _inside(info.filename)
            if info.is_dir():
                yield Entry(place, is_folder=True)
            else:
                yield Entry(place, info.file_size, open=functools.partial(archive.open, info))


def _inside(name: str) -> Path:
    """Returns a name in an archive as a relative path.

    Raises: ValueError: if it leads elsewhere.
    """
    path = Path(name)
    if path.anchor or ".." in path.parts:
        raise ValueError(f"{name!r} in it leads out of the folder")
    return path


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Converts errors of an archive to ValueError; errors of the disk are not changed."""
    try:
        yield
    except (ValueError, *DAMAGED, *UNREADABLE, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        damaged = isinstance(error, (*DAMAGED, OSError))  # bz2 raises an OSError without a number
        advice = " It may be damaged: force_download=True downloads it again." if damaged else ""
        raise ValueError(f"{path} is not unpacked: {error}.{advice}") from error
