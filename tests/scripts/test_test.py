"""scripts/test.py: what pytest is called with."""

import runpy
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parents[2] / "scripts"


def test_quick_and_further_arguments(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(SCRIPTS), *sys.path])
    arguments = runpy.run_path(str(SCRIPTS / "test.py"))["arguments"]
    assert arguments(["-k", "dense"])[-2:] == ["-k", "dense"]
    assert "not full" not in arguments(["-k", "dense"])
    assert arguments(["-k", "dense", "--quick"]) == [*arguments([]), "-m", "not full", "-k", "dense"]
