"""Archives that get_file unpacks: whole or not at all, and nothing elsewhere."""

import gzip
import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from kstyle_torch.utils import archive, get_file
from kstyle_torch.utils.temporary import leftovers, unfinished

SUFFIXES = [".zip", ".tar", ".tar.gz", ".tar.bz2", ".tar.xz"]


def member(name, content=b"", kind=tarfile.REGTYPE, link="", mode=0o644):
    entry = tarfile.TarInfo(name)
    entry.size, entry.type, entry.linkname, entry.mode = len(content), kind, link, mode
    return entry, io.BytesIO(content)


def tar(path, *members, mode="w:gz"):
    with tarfile.open(path, mode) as file:
        for entry, content in members:
            file.addfile(entry, content)
    return path


def packed(folder, suffix, content):
    path = folder / f"data{suffix}"
    if suffix != ".zip":
        return tar(path, *(member(*item) for item in content.items()), mode=f"w:{suffix.removeprefix('.tar')[1:]}")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in content.items():
            file.writestr(name, text)
    return path


def fetch(path, **kwargs):
    return Path(get_file("data", path.as_uri(), cache_dir=path.parent / "cache", **{"extract": True, **kwargs}))


def content_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_archives(tmp_path, suffix):
    content = {"a.txt": b"one two", "folder/b.txt": b"three" * 1000}
    folder = fetch(packed(tmp_path, suffix, content))
    assert content_of(folder) == content
    assert sorted(path.name for path in folder.parent.iterdir()) == ["data", "data_archive"]


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
@pytest.mark.parametrize("left", [None, b"th"], ids=["missing", "cut"])  # cut: as a killed process of Keras leaves it
def test_what_is_missing_comes_back_and_the_rest_stays(tmp_path, suffix, left, monkeypatch):
    content = {"a.txt": b"one two", "b.txt": b"three", "c/d.txt": b"four"}
    path = packed(tmp_path, suffix, content)
    folder = fetch(path)
    (folder / "mine.txt").write_text("kept")
    (folder / "b.txt").unlink()
    if left:
        (folder / "b.txt").write_bytes(left)
    assert content_of(fetch(path)) == {**content, "mine.txt": b"kept"}
    monkeypatch.setattr(archive, "_write", None)
    fetch(path)  # is all there


def test_older_programs(tmp_path):
    path = packed(tmp_path, ".tar.gz", {"a.txt": b"one"})
    assert content_of(fetch(path, extract=False, untar=True)) == {"a.txt": b"one"}
    with pytest.raises(ValueError, match="not a tar archive"):
        fetch(packed(tmp_path, ".zip", {"a.txt": b"one"}), untar=True, force_download=True)
    assert fetch(path, archive_format=None).name == "data_archive"


def test_programs_can_be_run(tmp_path):
    folder = fetch(tar(tmp_path / "a.tar.gz", member("run.sh", b"exit", mode=0o755), member("read.txt", mode=0o644)))
    assert os.access(folder / "run.sh", os.X_OK)
    assert not (folder / "read.txt").stat().st_mode & 0o111


@pytest.mark.parametrize("name", ["../escaped.txt", "a/../../escaped.txt", "/tmp/escaped.txt"])
@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_names_that_lead_elsewhere(tmp_path, suffix, name):
    with pytest.raises(ValueError, match="leads out of the folder"):
        fetch(packed(tmp_path, suffix, {"a.txt": b"one", name: b"two"}))
    assert [path.name for path in (tmp_path / "cache/datasets").iterdir()] == ["data_archive"]


LINKS = {
    "to a parent": [member("out", kind=tarfile.SYMTYPE, link=".."), member("out/x.txt", b"one")],
    "to a root": [member("out", kind=tarfile.SYMTYPE, link="/etc/passwd")],
    "a hard one": [member("out", kind=tarfile.LNKTYPE, link="../secret.txt")],
    "to a folder": [member("a/b.txt", b"one"), member("out", kind=tarfile.SYMTYPE, link="a")],
    "to nothing": [member("out", kind=tarfile.SYMTYPE, link="missing")],
    "to each other": [member("a", kind=tarfile.SYMTYPE, link="b"), member("b", kind=tarfile.SYMTYPE, link="a")],
    "a pipe": [member("a", kind=tarfile.FIFOTYPE)],
}


@pytest.mark.parametrize("members", LINKS.values(), ids=LINKS)
def test_links_that_lead_elsewhere(tmp_path, members):
    with pytest.raises(ValueError, match="leads|device"):
        fetch(tar(tmp_path / "a.tar.gz", *members))
    assert [path.name for path in (tmp_path / "cache/datasets").iterdir()] == ["data_archive"]


def test_links_to_files_are_copies(tmp_path):
    links = [member("c/latest", kind=tarfile.SYMTYPE, link="../b"), member("b", kind=tarfile.LNKTYPE, link="a.txt")]
    folder = fetch(tar(tmp_path / "a.tar.gz", *links, member("a.txt", b"one")))
    assert content_of(folder) == {"a.txt": b"one", "b": b"one", "c/latest": b"one"}
    assert not [path for path in folder.rglob("*") if path.is_symlink()]


def bomb_of_zeros(path):
    return packed(path, ".tar.gz", {"a": bytes(2**21)})


def bomb_of_zeros_in_a_zip(path):
    return packed(path, ".zip", {"a": bytes(2**21)})


def bomb_of_files(path):
    return tar(path / "a.tar.gz", *(member(f"{number}") for number in range(200)))


def bomb_of_links(path):
    links = [member(f"{number}", kind=tarfile.LNKTYPE, link="a") for number in range(8)]
    return tar(path / "a.tar.gz", member("a", bytes(2**17)), *links)


def bomb_of_a_header(path):
    entry = tarfile.TarInfo("x")
    entry.type, entry.size = tarfile.XHDTYPE, 2**27
    with gzip.open(path / "a.tar.gz", "wb") as file:
        file.write(entry.tobuf())
    return path / "a.tar.gz"


@pytest.mark.parametrize(
    "make", [bomb_of_zeros, bomb_of_zeros_in_a_zip, bomb_of_files, bomb_of_links, bomb_of_a_header]
)
def test_bombs(tmp_path, monkeypatch, make):
    path = make(tmp_path)
    monkeypatch.setattr(archive, "MAX_RATIO", 10)
    monkeypatch.setattr(archive, "FREE_BYTES", 2**20)
    with pytest.raises(ValueError, match="out of proportion|a header of"):
        fetch(path)
    assert [path.name for path in (tmp_path / "cache/datasets").iterdir()] == ["data_archive"]


def test_a_bomb_is_not_even_skipped_through(tmp_path, monkeypatch):
    """A huge member before the first file that is missing from the folder."""
    monkeypatch.setattr(archive, "MAX_RATIO", 10)
    monkeypatch.setattr(archive, "FREE_BYTES", 2**20)
    path = packed(tmp_path, ".tar.gz", {"a": bytes(2**21), "b": b""})
    with archive._opened_tar(path) as opened, pytest.raises(ValueError, match="out of proportion"):
        opened.getmembers()


def cut(path):
    path.write_bytes(path.read_bytes()[:-30])
    return path


def damaged_header(path):
    """Of the second file; tarfile takes it for the end."""
    content = bytearray(path.read_bytes())
    content[1024 + 148] ^= 1
    path.write_bytes(content)
    return path


def cut_after_a_file(path):
    path.write_bytes(path.read_bytes()[:1024])
    return path


def flipped(path):
    """A bit of stored data, which only the checksum at the end tells."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    stored = bytearray(gzip.compress(bytes(content), 0))
    stored[stored.index(content[512:532])] ^= 1
    path.write_bytes(stored)
    return path


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [(f".{suffix}", cut) for suffix in ("zip", "tar.gz", "tar.bz2", "tar.xz")]
    + [(".tar", damaged_header), (".tar", cut_after_a_file), (".tar.gz", flipped)],
    ids=["zip", "gz", "bz2", "xz", "header", "tar", "checksum"],
)
def test_damaged_archives(tmp_path, suffix, damage):
    path = damage(packed(tmp_path, suffix, {"a.txt": os.urandom(100), "b.txt": os.urandom(100)}))
    with pytest.raises(ValueError, match=r"data_archive is not unpacked"):
        fetch(path)
    assert [path.name for path in (tmp_path / "cache/datasets").iterdir()] == ["data_archive"]


def test_no_archive(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("one two")
    with pytest.raises(ValueError, match="it is not a tar or zip archive"):
        fetch(path)


def test_a_run_that_was_killed_while_files_were_moved_in(tmp_path):
    """Sizes do not tell then; the unfinished folder does."""
    path = packed(tmp_path, ".zip", {"a.txt": b"one"})
    folder = fetch(path)
    (folder / "a.txt").write_text("old")
    with unfinished(folder, is_folder=True):
        assert content_of(fetch(path)) == {"a.txt": b"one"}
    assert not leftovers(folder)


def test_another_process_is_faster(tmp_path, monkeypatch):
    path = packed(tmp_path, ".zip", {"a.txt": b"one", "b/c.txt": b"two"})
    write = archive._write

    def slow(*arguments):
        write(*arguments)
        monkeypatch.setattr(archive, "_write", write)
        fetch(path)

    monkeypatch.setattr(archive, "_write", slow)
    assert content_of(fetch(path)) == {"a.txt": b"one", "b/c.txt": b"two"}
