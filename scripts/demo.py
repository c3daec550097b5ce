"""Sets up `.venv` (or uses the active environment) and runs examples/quickstart.py: `python scripts/demo.py`."""

import sys

from _environment import call, install, python

if __name__ == "__main__":
    interpreter = python()
    install(interpreter)
    sys.exit(call(interpreter, "examples/quickstart.py", *sys.argv[1:]))
