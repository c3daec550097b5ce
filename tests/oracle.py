"""What tests against Keras share: comparing, random data, and running a symbolic graph."""

import numpy as np
import torch
from torch import nn

from kstyle_torch import tree
from kstyle_torch.layers import Layer
from kstyle_torch.symbolic.emit import Emitter
from kstyle_torch.symbolic.graph import trace


def array(value):
    """An array of a tensor, a Keras or kstyle variable, or of anything that NumPy takes."""
    value = getattr(value, "value", value)
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def assert_close(ours, theirs, rtol=1e-5, atol=1e-6):
    """Equal shapes, and numbers within the tolerance that the project promises."""
    ours, theirs = array(ours), array(theirs)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)


def assert_same_bits(ours, theirs):
    """Two lists of arrays, tensors or variables, these in Keras' layout, hold the same numbers."""
    for mine, other in zip(ours, theirs, strict=True):
        pair = (each.detach().cpu() if isinstance(each, torch.Tensor) else each for each in (mine, other))
        np.testing.assert_array_equal(*map(np.asarray, pair))


def assert_equal_predictions(model, other, x, rtol=1e-6):
    """Equal to `rtol` of the largest number of each output."""
    outputs = (tree.flatten(each.predict(x, verbose=0)) for each in (model, other))
    for mine, its in zip(*outputs, strict=True):
        assert_close(mine, its, rtol=rtol, atol=rtol * np.abs(its).max())


def uniform(*shape, low=-1.0, high=1.0, seed=0):
    """A float32 tensor of random numbers."""
    drawn = np.random.default_rng(seed).uniform(low, high, shape).astype("float32")
    return torch.from_numpy(drawn)


def integers(*shape, high=5, seed=0):
    """An int64 tensor of random numbers from 0 on."""
    return torch.from_numpy(np.random.default_rng(seed).integers(0, high, shape))


def one_hot(*shape, classes=4, seed=0):
    """A float32 tensor with a last axis of zeros and a one, at the place of a random integer."""
    return torch.nn.functional.one_hot(integers(*shape, high=classes, seed=seed), classes).float()


def value_and_grad(function, x):
    """`function(x)` and the gradient of its sum, weighted by fixed random numbers."""
    x = x.clone().requires_grad_()
    y = function(x)
    if y.requires_grad:
        (y * uniform(*y.shape, seed=7)).sum().backward()
    return y.detach(), torch.zeros_like(x) if x.grad is None else x.grad


class MaskReader(Layer):
    """Sums the steps that the mask leaves."""

    def compute_mask(self, inputs, previous_mask):
        """No steps are left, and no mask."""
        return None

    def call(self, x, mask=None):
        """(batch, steps, values) -> (batch, values)."""
        return x.sum(1) if mask is None else (x * mask.unsqueeze(-1)).sum(1)


class GraphModule(nn.Module):
    """The smallest model of a symbolic graph: emitted code over its modules."""

    def __init__(self, inputs, outputs):
        super().__init__()
        graph = trace(inputs, outputs, [tensor.source for tensor in tree.flatten(inputs)])
        keys = {id(module): f"m{number}" for number, module in enumerate(graph.modules)}
        for module in graph.modules:
            self.add_module(keys[id(module)], module)
        checks = [""] * len(graph.sources)
        self.run, self.code = Emitter(graph, keys, adapt=None).emit(lambda _, inputs: tree.flatten(inputs), checks)
        self.graph = graph
        self.eval()

    def forward(self, inputs):
        """Runs the graph."""
        return self.run(self, inputs)


def assert_alike(ours, theirs):
    """What two libraries gave to the same program: nests of numbers, within the tolerance, and of other values, equal."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for key in theirs:
            assert_alike(ours[key], theirs[key])
    elif isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs), f"{ours} is not {theirs}"
        for mine, other in zip(ours, theirs, strict=True):
            assert_alike(mine, other)
    elif theirs is None or isinstance(theirs, (str, bool)):
        assert ours == theirs
    else:
        assert_close(ours, theirs)


def raised(function):
    """The built-in type of the error that a call raises; None if there is none."""
    try:
        function()
    except Exception as error:
        return next(cls.__name__ for cls in type(error).__mro__ if cls.__module__ == "builtins")
    return None
