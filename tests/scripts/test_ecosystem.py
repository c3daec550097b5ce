"""`scripts/ecosystem.py`: a program for each library, and its exit status. Nothing is installed or run here."""

import importlib
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def ecosystem(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    module = importlib.import_module("ecosystem")
    yield module
    for name in ("ecosystem", "_environment"):
        sys.modules.pop(name, None)


def test_every_library_has_a_program(ecosystem):
    assert {path.stem for path in ecosystem.PROGRAMS.glob("*.py")} == {f"use_{name}" for name in ecosystem.LIBRARIES}
    readme = (SCRIPTS.parent / "README.md").read_text(encoding="utf-8")
    assert [name for name in ecosystem.LIBRARIES if name.replace("_", "-") not in readme] == []


def test_table_and_exit_status(ecosystem, monkeypatch, capsys):
    errors = {"use_kimm": "", "use_ncps": "ValueError: no"}
    monkeypatch.setattr(ecosystem, "error_of", lambda interpreter, program: errors[program.stem])
    assert ecosystem.report(Path("python"), ["kimm"]) == 0
    assert ecosystem.report(Path("python"), ["kimm", "ncps"]) == 1
    table = capsys.readouterr().out
    assert "works" in table and "ValueError: no" in table


def test_unknown_libraries_are_refused(ecosystem, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["ecosystem.py", "no_such"])
    with pytest.raises(SystemExit):
        ecosystem.main()
