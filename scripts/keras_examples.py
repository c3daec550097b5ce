"""Runs the examples in the docstrings of the installed Keras, there and here: `python scripts/keras_examples.py`.

A block counts if it runs on Keras with torch and gives the same values in two runs. It passes here if it runs with
`keras` meaning `kstyle_torch`, and gives the same values. Prints what does not pass, and how many there are; with
`--check`, exits with 1 where one fails that has no reason in `scripts/compatibility_reasons.py`.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import doctest
import importlib
import inspect
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]
SECONDS = 25  # for one block
FENCE = re.compile(r"```(?:python)?\n(.*?)```", re.S)
OTHERS = re.compile(r"\b(tensorflow|tf|jax|flax|grain|requests|urllib)\b")  # what blocks need that is not here


def blocks() -> Iterator[tuple[str, list[str]]]:
    """Yields the examples of public names: the path of the name with a number, and the statements."""
    import compatibility

    seen: set[int] = set()
    for namespace in compatibility.namespaces():
        module = importlib.import_module(namespace)
        for name in compatibility.public_names(module):
            value = getattr(module, name)
            if id(value) in seen or not callable(value):
                continue
            seen.add(id(value))
            path = f"{namespace}.{name}"
            yield from _of_docstring(path, value)
            for member, _, method in compatibility.members(value) if isinstance(value, type) else ():
                method = getattr(method, "__func__", method)
                if id(method) not in seen:
                    seen.add(id(method))
                    yield from _of_docstring(f"{path}.{member}", method)


def _of_docstring(path: str, value: Any) -> Iterator[tuple[str, list[str]]]:
    text = inspect.getdoc(value) or ""
    found = []
    with contextlib.suppress(ValueError):  # a broken docstring
        found.append([example.source for example in doctest.DocTestParser().get_examples(text)])
    for code in FENCE.findall(text):
        if ">>>" not in code:
            with contextlib.suppress(SyntaxError):
                code = textwrap.dedent(code)
                found.append([ast.unparse(statement) + "\n" for statement in ast.parse(code).body])
    for number, statements in enumerate(each for each in found if each and not OTHERS.search("".join(each))):
        yield f"{path}#{number}", statements


def plain(value: Any, library: str) -> Any:
    """Returns a displayed value in a form that is the same for both libraries."""
    import numpy as np
    import torch

    if isinstance(value, (list, tuple)):
        return [plain(item, library) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item, library) for key, item in value.items()}
    if isinstance(value, torch.Tensor) or (hasattr(value, "assign") and hasattr(value, "numpy")):
        value = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value.numpy()
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.astype("float32") if value.dtype.name == "bfloat16" else value
        return {"values": np.asarray(value).astype(object).tolist(), "dtype": str(value.dtype)}
    if isinstance(value, (bool, int, float, str, type(None))):
        return value
    return type(value).__name__


def run_all(library: str, listed: dict[str, list[str]]) -> dict[str, Any]:
    """Runs blocks in this process. Returns what each displayed, or the error."""
    if library != "keras":
        importlib.import_module("kstyle_torch.compat").install()
    return {path: run_block(library, statements) for path, statements in listed.items()}


def run_block(library: str, statements: list[str]) -> Any:
    """Returns what the statements display, in a fresh folder and with fresh random numbers; the error as a text."""
    import numpy as np

    keras = importlib.import_module("keras")
    names = {"keras": keras, "np": np, "numpy": np, "os": os}
    for short in (
        "layers",
        "ops",
        "models",
        "losses",
        "metrics",
        "optimizers",
        "Model",
        "Sequential",
        "Input",
        "Layer",
    ):
        names[short] = getattr(keras, short)
    shown: list[Any] = []
    before, here = sys.displayhook, os.getcwd()
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    sys.displayhook = lambda value: shown.append(plain(value, library)) if value is not None else None
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            os.chdir(folder)
            for source in statements:
                exec(compile(source, "<example>", "single"), names)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return f"{type(error).__name__}: {str(error)[:200]}"
    finally:
        sys.displayhook = before
        os.chdir(here)
    return {"shown": shown}


def same(theirs: Any, ours: Any) -> bool:
    """Returns whether two displayed values are equal: numbers to a relative 1e-4."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        return theirs.keys() == ours.keys() and all(same(theirs[key], ours[key]) for key in theirs)
    if isinstance(theirs, list) and isinstance(ours, list):
        return len(theirs) == len(ours) and all(map(same, theirs, ours))
    if isinstance(theirs, (int, float)) and isinstance(ours, (int, float)):
        return theirs == ours or abs(theirs - ours) <= 1e-5 + 1e-4 * abs(theirs) or (theirs != theirs and ours != ours)
    return theirs == ours


def worker(library: str, listed: dict[str, list[str]]) -> dict[str, Any]:
    """Returns the results of blocks that a process of its own has run; a block that kills or stops it is left out."""
    results: dict[str, Any] = {}
    waiting = dict(listed)
    while waiting:
        with tempfile.TemporaryDirectory() as folder:
            asked, answered = Path(folder, "asked"), Path(folder, "answered")
            asked.write_text(json.dumps(waiting))
            command = [sys.executable, __file__, "--worker", library, str(asked), str(answered)]
            environment = {**os.environ, "KERAS_BACKEND": "torch", "PYTHONHASHSEED": "0"}
            subprocess.run(command, env=environment, stderr=subprocess.DEVNULL, check=False)
            lines = answered.read_text().splitlines() if answered.exists() else []
        done = dict(json.loads(line) for line in lines)
        results.update(done)
        stopped = next((path for path in waiting if path not in done), None)
        waiting = {path: code for path, code in waiting.items() if path not in done and path != stopped}
        if stopped is not None:
            results[stopped] = "stopped"
    return results


def serve(library: str, asked: str, answered: str) -> None:
    """Runs the blocks of a file, and writes a line for each as it ends; a block that takes too long ends the process."""
    import signal

    warnings.simplefilter("ignore")
    if library != "keras":
        importlib.import_module("kstyle_torch.compat").install()
    with open(answered, "w", encoding="utf-8") as file:
        for path, statements in json.loads(Path(asked).read_text()).items():
            signal.alarm(SECONDS)
            result = run_block(library, statements)
            signal.alarm(0)
            print(json.dumps([path, result], default=str), file=file, flush=True)


def main() -> int:
    """Runs all, prints the table, and returns the exit status."""
    if sys.argv[1:2] == ["--worker"]:
        serve(*sys.argv[2:5])
        return 0
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="exit with 1 where a block fails without a reason")
    parser.add_argument("--only", default="", help="part of the path of the names to look at")
    options = parser.parse_args()
    os.environ["KERAS_BACKEND"] = "torch"
    listed = {path: statements for path, statements in blocks() if options.only in path}
    first = worker("keras", listed)
    runs = {path: listed[path] for path, result in first.items() if isinstance(result, dict)}
    again = worker("keras", runs)
    certain = {path: statements for path, statements in runs.items() if same(first[path], again[path])}
    ours = worker("kstyle_torch", certain)
    from compatibility_reasons import reason_for_example

    failed = {path: ours[path] for path in certain if not same(first[path], ours[path])}
    without = 0
    for path, result in failed.items():
        reason = reason_for_example(path.removeprefix("keras.").partition("#")[0])
        without += not reason
        what = (
            result
            if isinstance(result, str)
            else f"{json.dumps(first[path])[:150]} there, {json.dumps(result)[:150]} here"
        )
        print(f"{path}: {reason or what}")
    print(
        f"{len(listed)} blocks; {len(runs)} run on Keras with torch, {len(certain)} of them give the same values twice; "
        f"{len(certain) - len(failed)} pass here, {len(failed) - without} fail with a reason, {without} without."
    )
    return 1 if options.check and without else 0


if __name__ == "__main__":
    sys.exit(main())
