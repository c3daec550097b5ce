"""Downloaded files in Keras' cache: `get_file`."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
import urllib.parse
import warnings
from pathlib import Path
from typing import Any

from kstyle_torch import config
from kstyle_torch.utils.archive import unpack
from kstyle_torch.utils.download import download
from kstyle_torch.utils.temporary import unfinished

BLOCK = 2**20
FORMATS = ("tar", "zip")


def get_file(
    fname: Any = None,
    origin: str | None = None,
    untar: bool = False,
    md5_hash: str | None = None,
    file_hash: str | None = None,
    cache_subdir: str = "datasets",
    hash_algorithm: str = "auto",
    extract: bool = False,
    archive_format: Any = "auto",
    cache_dir: Any = None,
    force_download: bool = False,
) -> str:
    """Downloads a file, unless it is in the cache already.

    Downloads and unpacked folders have temporary names until they are complete.

    Args:
        fname: Its name in the cache; the last part of `origin` if None. For an archive to unpack: the folder's name
            if it has no dot, else that of the archive, and the folder is named `NAME_extracted`.
        origin: Its URL.
        untar: Unpacks a tar archive, in older programs.
        md5_hash: The file's MD5 digest, in older programs.
        file_hash: The file's digest, in hexadecimal.
        cache_subdir: Folder in the cache.
        hash_algorithm: `"md5"`, `"sha256"`, or `"auto"`: by the length of `file_hash`.
        extract: Unpacks the archive; files that are missing from its folder are restored.
        archive_format: `"tar"`, `"zip"`, a list of them or `"auto"`, both; None for no archive.
        cache_dir: The cache; `$KERAS_HOME` or `~/.keras` if None.
        force_download: Downloads it even if it is there.
    Returns: The path of the file; with `extract`, of the folder it was unpacked into.
    Raises: ValueError: without origin, or for a file with another digest, or an archive that cannot be unpacked safely.
        OSError: if the download fails; the message says how to proceed without a connection.
    """
    if origin is None:
        raise ValueError("get_file() needs origin=, the URL of the file.")
    if md5_hash is not None and file_hash is None:
        file_hash, hash_algorithm = md5_hash, "md5"
    formats = _formats("tar" if untar else archive_format)
    name, folder_name = _names(fname, origin, unpacked=extract or untar)
    path = _cached(name, cache_dir, cache_subdir)
    wanted = (file_hash or "").lower() or None
    if path.is_file() and not force_download and wanted is not None and _digest(path, hash_algorithm, wanted) != wanted:
        warnings.warn(f"{path} does not have the expected digest; it is downloaded again.", stacklevel=2)
        force_download = True
    if force_download or not path.is_file():
        _fetch(origin, path, wanted, hash_algorithm)
    if not (extract or untar) or not formats:
        return str(path)
    unpack(path, path.with_name(folder_name), formats)
    return str(path.with_name(folder_name))


def _formats(archive_format: Any) -> tuple[str, ...]:
    if archive_format == "auto":
        return FORMATS
    formats = (archive_format,) if isinstance(archive_format, str) else tuple(archive_format or ())
    if not {*formats} <= {*FORMATS}:
        raise ValueError(
            f"archive_format must be 'tar', 'zip', a list of them, 'auto' or None; got {archive_format!r}."
        )
    return formats


def _names(fname: Any, origin: str, unpacked: bool) -> tuple[str, str]:
    """Returns the names of the file and of the folder for its content, as Keras chooses them."""
    given = os.fspath(fname) if fname else ""
    name = given or os.path.basename(urllib.parse.urlsplit(origin).path)
    if not name:
        raise ValueError(f"The URL {origin} does not end with a name; give fname=.")
    if name in (".", "..") or any(separator in name for separator in (os.sep, os.altsep) if separator):
        raise ValueError(
            f"fname is the name of a file, without folders; got {name!r}. cache_dir and cache_subdir name folders."
        )
    if not unpacked:
        return name, ""
    if "." in given:
        return name, f"{name.partition('.')[0]}_extracted"
    return f"{name}_archive", name


def _cached(name: str, cache_dir: Any, subfolder: str) -> Path:
    """Returns the file's path if it exists, else a path in a writable folder."""
    root = Path(cache_dir).expanduser() if cache_dir else config.home()
    folder = root / subfolder
    if not (folder / name).is_file():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            folder = _temporary_cache() / subfolder
            folder.mkdir(parents=True, exist_ok=True)
            warnings.warn(f"The cache {root} cannot be written; {folder} is used instead.", stacklevel=3)
    return folder / name


def _temporary_cache() -> Path:
    """Returns Keras' fallback cache, in the folder for temporary files, which other users can write to."""
    root = Path("/tmp" if os.path.isdir("/tmp") else tempfile.gettempdir(), ".keras")
    root.mkdir(mode=0o700, exist_ok=True)
    found = root.lstat()
    if not stat.S_ISDIR(found.st_mode) or (os.name == "posix" and found.st_uid != os.geteuid()):
        raise OSError(
            f"{root} belongs to another user. Set KERAS_HOME, or pass cache_dir=, to use a cache of your own."
        )
    return root


def _fetch(origin: str, path: Path, wanted: str | None, algorithm: str) -> None:
    with unfinished(path) as part:
        try:
            download(origin, part)
        except OSError as error:
            if error.errno is not None:  # an error of the disk
                raise
            digest = "" if wanted is None else f" (its {_algorithm(algorithm, wanted)} digest is {wanted})"
            raise OSError(
                f"Cannot download {origin}: {error}. Without a connection, download it elsewhere{digest} and save it as {path}."
            ) from error
        found = None if wanted is None else _digest(part, algorithm, wanted)
        if found != wanted:
            raise ValueError(f"{origin} has the digest {found}; expected {wanted}. The download was deleted.")
        os.replace(part, path)


def _algorithm(name: str, wanted: str) -> str:
    return name if name != "auto" else "sha256" if len(wanted) == 64 else "md5"


def _digest(path: Path, algorithm: str, wanted: str) -> str:
    digest = hashlib.new(_algorithm(algorithm, wanted), usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
