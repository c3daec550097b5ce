"""The Python environment that the scripts share: the active virtual environment, else `.venv`."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("", "test", "dev")  # each holds those before it
OLDEST = (3, 11)

SIZE = "torch is the largest part: about 200 MB to download, 1 GB on the disk."
CUDA_SIZE = """\
torch comes with CUDA here: about 3 GB to download, 6 GB on the disk. Without an Nvidia GPU the CPU build is enough (200 MB,
1 GB). To get it, stop this with Ctrl-C, install torch from the CPU index, whose address pytorch.org/get-started names, and
start again:
    {python} -m pip install torch --index-url ADDRESS"""


def python() -> Path:
    """The interpreter of the active virtual environment, else of `.venv`, made where it is missing."""
    if sys.version_info < OLDEST:
        sys.exit(f"Python {'.'.join(map(str, OLDEST))} or newer is needed; this is {sys.version.split()[0]}.")
    if sys.prefix != sys.base_prefix:
        return Path(sys.executable)
    folder = ROOT / ".venv"
    interpreter = interpreter_in(folder)
    if not (folder / "pyvenv.cfg").exists() or not interpreter.exists():
        print(f"Making {folder}", flush=True)
        run(sys.executable, "-m", "venv", "--clear", folder)
    return interpreter


def interpreter_in(folder: Path) -> Path:
    """Returns the path of a virtual environment's interpreter."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def install(interpreter: Path, extra: str = "", *requirements: str) -> None:
    """Installs the package in place, with an extra and with what else is required, such as one version of torch.

    Does nothing where it was done for this pyproject.toml.
    """
    stamp = f"{ROOT}\n{hashlib.sha256((ROOT / 'pyproject.toml').read_bytes()).hexdigest()}\n"
    folder = interpreter.parent.parent
    stamps = [folder / f".kstyle-torch-{name or 'base'}" for name in EXTRAS]
    wanted = EXTRAS.index(extra)
    if any(path.exists() and path.read_text(encoding="utf-8") == stamp for path in stamps[wanted:]):
        return
    target = f".[{extra}]" if extra else "."
    print(f"Installing {target} into {folder}", flush=True)
    if call(interpreter, "-c", "from importlib.util import find_spec; exit(find_spec('torch') is None)"):
        size = CUDA_SIZE if sys.platform == "linux" else SIZE
        print(size.format(python=interpreter), flush=True)
    run(interpreter, "-m", "pip", "install", "--disable-pip-version-check", *requirements, "-e", target)
    stamps[wanted].write_text(stamp, encoding="utf-8")


def call(*command: object) -> int:
    """Runs a command in the repository and returns its exit status."""
    return subprocess.call([str(word) for word in command], cwd=ROOT)


def run(*command: object) -> None:
    """Runs a command in the repository; ends the script where it fails."""
    if status := call(*command):
        sys.exit(status)
