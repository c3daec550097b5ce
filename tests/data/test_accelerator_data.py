"""Data on an accelerator, simulated in a subprocess since it changes torch.accelerator for the whole process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from accelerator_data import CHECKS

SCRIPT = Path(__file__).parent.parent / "accelerator_data.py"


@pytest.fixture(scope="module")
def problems():
    """What each check found; all of them run in one process."""
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("check", CHECKS)
def test_on_a_simulated_accelerator(check, problems):
    assert problems[check] is None, problems[check]
