"""The environment of the scripts: a first install says how large it is."""

import importlib.util
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parent.parent / "scripts" / "_environment.py"


@pytest.fixture
def environment():
    spec = importlib.util.spec_from_file_location("_environment", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("platform", "size"), [("linux", "3 GB"), ("darwin", "200 MB")])
@pytest.mark.parametrize("has_torch", [False, True])
def test_the_first_install_says_how_large_it_is(environment, tmp_path, monkeypatch, capsys, platform, size, has_torch):
    ran = []
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(environment, "call", lambda *command: 0 if has_torch else 1)
    monkeypatch.setattr(environment, "run", lambda *command: ran.append([str(word) for word in command]))
    interpreter = tmp_path / "bin" / "python"
    for _ in range(2):  # the second time it is done
        environment.install(interpreter)
    printed = capsys.readouterr().out
    assert len(ran) == 1 and ran[0][:4] == [str(interpreter), "-m", "pip", "install"] and "--quiet" not in ran[0]
    assert (size in printed) is not has_torch
    assert (f"{interpreter} -m pip install torch --index-url" in printed) is (platform == "linux" and not has_torch)
