"""A row of a table of operations: what is called with what. Compared with Keras, differentiated, run symbolically."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import torch

from kstyle_torch import ops, tree
from kstyle_torch.layers import Input
from tests.oracle import GraphModule, uniform


@dataclasses.dataclass
class Row:
    """`ops.name(*args(), **kwargs)`.

    Args:
        name: Of the operation.
        args: Makes the arguments; tensors in them, or pairs of tensors.
        kwargs: Plain arguments.
        symbolic: Which arguments have a batch axis, and become symbolic; none if it cannot have one.
        grad: Whether gradients are those of Keras.
        traced: Whether it compiles without a break; not where a size depends on numbers.
        rtol: Tolerance.
    """

    name: str
    args: Callable[[], tuple]
    kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)
    symbolic: tuple[int, ...] = (0,)
    grad: bool = True
    traced: bool = True
    rtol: float = 1e-5

    def __str__(self):
        given = [f"{key}={value}" for key, value in self.kwargs.items() if not isinstance(value, torch.Tensor)]
        return "-".join([self.name, *given]).replace(" ", "")

    @property
    def ours(self):
        return lambda *args: getattr(ops, self.name)(*args, **self.kwargs)

    @property
    def theirs(self):
        return lambda *args: getattr(keras.ops, self.name)(*args, **self.kwargs)


def check_equal(row):
    """Equal shapes, dtypes and values."""
    ours, theirs = (tree.flatten(call(*row.args())) for call in (row.ours, row.theirs))
    assert len(ours) == len(theirs)
    for our, their in zip(ours, theirs, strict=True):
        assert our.shape == their.shape and our.dtype == their.dtype
        np.testing.assert_allclose(our.detach(), their.detach(), rtol=row.rtol, atol=row.rtol / 10)


def check_gradients(row):
    """Equal gradients of a weighted sum of what comes out, of all inputs."""
    for ours, theirs in zip(_gradients(row, row.ours), _gradients(row, row.theirs), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=10 * row.rtol, atol=row.rtol)


def _gradients(row, call):
    args = row.args()
    leaves = [x for x in tree.flatten(args) if isinstance(x, torch.Tensor) and x.is_floating_point()]
    for leaf in leaves:
        leaf.requires_grad_()
    total = sum(
        (real * uniform(*real.shape, seed=seed).to(real.dtype)).sum()
        for seed, y in enumerate(tree.flatten(call(*args)))
        if y.requires_grad
        for real in ((y.real, y.imag) if y.is_complex() else (y,))
    )
    assert isinstance(total, torch.Tensor), "nothing to differentiate"
    total.backward()
    return [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]


def check_symbolic(row):
    """One node, whose shapes and dtypes are the real ones, and whose graph gives the real values."""
    args = row.args()
    batched = [args[i] for i in row.symbolic]
    inputs = tree.map_structure(lambda x: Input(x.shape[1:], dtype=str(x.dtype).removeprefix("torch.")), batched)
    mixed = [inputs[row.symbolic.index(i)] if i in row.symbolic else arg for i, arg in enumerate(args)]
    outputs = row.ours(*mixed)
    real = tree.flatten(row.ours(*args))
    for symbolic, tensor in zip(tree.flatten(outputs), real, strict=True):
        assert symbolic.dtype == tensor.dtype and len(symbolic.shape) == tensor.ndim
        assert all(size in (None, wanted) for size, wanted in zip(symbolic.shape, tensor.shape, strict=True))
    model = GraphModule(inputs, outputs)
    assert len(model.graph.calls) == 1
    for again, tensor in zip(tree.flatten(model(batched)), real, strict=True):
        np.testing.assert_allclose(again, tensor, rtol=row.rtol, atol=row.rtol / 10)


def check_traced(row):
    """Compiles without a break."""
    torch.compiler.reset()
    args = row.args()
    ours = tree.flatten(torch.compile(row.ours, fullgraph=True, backend="eager")(*args))
    for compiled, real in zip(ours, tree.flatten(row.ours(*args)), strict=True):
        np.testing.assert_allclose(compiled, real, rtol=row.rtol, atol=row.rtol / 10)


def number_of_tensors(row):
    """Returns how many arguments are tensors, or nests of them: the quick set compiles a row of each number."""
    return len(row.args())


def assert_same_parameters(ours, theirs):
    """Equal names, order and defaults of the arguments."""
    mine, other = (inspect.signature(function).parameters.values() for function in (ours, theirs))
    assert [(p.name, p.default) for p in mine] == [(p.name, p.default) for p in other], ours.__name__
