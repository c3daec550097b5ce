"""get_file, on URLs of local files: names, the cache and digests."""

import hashlib
import os
import zipfile
from pathlib import Path

import pytest

from kstyle_torch.utils import files, get_file


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("one two")
    return path


@pytest.fixture
def packed(tmp_path):
    path = tmp_path / "data.v1.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("folder/words.txt", "one two")
    return path


def fetch(path, cache, **kwargs):
    return get_file(origin=path.as_uri(), cache_dir=cache, **kwargs)


def names_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_file_is_fetched_once(source, tmp_path):
    path = fetch(source, tmp_path / "cache")
    assert path == str(tmp_path / "cache" / "datasets" / "words.txt")
    source.write_text("three")
    again = get_file("words.txt", source.as_uri(), cache_dir=tmp_path / "cache")
    assert again == path and Path(path).read_text() == "one two"
    with open(path) as old:
        fetch(source, tmp_path / "cache", force_download=True)
        assert old.read() == "one two"  # the file is replaced, not written into
    assert Path(path).read_text() == "three"
    assert names_in(tmp_path / "cache") == ["datasets", "datasets/words.txt"]


@pytest.mark.parametrize("fname", [None, "data.v2.zip", "data"])
@pytest.mark.parametrize("extract", [False, True])
def test_names_in_the_cache_are_those_of_keras(keras, packed, tmp_path, fname, extract):
    found = {}
    for name, function in {"ours": get_file, "theirs": keras.utils.get_file}.items():
        cache = tmp_path / name
        cache.mkdir()  # Keras goes elsewhere if it is not there
        path = function(fname, packed.as_uri(), cache_dir=cache, extract=extract)
        found[name] = str(Path(path).relative_to(cache)), names_in(cache)
    assert found["ours"] == found["theirs"]


def test_the_cache_is_where_keras_has_it(source, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KERAS_HOME", raising=False)
    assert get_file("other.txt", source.as_uri()) == str(tmp_path / ".keras" / "datasets" / "other.txt")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    path = get_file("other.txt", source.as_uri(), cache_subdir="models")
    assert path == str(tmp_path / "home" / "models" / "other.txt")


def test_a_cache_that_cannot_be_written_is_read(source, tmp_path, monkeypatch):
    cache, other = tmp_path / "cache", tmp_path / "other"
    path = fetch(source, cache)
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).startswith(str(cache)))
    monkeypatch.setattr(files, "_temporary_cache", lambda: other)
    assert fetch(source, cache) == path
    with pytest.warns(UserWarning, match="cannot be written"):
        assert fetch(source, cache, fname="new.txt") == str(other / "datasets" / "new.txt")


def test_the_cache_for_temporary_files_is_ones_own(tmp_path, monkeypatch):
    monkeypatch.setattr(os.path, "isdir", lambda path: False)
    monkeypatch.setattr(files.tempfile, "gettempdir", lambda: str(tmp_path))
    assert files._temporary_cache() == tmp_path / ".keras"
    (tmp_path / ".keras").rmdir()
    (tmp_path / ".keras").symlink_to(tmp_path)
    with pytest.raises(OSError, match="belongs to another user"):
        files._temporary_cache()


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_digests(source, tmp_path, algorithm):
    digest = hashlib.new(algorithm, source.read_bytes()).hexdigest()
    path = fetch(source, tmp_path / "cache", file_hash=digest)
    with pytest.raises(ValueError, match=f"has the digest {digest}; expected"):
        fetch(source, tmp_path / "other", file_hash=digest[::-1])
    assert not [*(tmp_path / "other" / "datasets").iterdir()]
    Path(path).write_text("changed")
    with pytest.warns(UserWarning, match="the expected digest"):
        assert Path(fetch(source, tmp_path / "cache", file_hash=digest)).read_text() == "one two"


def test_the_older_name_of_a_digest(source, tmp_path):
    digest = hashlib.md5(source.read_bytes()).hexdigest()
    assert fetch(source, tmp_path / "cache", md5_hash=digest)
    with pytest.raises(ValueError, match="has the digest"):
        fetch(source, tmp_path / "other", md5_hash=hashlib.sha256(source.read_bytes()).hexdigest())


def test_without_a_connection(source, tmp_path):
    path, digest = tmp_path / "cache" / "datasets" / "words.txt", "0" * 64
    source.unlink()
    with pytest.raises(OSError) as caught:
        fetch(source, tmp_path / "cache", file_hash=digest)
    assert source.as_uri() in str(caught.value)
    assert f"(its sha256 digest is {digest}) and save it as {path}." in str(caught.value)
    assert not [*path.parent.iterdir()]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fname": "words.txt"}, "needs origin="),
        ({"origin": "http://127.0.0.1/"}, "does not end with a name"),
        ({"fname": "a/b.txt", "origin": "file:///b.txt"}, "without folders"),
        ({"origin": "file:///a/.."}, "without folders"),
        ({"origin": "file:///a.rar", "archive_format": "rar"}, "archive_format must be"),
    ],
    ids=["no origin", "no name", "a path", "a parent", "a format"],
)
def test_mistakes(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        get_file(**arguments, cache_dir=tmp_path)
