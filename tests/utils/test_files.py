"""get_file, on URLs of local files."""

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from kstyle_torch.utils import get_file


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("one two")
    return path


def fetch(path, cache, **kwargs):
    return get_file(origin=path.as_uri(), cache_dir=cache, **kwargs)


def test_a_file_is_fetched_once(source, tmp_path):
    path = fetch(source, tmp_path / "cache")
    assert path == str(tmp_path / "cache" / "datasets" / "words.txt")
    source.write_text("three")
    again = get_file("words.txt", source.as_uri(), cache_dir=tmp_path / "cache")
    assert again == path and Path(path).read_text() == "one two"
    fetch(source, tmp_path / "cache", force_download=True)
    assert Path(path).read_text() == "three"
    assert [entry.name for entry in (tmp_path / "cache" / "datasets").iterdir()] == ["words.txt"]


def test_the_cache_is_where_keras_has_it(source, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    path = get_file("other.txt", source.as_uri(), cache_subdir="models")
    assert path == str(tmp_path / "home" / "models" / "other.txt")


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_digests(source, tmp_path, algorithm):
    digest = hashlib.new(algorithm, source.read_bytes()).hexdigest()
    path = fetch(source, tmp_path / "cache", file_hash=digest)
    with pytest.raises(ValueError, match=f"has the digest {digest}; expected"):
        fetch(source, tmp_path / "other", file_hash=digest[::-1])
    assert not [*(tmp_path / "other" / "datasets").iterdir()]
    Path(path).write_text("changed")
    with pytest.warns(UserWarning, match="another digest"):
        assert Path(fetch(source, tmp_path / "cache", file_hash=digest)).read_text() == "one two"


def archive_of(tmp_path, suffix, name="folder/words.txt"):
    path = tmp_path / f"data{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, "one two")
    else:
        with tarfile.open(path, "w:gz") as archive:
            entry = tarfile.TarInfo(name)
            entry.size = 7
            archive.addfile(entry, io.BytesIO(b"one two"))
    return path


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".tgz"])
@pytest.mark.parametrize("option", ["extract", "untar"])
def test_archives(tmp_path, suffix, option):
    path = archive_of(tmp_path, suffix)
    for _ in range(2):
        folder = fetch(path, tmp_path / "cache", **{option: True})
        assert folder == str(tmp_path / "cache" / "datasets" / "data_extracted")
        assert Path(folder, "folder", "words.txt").read_text() == "one two"


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_archives_write_nothing_elsewhere(tmp_path, suffix):
    path = archive_of(tmp_path, suffix, "../../escaped.txt")
    if suffix == ".tar.gz":
        with pytest.raises(ValueError, match="is refused"):
            fetch(path, tmp_path / "cache", extract=True)
    else:
        fetch(path, tmp_path / "cache", extract=True)
    assert not [
        *tmp_path.glob("**/datasets/escaped.txt"),
        *tmp_path.glob("escaped.txt"),
        *tmp_path.glob("cache/escaped.txt"),
    ]


def test_mistakes(source, tmp_path):
    with pytest.raises(ValueError, match="needs origin="):
        get_file("words.txt")
    with pytest.raises(ValueError, match="neither a tar nor a zip"):
        fetch(source, tmp_path / "cache", extract=True)
    with pytest.raises(OSError, match="cannot be read"):
        fetch(tmp_path / "missing.txt", tmp_path / "cache")
