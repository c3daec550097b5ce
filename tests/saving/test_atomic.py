"""Files that are replaced whole or not at all."""

import contextlib
import os
import stat
import subprocess
import sys

import pytest

from kstyle_torch.saving.atomic import replacing, replacing_folder, write_bytes, write_text


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")
    with contextlib.suppress(KeyError), replacing(path) as unfinished:
        unfinished.write_bytes(b"half")
        raise KeyError
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_the_modes_of_files_are_ordinary(tmp_path):
    write_text(tmp_path / "new", "x")
    (tmp_path / "plain").write_text("x")
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "plain").stat().st_mode
    (tmp_path / "new").chmod(0o600)
    write_text(tmp_path / "new", "y")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600


def test_a_link_is_followed(tmp_path):
    write_text(tmp_path / "real", "old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"the folder .*missing. does not exist"):
        write_text(tmp_path / "missing" / "a", "x")


def test_a_folder_is_replaced_whole(tmp_path):
    for content in ("old", "new"):
        with replacing_folder(tmp_path / "model") as unfinished:
            (unfinished / f"{content}.txt").write_text(content)
    assert os.listdir(tmp_path) == ["model"]
    assert os.listdir(tmp_path / "model") == ["new.txt"]
    with contextlib.suppress(KeyError), replacing_folder(tmp_path / "model") as unfinished:
        (unfinished / "third.txt").write_text("third")
        raise KeyError
    assert os.listdir(tmp_path) == ["model"]
    assert os.listdir(tmp_path / "model") == ["new.txt"]


FULL_DISK = """
import resource, signal, sys
from kstyle_torch.saving.atomic import write_bytes
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit fails, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
write_bytes(sys.argv[1], bytes(2000))
"""


@pytest.mark.full
@pytest.mark.skipif(os.name != "posix", reason="limits the size of files as POSIX does")
def test_a_full_disk_leaves_the_old_file(tmp_path):
    write_text(tmp_path / "a", "old")
    run = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "a")], capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert "Cannot save" in run.stderr.splitlines()[-1]
    assert "is unchanged" in run.stderr.splitlines()[-1]
    assert (tmp_path / "a").read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]
