"""Sets up `.venv` (or uses the active environment) and runs the tests, in as many processes as there are cores:
`python scripts/test.py [pytest arguments]`.
"""

import os
import sys

from _environment import call, install, python

if __name__ == "__main__":
    interpreter = python()
    install(interpreter, "test")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as many processes as cores: more threads would wait for each other
    sys.exit(call(interpreter, "-m", "pytest", "-n", "auto", *sys.argv[1:]))
