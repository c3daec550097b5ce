"""Runs libraries over Keras under the alias: `python scripts/ecosystem.py [keras_tuner ...]`.

Each library has a small program in `scripts/ecosystem/`. An environment of its own, in the folder for temporary files, gets
this package and the libraries, without Keras and TensorFlow; `--python` names an interpreter that has them already. Prints
what works; the exit status is 1 where a program fails.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _environment import ROOT, install, interpreter_in, run

PROGRAMS = Path(__file__).with_name("ecosystem")
SECONDS = 300  # for one program
# Library -> what pip installs without their own requirements, of which Keras and TensorFlow are some.
LIBRARIES = {
    "bayesflow": "bayesflow",
    "keras_hub": "keras-hub kagglehub kagglesdk==0.1.28 regex tokenizers sentencepiece",
    "keras_rs": "keras-rs ml-dtypes",
    "keras_tcn": "keras-tcn",
    "keras_tuner": "keras-tuner kt-legacy",
    "kimm": "kimm",
    "ncps": "ncps future",
    "scikeras": "scikeras",
    "shap": "shap slicer numba llvmlite cloudpickle",
}
OTHERS = "absl-py grain matplotlib networkx packaging pandas requests rich scipy seaborn"  # with their requirements


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("libraries", nargs="*", help=f"some of {', '.join(LIBRARIES)} (default: all)")
    parser.add_argument("--python", type=Path, help="an interpreter that has torch and the libraries")
    options = parser.parse_args()
    chosen = options.libraries or [*LIBRARIES]
    if unknown := {*chosen} - {*LIBRARIES}:
        parser.error(f"there is no program for {', '.join(sorted(unknown))}")
    if options.python:
        return report(options.python, chosen)
    with tempfile.TemporaryDirectory(prefix="kstyle-torch-", ignore_cleanup_errors=True) as folder:
        run(sys.executable, "-m", "venv", folder)
        interpreter = interpreter_in(Path(folder))
        install(interpreter)
        pip = [interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run(*pip, *OTHERS.split())
        run(*pip, "--no-deps", *[word for name in chosen for word in LIBRARIES[name].split()])
        return report(interpreter, chosen)


def report(interpreter: Path, libraries: list[str]) -> int:
    """Runs the programs, prints a table, and returns the exit status."""
    failed = 0
    print(f"{'library':<14}{'seconds':>8}  result", flush=True)
    for name in libraries:
        start = time.monotonic()
        error = error_of(interpreter, PROGRAMS / f"use_{name}.py")
        failed += bool(error)
        print(f"{name:<14}{time.monotonic() - start:>8.0f}  {error or 'works'}", flush=True)
    return int(failed > 0)


def error_of(interpreter: Path, program: Path) -> str:
    """Returns the last line of what a program prints where it fails; nothing where it does not."""
    command = [interpreter, "-m", "kstyle_torch", "run", program]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg", "KERAS_BACKEND": "torch"}
    with tempfile.TemporaryDirectory() as folder:
        try:
            result = subprocess.run(
                [str(word) for word in command],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=SECONDS,
            )
        except subprocess.TimeoutExpired:
            return f"still running after {SECONDS} s"
    lines = [line for line in (result.stderr or result.stdout).splitlines() if line.strip()]
    return "" if result.returncode == 0 else (lines or [f"exit status {result.returncode}"])[-1]


if __name__ == "__main__":
    sys.exit(main())
