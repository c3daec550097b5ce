"""Importing is cheap, and nothing heavy comes in until it is used. In processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
HEAVY = {"sklearn", "matplotlib", "h5py", "torchinfo", "pandas", "keras", "torch._dynamo", "sympy", "safetensors"}


def modules_after(program):
    program += "\nimport sys; print('\\n'.join(sys.modules))"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


def test_import_brings_nothing_heavy():
    assert not HEAVY & (modules_after("import kstyle_torch") - modules_after("import torch"))


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
    assert not {"torch._dynamo", "sympy", "torchinfo", "sklearn"} & modules_after(program)


def test_the_package_adds_little_time():
    clock = "import time; a = time.process_time(); import torch; b = time.process_time(); import kstyle_torch"
    program = f"{clock}; c = time.process_time(); print('share', (c - b) / (b - a))"
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}  # compiling is not importing
    command = [sys.executable, "-c", program]

    def share():
        run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True, env=environment)
        return float(run.stdout.split()[-1])

    assert min(share() for _ in range(5)) < 0.2  # of torch's own; benchmarks/import_time.py measures seconds
