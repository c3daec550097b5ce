"""Importing is cheap, and nothing heavy comes in until it is used. In processes of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

from kstyle_torch import utils
from tests.test_architecture import LATE_OWN_IMPORTS

ROOT = Path(__file__).parent.parent
HEAVY = {"sklearn", "matplotlib", "h5py", "torchinfo", "pandas", "keras", "torch._dynamo", "sympy", "safetensors"}
HEAVY |= {"torch.nn.utils.prune"}
LATE_PACKAGES = (  # of ours
    *("applications", "datasets", "distillation", "export", "preprocessing", "training.compiled", "visualization"),
    "wrappers",
)
LATE_MODULES = LATE_OWN_IMPORTS | {f"kstyle_torch.utils.{name}" for name in utils.LAZY}


def modules_after(program):
    """Returns the modules that the program imports after torch."""
    program = f"import torch, sys; before = {{*sys.modules}}\n{program}\nprint('\\n'.join({{*sys.modules}} - before))"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


def late(modules):
    """Returns those of our modules that wait until they are used; `training.compiled` itself is but a docstring."""
    below = tuple(f"kstyle_torch.{package}" for package in LATE_PACKAGES)
    return {
        name for name in modules if name in LATE_MODULES or f"{name}.".startswith(tuple(f"{each}." for each in below))
    }


def test_import_brings_nothing_heavy():
    new = modules_after("import kstyle_torch")
    assert "kstyle_torch" in new and not HEAVY & new and late(new) == set()


def test_late_modules_come_when_they_are_used():
    program = """
import kstyle_torch as ks
model = ks.Sequential([ks.Input((3,)), ks.layers.Dense(2)])
model.summary(print_fn=str), model._repr_html_()
ks.utils.pad_sequences([[1]]), ks.export, ks.preprocessing.text
from kstyle_torch.utils import *
"""
    new = late(modules_after(program))
    assert {"kstyle_torch.export", "kstyle_torch.preprocessing.text", "kstyle_torch.utils.summary"} <= new
    assert {name for name in LATE_MODULES if name.startswith("kstyle_torch.utils.")} <= new


@pytest.mark.full
def test_building_and_fitting_imports_no_compiler():
    program = """
import numpy as np
import kstyle_torch as keras
Dense = keras.layers.Dense
model = keras.Sequential([keras.Input((30,)), Dense(16, activation="relu"), Dense(1, activation="sigmoid")])
model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
x, y = np.random.default_rng(0).normal(size=(100, 30)), np.arange(100) % 2
model.fit(x, y, epochs=2, validation_split=0.1, verbose=1)
model.evaluate(x, y); model.predict(x)
"""
    new = modules_after(program)
    assert not {"torch._dynamo", "sympy", "torchinfo", "sklearn"} & new and late(new) == set()


CALLS = """
import sys
calls = [0]
def count(frame, event, argument):
    calls[-1] += 1
sys.setprofile(count)
import torch
calls.append(0)
import kstyle_torch
sys.setprofile(None)
print(*calls)
"""


@pytest.mark.full
def test_the_package_adds_few_calls():
    """Counted instead of timed, so that the number does not depend on the machine."""
    run = subprocess.run([sys.executable, "-c", CALLS], capture_output=True, text=True, cwd=ROOT, check=True)
    torch, ours = map(int, run.stdout.split())
    assert ours < 0.12 * torch, f"{ours} calls, torch {torch}"  # benchmarks/import_time.py measures seconds
