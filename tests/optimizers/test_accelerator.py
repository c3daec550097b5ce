"""Every optimizer on a simulated accelerator, in a subprocess since it changes torch.accelerator for the whole process."""

import json
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent.parent


def test_optimizers_on_a_simulated_accelerator():
    """The CPU's numbers, also after a move; no wait and no copy more with more steps."""
    command = [sys.executable, str(TESTS / "accelerator_optimizers.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    problems = {name: found for name, found in json.loads(done.stdout.splitlines()[-1]).items() if found}
    assert not problems, "\n".join(f"{name}: {found}" for name, found in problems.items())
