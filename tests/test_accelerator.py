"""A simulated accelerator, in a process of its own since it changes torch.accelerator for the whole process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("accelerator.py")


@pytest.mark.parametrize("part", ["--quick", pytest.param("--rest", marks=pytest.mark.full)])
def test_on_a_simulated_accelerator(part):
    """Training, data, optimizers, layers and metrics: the CPU's numbers, no copy and no wait too many."""
    done = subprocess.run([sys.executable, str(PROGRAM), part], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    number, _, problems = done.stdout.splitlines()[-1].partition(" ")
    assert int(number) > 50
    assert not json.loads(problems), "\n".join(f"{name}: {found}" for name, found in json.loads(problems).items())
