"""The memory of a step is still there in the next one."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from kstyle_torch.training.freed_memory import keep_for_the_next_step
def step():
    blocks = [torch.zeros(2**18) for _ in range(40)]  # 40 MiB in all
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
step()
before = faults()
keep_for_the_next_step()
step()
print(before, faults())
"""


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="it is about glibc")
def test_freed_memory_is_kept():
    run = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    before, after = map(int, run.stdout.split())
    assert after < before / 20, "pages are given back to the system after each step"
