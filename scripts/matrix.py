"""Tests every Python and torch that installs here: `python scripts/matrix.py [--python 3.12] [--torch newest] [...]`.

Further arguments go to scripts/test.py; without any, the quick tests run. Each pair has an environment of its own, of up to
7 GB, in the folder for temporary files (`TMPDIR`), and it is removed before the next one is made. The exit status is 1
where a pair failed, and 3 where none could be tested.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from _environment import ROOT, call, install, interpreter_in

PASSED, FAILED, KNOWN = "passed", "FAILED", "tested already"
NOT_FOUND, NOT_OFFERED, NOT_INSTALLED = (
    "not found",
    "pip offers no torch (see above)",
    "torch does not install (see above)",
)
Version = tuple[int, ...]


class Row(NamedTuple):
    """The result of one Python and torch."""

    python: str
    torch: str
    result: str
    details: str = ""


def main() -> int:
    """Returns the exit status."""
    pythons, oldest = supported((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--python", action="append", help=f"a version, or an interpreter (default: {', '.join(pythons)})")
    add("--torch", action="append", help="a version, newest or oldest (default: every release that is supported)")
    add("--skip", default="", metavar="TORCH", help="a version that has been tested already")
    options, arguments = parser.parse_known_args()
    rows = []
    for python in options.python or pythons:
        command = find_python(python)
        if command is None:
            rows.append(Row(python, "-", NOT_FOUND))
            continue
        for torch in options.torch or ["every"]:
            rows += rows_for(command, torch, oldest, options.skip, arguments or ["--quick"])
    print("\nPython  torch           result")
    for row in rows:
        print(f"{row.python:<7} {row.torch:<15} {row.result} {row.details}".rstrip())
    return exit_status(rows)


def exit_status(rows: list[Row]) -> int:
    """Returns 1 where a pair failed, 3 where there was nothing new to test though there may be something, else 0."""
    results = {row.result for row in rows}
    return 1 if FAILED in results else 0 if PASSED in results or results == {KNOWN} else 3


def rows_for(command: list[str], torch: str, oldest: Version, skipped: str, arguments: list[str]) -> Iterator[Row]:
    """Yields the results for one Python and for a torch, or those, that were asked for."""
    python = version_of(command)
    versions = [torch]
    if torch in ("every", "newest", "oldest"):
        pip = [*command, "-m", "pip", "--disable-pip-version-check"]
        versions = releases(output_of(*pip, "index", "versions", "torch"), oldest)
    if not versions:
        yield Row(python, "-", NOT_OFFERED)
    for version in reversed(versions) if torch == "oldest" else versions:
        known = bool(skipped) and as_version(version) == as_version(skipped)
        row = Row(python, version, KNOWN) if known else test(python, command, version, arguments)
        yield row
        if torch != "every" and row.result != NOT_INSTALLED:
            break  # this is the newest, or the oldest, that installs


def test(python: str, command: list[str], torch: str, arguments: list[str]) -> Row:
    """Tests one pair in an environment of its own."""
    print(f"\nPython {python}, torch {torch}", flush=True)
    with tempfile.TemporaryDirectory(prefix="kstyle-torch-", ignore_cleanup_errors=True) as folder:
        if call(*command, "-m", "venv", folder):
            return Row(python, torch, FAILED, "no environment could be made")
        interpreter = interpreter_in(Path(folder))
        if call(interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"torch=={torch}"):
            return Row(python, torch, NOT_INSTALLED)
        try:
            install(interpreter, "test", f"torch=={torch}")
        except SystemExit:
            return Row(python, torch, FAILED, "what the tests need does not install beside it")
        build = output_of(interpreter, "-c", "import torch; print(torch.__version__)").strip() or torch
        start = time.monotonic()
        status = call(interpreter, "scripts/test.py", *arguments)
        return Row(python, build, FAILED if status else PASSED, f"in {time.monotonic() - start:.0f} s")


def supported(text: str) -> tuple[list[str], Version]:
    """Returns the Pythons and the oldest torch that a pyproject.toml names."""
    oldest = re.search(r'"torch>=([\d.]+)"', text)
    assert oldest is not None
    return re.findall(r'"Programming Language :: Python :: (\d+\.\d+)"', text), as_version(oldest[1])


def releases(listing: str, oldest: Version) -> list[str]:
    """Returns the releases in what `pip index versions` printed, the newest first, without builds such as `+cpu`."""
    line = re.search(r"^Available versions: (.*)", listing, re.MULTILINE)
    names = {name.partition("+")[0] for name in line[1].split(", ")} if line else set()
    final = [name for name in names if re.fullmatch(r"\d+(\.\d+)*", name) and as_version(name) >= oldest]
    return sorted(final, key=as_version, reverse=True)


def as_version(text: str) -> Version:
    """Returns the numbers of a release, which compare as releases do: `2.13` is `2.13.0+cpu`."""
    numbers = [int(number) for number in text.partition("+")[0].split(".")]
    while numbers[-1:] == [0]:
        numbers.pop()
    return tuple(numbers)


def find_python(name: str) -> list[str] | None:
    """Returns the command of an interpreter: of this one, from PATH, the `py` launcher or pyenv, or of the path given."""
    if not re.fullmatch(r"\d+\.\d+", name):
        return [name] if version_of([name]) else None
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [str(path) for path in pyenv.glob(f"{name}.*/bin/python")]
    commands = [[sys.executable], [f"python{name}"], ["py", f"-{name}"], *([path] for path in found)]
    return next((command for command in commands if version_of(command) == name), None)


def version_of(command: list[str]) -> str:
    """Returns a Python's version; empty where it does not run, as a pyenv shim may, or cannot make environments."""
    if not shutil.which(command[0]):
        return ""
    code = "import ensurepip, sys, venv; print('{}.{}'.format(*sys.version_info))"
    return subprocess.run([*command, "-c", code], capture_output=True, text=True).stdout.strip()


def output_of(*command: object) -> str:
    """Returns the output of a command; its errors are shown."""
    return subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
