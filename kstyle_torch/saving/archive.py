"""The container of a `.keras` file: a zip file, or a folder with the same members. It is untrusted input."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from kstyle_torch.saving import untrusted

CONFIG, METADATA, WEIGHTS, ASSETS = "config.json", "metadata.json", "model.weights.h5", "assets"
MAX_EXPANSION = 100  # how many times its stored size a compressed member may have
FREE_SIZE = 1 << 20  # bytes; smaller members are not checked for expansion
MAX_CONFIG = 1 << 28
MAX_MEMBERS = 100_000
IN_MEMORY = 1 << 28  # larger weights are unpacked to the disk


class Source:
    """Source of a file's members: `text(name)`, `binary(name)`, `folder(name)`, and the names of all files."""

    names: frozenset[str]

    def text(self, name: str) -> str:
        """Returns a whole file, as text.

        Raises: ValueError: if it is missing, too large, or not text.
        """
        self._need(name)
        if self.size(name) > MAX_CONFIG:
            raise ValueError(f"{name} has {self.size(name)} bytes; more than {MAX_CONFIG} are not read.")
        try:
            with self.binary(name) as file:
                return file.read().decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"{name} is not text.") from error

    def json(self, name: str) -> Any:
        """Returns the content of a JSON file.

        Raises: ValueError: if it is not JSON, or nested too deeply.
        """
        return untrusted.parse_json(self.text(name), name)

    def _need(self, name: str) -> None:
        if name not in self.names:
            raise ValueError(f"It has no {name}; it has {', '.join(sorted(self.names)[:8]) or 'nothing'}.")

    def size(self, name: str) -> int:
        """Returns the size of a file in bytes; 0 if it does not exist."""
        raise NotImplementedError

    def stored(self, name: str) -> int:
        """Returns the stored size of a file in bytes, which is smaller if it is compressed."""
        return self.size(name)

    def binary(self, name: str) -> contextlib.AbstractContextManager[IO[bytes]]:
        """Returns an open, seekable file."""
        raise NotImplementedError

    def folder(self, name: str) -> contextlib.AbstractContextManager[Path | None]:
        """Returns the path of a folder of files on the disk; None if it does not exist."""
        raise NotImplementedError


class ZipSource(Source):
    """A zip file, its members checked before any is read.

    Args:
        file: The zip file.
        archive_size: Its size in bytes.
    Raises: ValueError: for members outside the archive's own folder, links, members that declare a much larger size than
        is stored, or a file that is not a zip file.
    """

    def __init__(self, file: zipfile.ZipFile, archive_size: int):
        self.file = file
        members = file.infolist()
        if len(members) > MAX_MEMBERS:
            raise ValueError(f"It has {len(members)} members; more than {MAX_MEMBERS} are not read.")
        for member in members:
            check_member(member)
        if sum(member.compress_size for member in members) > archive_size:
            raise ValueError("Its members claim to be longer than it is.")
        self.names = frozenset(member.filename for member in members if not member.is_dir())
        if len({member.filename for member in members}) < len(members):
            raise ValueError("It has two members with the same name.")

    def size(self, name: str) -> int:
        return self.file.getinfo(name).file_size if name in self.names else 0

    def stored(self, name: str) -> int:
        return self.file.getinfo(name).compress_size if name in self.names else 0

    @contextlib.contextmanager
    def binary(self, name: str) -> Iterator[IO[bytes]]:
        self._need(name)
        with tempfile.SpooledTemporaryFile(IN_MEMORY) as unpacked:
            with broken_zip(), self.file.open(name) as packed:
                shutil.copyfileobj(packed, unpacked, 1 << 20)  # reads to the end, where the checksum is compared
            unpacked.seek(0)
            yield unpacked

    @contextlib.contextmanager
    def folder(self, name: str) -> Iterator[Path | None]:
        inside = [each for each in self.names if each.startswith(f"{name}/")]
        if not inside:
            yield None
            return
        with tempfile.TemporaryDirectory() as unpacked:
            for each in inside:
                target = Path(unpacked, *PurePosixPath(each).parts[1:])
                target.parent.mkdir(parents=True, exist_ok=True)
                with broken_zip(), self.file.open(each) as packed, target.open("wb") as file:
                    shutil.copyfileobj(packed, file, 1 << 20)
            yield Path(unpacked)


def check_member(member: zipfile.ZipInfo) -> None:
    """Raises a ValueError for a zip member that no Keras file needs: see `ZipSource`."""
    name, path = member.filename, PurePosixPath(member.filename)
    is_outside = path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name
    if is_outside or not path.parts:
        raise ValueError(f"Its member {untrusted.shortened(name)} lies outside of the archive.")
    if any(len(part.encode()) > untrusted.MAX_NAME for part in path.parts):
        raise ValueError(f"Its member {untrusted.shortened(name)} has a name that is too long.")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise ValueError(f"Its member {name!r} is a link.")
    if member.flag_bits & 1:
        raise ValueError(f"Its member {name!r} is encrypted.")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"Its member {name!r} is compressed in a way that Keras does not use.")
    limit = member.compress_size * (1 if member.compress_type == zipfile.ZIP_STORED else MAX_EXPANSION)
    if member.file_size > max(limit, FREE_SIZE):
        raise ValueError(f"Its member {name!r} claims {member.file_size} bytes, but {member.compress_size} are stored.")


@contextlib.contextmanager
def broken_zip() -> Iterator[None]:
    """Converts the errors of zipfile for a broken file to ValueError."""
    try:
        yield
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, zipfile.zlib.error) as error:  # type: ignore[attr-defined]
        raise ValueError(f"It is broken: {error}.") from error


class FolderSource(Source):
    """A folder as `save_model(zipped=False)` writes it.

    Raises: ValueError: if a file of the model is a link, pipe or device; other files in the folder are not checked.
    """

    def __init__(self, root: Path):
        self.root = root
        there = [root / name for name in (CONFIG, METADATA, WEIGHTS, ASSETS) if os.path.lexists(root / name)]
        for path in there:
            untrusted.check_members(path, root)
        files = [path for each in there for path in ([each] if each.is_file() else each.rglob("*")) if path.is_file()]
        self.names = frozenset(path.relative_to(root).as_posix() for path in files)

    def size(self, name: str) -> int:
        return (self.root / name).stat().st_size if name in self.names else 0

    @contextlib.contextmanager
    def binary(self, name: str) -> Iterator[IO[bytes]]:
        self._need(name)
        with (self.root / name).open("rb") as file:
            yield file

    @contextlib.contextmanager
    def folder(self, name: str) -> Iterator[Path | None]:
        inside = any(each.startswith(f"{name}/") for each in self.names)
        yield self.root / name if inside else None


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Source]:
    """Opens the source at a path.

    Raises: FileNotFoundError: if it does not exist. ValueError: if it is neither a zip file nor a folder of a model.
    """
    if path.is_dir():
        yield FolderSource(path)
        return
    untrusted.check_file(path)
    try:
        file = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"It is not a zip file, or it is truncated: {error}.") from error
    with file:
        yield ZipSource(file, path.stat().st_size)


def write_zip(target: Path, folder: Path) -> None:
    """Packs a folder as Keras does: uncompressed, metadata and config first."""
    with zipfile.ZipFile(target, "w") as file:
        first = [folder / name for name in (METADATA, CONFIG, WEIGHTS)]
        rest = sorted(path for path in folder.rglob("*") if path.is_file() and path not in first)
        for path in (*first, *rest):
            file.write(path, path.relative_to(folder).as_posix())


def make_scratch(beside: Path) -> contextlib.AbstractContextManager[str]:
    """Returns a temporary folder on the disk of the target, so that the result can be renamed into place."""
    return tempfile.TemporaryDirectory(
        dir=beside, prefix=".keras-", suffix=".tmp", ignore_cleanup_errors=os.name == "nt"
    )
