"""Sets up `.venv` (or uses the active environment) and runs the tests, in as many processes as there are cores.

`python scripts/test.py [--quick] [pytest arguments]`. `--quick` leaves out the tests that are marked `full`.
"""

import os
import sys

from _environment import call, install, python

QUICK = ("-m", "not full")
# Idle processes take over tests that wait for others: those that compile take a hundred times as long as the rest.
PROCESSES = ("-n", "auto", "--dist", "worksteal")


def arguments(given: list[str]) -> list[str]:
    """Returns pytest's arguments for those of the command line."""
    others = [argument for argument in given if argument != "--quick"]
    return [*PROCESSES, *(QUICK if "--quick" in given else ()), *others]


if __name__ == "__main__":
    interpreter = python()
    install(interpreter, "test")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as many processes as cores: more threads would wait for each other
    sys.exit(call(interpreter, "-m", "pytest", *arguments(sys.argv[1:])))
