"""Every row of the table: value, dtype and gradient as in Keras; symbolic, compiled and pickled as eager."""

import pickle

import torch

from kstyle_torch import layers, ops, tree
from kstyle_torch.symbolic.tensor import is_symbolic
from tests.choice import first_of_each, per_row
from tests.ops.cases import ROWS
from tests.oracle import GraphModule, array, assert_close, uniform

NARROWER = {torch.float64: torch.float32, torch.int64: torch.int32, torch.complex128: torch.complex64}


def ranks(row):
    return tuple(tensor.ndim for tensor in row.tensors())


def leaves(result):
    return tree.flatten(result)


def same_dtype(ours, theirs, inputs):
    """Equal, or the 64-bit type of the inputs where Keras narrows it (or widens int64 to float64)."""
    wide = any(tensor.dtype in NARROWER for tensor in inputs)
    return ours == theirs or (wide and NARROWER.get(ours, ours) == NARROWER.get(theirs, theirs))


@per_row(ROWS, kind=id)  # all of them in the quick set, where some functions would be half covered; they take 3 s
def test_value_and_dtype_equal_keras(row, keras):
    """Of tensors; of arrays the same."""
    ours = leaves(getattr(ops, row.name)(*row.args, **row.kwargs))
    theirs = leaves((row.oracle or getattr(keras.ops, row.name))(*row.args, **row.kwargs))
    assert len(ours) == len(theirs)
    tolerance = 2e-3 if any(tensor.dtype is torch.float16 for tensor in row.tensors()) else 1e-5
    for one, other in zip(ours, theirs):
        assert_close(one, other, rtol=tolerance)
        if isinstance(other, torch.Tensor) and isinstance(one, torch.Tensor) and row.oracle is None:
            assert same_dtype(one.dtype, other.dtype, row.tensors())
    if row.tensors():
        args, kwargs = row.with_tensors([array(tensor) for tensor in row.tensors()])
        for one, other in zip(leaves(getattr(ops, row.name)(*args, **kwargs)), ours):
            assert one.dtype == other.dtype
            assert_close(one, other)


def gradients(function, row):
    tensors = [tensor.clone().requires_grad_(tensor.is_floating_point()) for tensor in row.tensors()]
    args, kwargs = row.with_tensors(tensors)
    outputs = [
        leaf for leaf in leaves(function(*args, **kwargs)) if isinstance(leaf, torch.Tensor) and leaf.requires_grad
    ]
    if not outputs:
        return None
    total = sum((output * uniform(*output.shape, seed=7).to(output.dtype)).abs().sum() for output in outputs)
    wanted = [tensor for tensor in tensors if tensor.requires_grad]
    return torch.autograd.grad(total, wanted, allow_unused=True, materialize_grads=True)


def with_gradient(kind):
    rows = [row for row in ROWS if row.gradient == kind and any(t.dtype is torch.float32 for t in row.tensors())]
    return per_row(rows)


@with_gradient(True)
def test_gradient_equals_keras(row, keras):
    ours, theirs = gradients(getattr(ops, row.name), row), gradients(getattr(keras.ops, row.name), row)
    assert (ours is None) == (theirs is None)
    for one, other in zip(ours or (), theirs or ()):
        assert_close(one, other, rtol=1e-4, atol=1e-5)


@with_gradient("numeric")
def test_gradient_is_the_derivative(row):
    tensors = [tensor.double() if tensor.is_floating_point() else tensor for tensor in row.tensors()]
    tensors = [tensor.requires_grad_(tensor.is_floating_point()) for tensor in tensors]

    def call(*given):
        args, kwargs = row.with_tensors(given)
        return tuple(leaf for leaf in leaves(getattr(ops, row.name)(*args, **kwargs)) if leaf.requires_grad)

    if call(*tensors):
        assert torch.autograd.gradcheck(call, tensors)


def symbolic_call(row):
    shapes = [(None, *tensor.shape[1:]) if row.batched else tuple(tensor.shape) for tensor in row.tensors()]
    inputs = [layers.Input(batch_shape=shape, dtype=tensor.dtype) for shape, tensor in zip(shapes, row.tensors())]
    args, kwargs = row.with_tensors(inputs)
    return inputs, getattr(ops, row.name)(*args, **kwargs)


with_tensors = [row for row in ROWS if row.tensors() and row.traces]


@per_row(with_tensors)
def test_symbolic_equals_eager(row):
    inputs, outputs = symbolic_call(row)
    expected = leaves(getattr(ops, row.name)(*row.args, **row.kwargs))
    outputs = leaves(outputs)
    for symbol, value in zip(outputs, expected):
        assert is_symbolic(symbol), "one call, one node"
        shape = tuple(value.shape)
        assert (symbol.shape, symbol.dtype) == ((None, *shape[1:]) if row.batched else shape, value.dtype)
    assert len({symbol.node for symbol in outputs}) == 1
    module = GraphModule(inputs, outputs)
    for one, other in zip(module(row.tensors()), expected):
        assert_close(one, other)


# A row of each file and number and rank of tensors; in the quick set, one of each number and rank.
@per_row(first_of_each(with_tensors, lambda row: (getattr(ops, row.name).__module__, ranks(row))), ranks)
def test_compiles_without_a_break(row):
    torch.compiler.reset()

    def call(*tensors):
        args, kwargs = row.with_tensors(tensors)
        return getattr(ops, row.name)(*args, **kwargs)

    compiled = torch.compile(call, fullgraph=True, backend="eager")
    for one, other in zip(leaves(compiled(*row.tensors())), leaves(call(*row.tensors()))):
        assert_close(one, other)


def test_functions_pickle_by_name():
    names = {row.name for row in ROWS}
    assert [name for name in names if pickle.loads(pickle.dumps(getattr(ops, name))) is not getattr(ops, name)] == []
