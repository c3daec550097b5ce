"""Runs ruff (lint and format) and mypy, and installs them where they are missing: `python scripts/check.py`."""

import sys

from _environment import call, install, python

TOOLS = (("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",))

if __name__ == "__main__":
    interpreter = python()
    if call(interpreter, "-c", "from importlib.util import find_spec as f; exit(not (f('ruff') and f('mypy')))"):
        install(interpreter, "dev")
    failed = [" ".join(tool) for tool in TOOLS if call(interpreter, "-m", *tool)]
    sys.exit("Failed: " + ", ".join(failed) if failed else 0)
