"""torch's own modules as the expressions that make them."""

import pytest
import torch
from torch import nn

from kstyle_torch.export.native import arguments_of

# What a module is made with; written is what differs from torch's defaults, one number for several equal ones.
WRITTEN = {
    "Conv1d": (nn.Conv1d(2, 3, 4), [2, 3, (4,)], {}),
    "Conv2d": (nn.Conv2d(2, 3, 4), [2, 3, 4], {}),
    "Conv3d": (nn.Conv3d(2, 3, 4), [2, 3, 4], {}),
    "strides, all": (nn.Conv3d(2, 3, 4, stride=2), [2, 3, 4], {"stride": 2}),
    "strides, last": (nn.Conv3d(2, 3, 4, stride=(1, 1, 2)), [2, 3, 4], {"stride": (1, 1, 2)}),
    "strides, first": (nn.Conv2d(2, 3, 4, stride=(2, 1)), [2, 3, 4], {"stride": (2, 1)}),
    "kernel": (nn.Conv2d(2, 3, (4, 5)), [2, 3, (4, 5)], {}),
    "LayerNorm": (nn.LayerNorm((3,)), [(3,)], {}),
    "dtype": (nn.Linear(2, 3, bias=False, dtype=torch.float64), [2, 3], {"bias": False, "dtype": torch.float64}),
}
OTHERS = {
    "shortened tuple": nn.LayerNorm((3, 3), elementwise_affine=False),  # only its text differs from LayerNorm(3)'s
    "changed weight": nn.Linear(2, 3).requires_grad_(False),
    "children": nn.Sequential(nn.Linear(2, 3)),
    "class of a user's": type("Linear", (nn.Linear,), {})(2, 3),
}
OTHERS["changed weight"].in_features = 5


@pytest.mark.parametrize(("module", "args", "kwargs"), WRITTEN.values(), ids=WRITTEN)
def test_arguments_are_those_that_matter(module, args, kwargs):
    assert arguments_of(module) == (args, kwargs)
    assert repr(type(module)(*args, **kwargs)) == repr(module)


@pytest.mark.parametrize("module", OTHERS.values(), ids=OTHERS)
def test_a_module_that_its_arguments_do_not_make_is_not_written(module):
    assert arguments_of(module) is None
