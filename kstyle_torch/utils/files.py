"""Files from elsewhere, kept in a cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import urllib.error
import urllib.parse
import urllib.request
import warnings
import zipfile
from pathlib import Path
from typing import Any

BLOCK = 2**20
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


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

    Args:
        fname: Its name in the cache; the last part of `origin` if None.
        origin: Its URL.
        untar: The same as `extract`, in older programs.
        md5_hash: The same as `file_hash`, in older programs.
        file_hash: What the file's digest must be, in hexadecimal.
        cache_subdir: Folder in the cache.
        hash_algorithm: `"md5"`, `"sha256"`, or `"auto"`: by the length of `file_hash`.
        extract: Whether it is an archive to be unpacked.
        archive_format: `"tar"`, `"zip"` or `"auto"`; None for no archive.
        cache_dir: The cache; `$KERAS_HOME` or `~/.keras` if None.
        force_download: Whether the cache is passed over.
    Returns: The path of the file; with `extract`, of the folder it was unpacked into.
    Raises: ValueError: without origin, or for a file with another digest, or an archive that writes elsewhere.
        OSError: if it cannot be had.
    """
    if origin is None:
        raise ValueError("get_file() needs origin=, the URL of the file.")
    name = Path(urllib.parse.urlparse(origin).path if fname is None else os.fspath(fname)).name
    if not name:
        raise ValueError(f"The URL {origin} does not end with a name; give fname=.")
    root = Path(cache_dir or os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    path = root / cache_subdir / name
    path.parent.mkdir(parents=True, exist_ok=True)
    wanted = (file_hash or md5_hash or "").lower() or None
    if path.is_file() and not force_download and wanted is not None and _digest(path, hash_algorithm, wanted) != wanted:
        warnings.warn(f"{path} has another digest than asked for; it is downloaded anew.", stacklevel=2)
        force_download = True
    if force_download or not path.is_file():
        _download(origin, path, wanted, hash_algorithm)
    return str(_extracted(path, archive_format)) if extract or untar else str(path)


def _download(origin: str, path: Path, wanted: str | None, algorithm: str) -> None:
    """Into a file beside, which gets its name once it is whole and what was asked for."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with urllib.request.urlopen(origin) as source, beside.open("wb") as target:
            shutil.copyfileobj(source, target, BLOCK)
        found = None if wanted is None else _digest(beside, algorithm, wanted)
        if found != wanted:
            raise ValueError(f"{origin} has the digest {found}; expected {wanted}.")
        os.replace(beside, path)
    except urllib.error.URLError as error:
        raise OSError(f"{origin} cannot be read: {error.reason}") from error
    finally:
        beside.unlink(missing_ok=True)


def _digest(path: Path, algorithm: str, wanted: str) -> str:
    name = algorithm if algorithm != "auto" else "sha256" if len(wanted) == 64 else "md5"
    digest = hashlib.new(name, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _extracted(path: Path, archive_format: Any) -> Path:
    """The folder beside the archive that holds what was in it; nothing is written outside of that."""
    name = path.name
    suffix = next((end for end in (*TAR_SUFFIXES, ".zip") if name.endswith(end)), "")
    folder = path.with_name(f"{name.removesuffix(suffix)}_extracted")
    if folder.is_dir() and folder.stat().st_mtime >= path.stat().st_mtime:
        return folder
    if archive_format is None:
        return path
    folder.mkdir(exist_ok=True)
    try:
        if tarfile.is_tarfile(path):
            with tarfile.open(path) as archive:
                archive.extractall(folder, filter="data")
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as packed:
                packed.extractall(folder)  # names that lead elsewhere are made to stay inside
        else:
            raise ValueError(f"{path} is neither a tar nor a zip archive.")
    except BaseException as error:
        shutil.rmtree(folder)
        if isinstance(error, tarfile.FilterError):
            raise ValueError(f"{path} is refused: {error}") from error
        raise
    os.utime(folder)
    return folder
