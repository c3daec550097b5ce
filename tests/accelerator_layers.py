"""Every row of the layer cases on the simulated accelerator, for a process of their own: see test_accelerator.py.

`python tests/accelerator_layers.py` prints {id of the row: what went wrong} for the rows that do.
"""

import copy
import json
import os
import sys
import traceback
import warnings
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import torch
from simulated_device import NAME, install

import kstyle_torch
from kstyle_torch import config, layers, tree
from tests.layers.layer_cases import CASES
from tests.oracle import assert_close


def to(structure, device):
    """The nest with its tensors on a device."""
    return tree.map_structure(lambda leaf: leaf.to(device) if isinstance(leaf, torch.Tensor) else leaf, structure)


def check(case):
    """The layer, moved to the accelerator, stays there and gives the CPU's numbers."""
    with config.device_scope("cpu"):
        layer = getattr(layers, case.layer)(**copy.deepcopy(case.arguments_for(kstyle_torch)))
        args, kwargs = case.args(), case.call()
        torch.manual_seed(0)
        expected = layer(*args, **kwargs)
    layer.to(NAME)
    args, kwargs = to((args, kwargs), NAME)
    outputs = layer(*args, **kwargs)
    for output, value in zip(tree.flatten(outputs), tree.flatten(expected), strict=True):
        assert output.device.type == NAME, f"an output is on {output.device}"
        assert_close(output.cpu(), value)
    assert all(weight.value.device.type == NAME for weight in layer.weights)


def problems():
    """What goes wrong, by row."""
    found = {}
    for case in CASES:
        if case.exempt or (case.random and case.training):
            continue
        try:
            check(case)
        except Exception:
            found[case.id] = traceback.format_exc(limit=-3)
    return found


if __name__ == "__main__":
    warnings.simplefilter("error")
    install()
    print(json.dumps(problems()))
