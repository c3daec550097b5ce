"""Every row of the layer cases on the simulated accelerator: checks that accelerator.py runs."""

import copy
import functools

import torch
from simulated_device import NAME

import kstyle_torch
from kstyle_torch import config, layers, tree
from tests.choice import first_of_each
from tests.layers.layer_cases import CASES, family_of
from tests.oracle import assert_close


def to(structure, device):
    """The nest with its tensors on a device."""
    return tree.map_structure(lambda leaf: leaf.to(device) if isinstance(leaf, torch.Tensor) else leaf, structure)


def check(case):
    """The layer, moved to the accelerator, stays there and gives the CPU's numbers."""
    with config.device_scope("cpu"):
        layer = getattr(layers, case.layer)(**copy.deepcopy(case.arguments_for(kstyle_torch))).eval()
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


CHECKS = {
    f"{family_of(case)} {case.id}": functools.partial(check, case)
    for case in first_of_each(CASES, lambda case: (case.layer, case.training, len(case.call()), *map(len, case.shapes)))
    if not case.exempt and not (case.random and case.training)
}
