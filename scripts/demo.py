"""Sets up `.venv` (or uses the active environment) and runs examples/quickstart.py: `python scripts/demo.py`.

The first run downloads torch: about 3 GB on Linux, where it comes with CUDA, 200 MB elsewhere. It says how to get the
CPU build instead, and pip shows how far it is.
"""

import sys

from _environment import call, install, python

if __name__ == "__main__":
    interpreter = python()
    install(interpreter)
    sys.exit(call(interpreter, "examples/quickstart.py", *sys.argv[1:]))
