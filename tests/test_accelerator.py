"""Training on an accelerator, simulated in a subprocess since it changes torch.accelerator for the whole process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from accelerator_checks import CHECKS

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def problems():
    """What each check found; all of them run in one process."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    command = [sys.executable, str(TESTS / "accelerator_checks.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("check", CHECKS)
def test_on_a_simulated_accelerator(check, problems):
    assert problems[check] is None, problems[check]


def test_layers_on_a_simulated_accelerator():
    """Every row of the layer cases stays on the device and gives the CPU's numbers."""
    command = [sys.executable, str(TESTS / "accelerator_layers.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    problems = json.loads(done.stdout.splitlines()[-1])
    assert not problems, "\n".join(f"{row}: {problem}" for row, problem in problems.items())


def test_metrics_on_a_simulated_accelerator():
    """Every metric keeps its state on the device, makes nobody wait, and gives the CPU's numbers."""
    command = [sys.executable, str(TESTS / "accelerator_metrics.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    problems = json.loads(done.stdout.splitlines()[-1])
    assert not problems, "\n".join(f"{name}: {problem}" for name, problem in problems.items())
