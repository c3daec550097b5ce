"""The whole package on the fallbacks: the numbers that it computes with torch's private names."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import kstyle_torch as ks
from kstyle_torch._torch import NAMES, VARIABLE
from tests.public_only_program import CASES, numbers

ROOT = Path(__file__).parent.parent
CLOSE, EQUAL = {"rtol": 1e-6, "atol": 1e-9}, {"rtol": 0, "atol": 0}
COMPILED = ("mlp, compiled", "mlp, compiled epoch")


def with_hidden(names, cases):
    """Returns the numbers of cases, and warnings, in a process that does not see some private names."""
    environment = {**os.environ, VARIABLE: names}
    run = subprocess.run(
        [sys.executable, "-m", "tests.public_only_program", *cases],
        capture_output=True, text=True, cwd=ROOT, check=False, env=environment,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_public_names_alone_give_the_same_numbers():
    got = with_hidden("1", CASES)
    assert got.keys() == CASES.keys()
    for case, (values, warned) in got.items():
        expected, _ = numbers("mlp" if case in COMPILED else case)  # which compiled code gives up to rounding only
        # fused optimizers, which have no fallback but the foreach path, round in another order; those cases are in float64
        asked = "recorded" in case or "compiled" in case
        assert bool(warned) == asked and all(VARIABLE in text for text in warned), (case, warned)
        np.testing.assert_allclose(values, expected, **(CLOSE if "float64" in case else EQUAL), err_msg=case)


@pytest.fixture(autouse=True)
def float32_afterwards():
    yield
    ks.config.set_floatx("float32")


@pytest.mark.full
def test_recorded_steps_run_on_public_kernels():
    """All names are hidden but those that recording needs; fused optimizers are used, so that every bit is the same."""
    kept = {path for path, name in NAMES.items() if name.needed_for or "_fused_" in path}
    cases = [case for case in CASES if case not in COMPILED]
    for case, (values, warned) in with_hidden(",".join(NAMES.keys() - kept), cases).items():
        expected, _ = numbers(case)
        assert warned == [] and values == expected, case
