"""What every operation takes, what it costs, and what it makes of symbolic tensors."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn

from kstyle_torch import Input, Model, Variable, config, layers, ops
from kstyle_torch.ops.operation import as_tensor, operation
from kstyle_torch.symbolic.tensor import is_symbolic
from tests.oracle import GraphModule, assert_close, uniform
from tests.test_speed import calls_of

X = uniform(3, 4)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: ops.add(x, x),
        lambda x: ops.add(x, 1.0),
        lambda x: ops.subtract(2, x),
        lambda x: ops.concatenate([x, X]),
        lambda x: ops.stack((X, x), axis=1),
        lambda x: ops.maximum(x, X.numpy()),
        lambda x: ops.where(X > 0, x, 0.0),
        lambda x: ops.where(condition=X > 0, x1=x, x2=X),
        lambda x: ops.einsum("ij,kj->ik", x, X),
        lambda x: ops.average(X, weights=x, axis=0),
        lambda x: ops.get_item(x, (slice(None), 1)),
        lambda x: ops.sum(x, axis=-1),
    ],
)
def test_takes_whatever_holds_numbers(call):
    expected = call(X)
    for value in (nn.Parameter(X), Variable(X), X.numpy(), X.numpy().tolist()):
        assert_close(call(value), expected)
    symbol = Input(batch_shape=(3, 4))
    module = GraphModule([symbol], call(symbol))
    assert len(module.graph.calls) == 1
    assert_close(module([X]), expected)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (True, "bool"),
        (1, "int32"),
        (2**40, "int64"),
        (1.0, "float32"),
        (np.float64(1), "float32"),
        (1j, "complex64"),
        ([1, 2], "int32"),
        ([1.0, 2], "float32"),
        ([[True]], "bool"),
        (np.ones(2), "float64"),
        (np.ones(2, "uint16"), "int32"),
        (np.ones(2, "uint32"), "int64"),
        (np.ones(2)[::-1], "float64"),
        ([torch.ones(2), [1.0, 2.0]], "float32"),
        ([], "float32"),
    ],
    ids=str,
)
def test_values_become_what_keras_makes_of_them(value, dtype, keras):
    made = ops.convert_to_tensor(value)
    assert ops.dtype(made) == dtype
    if not (isinstance(value, list) and value and isinstance(value[0], torch.Tensor)):
        theirs = keras.ops.convert_to_tensor(value)
        assert ops.dtype(made) == ops.dtype(theirs)
        assert_close(made, theirs)


def test_a_tensor_is_a_list_of_its_slices():
    assert_close(ops.concatenate(X), X.flatten())
    assert_close(ops.stack(X, axis=1), X.T)


def test_read_only_arrays_are_copied():
    array = np.ones(3)
    array.flags.writeable = False
    assert_close(ops.add(array, 1), array + 1)


def test_what_comes_with_a_tensor_goes_to_its_device():
    with config.device_scope("meta"):
        assert ops.add(1.0, torch.ones(2)).device.type == ops.add([1.0, 2.0], torch.ones(2)).device.type == "cpu"
        assert ops.ones(2).device.type == as_tensor(1.0).device.type == as_tensor([1.0]).device.type == "meta"


def test_plain_tensors_cost_three_calls():
    x = torch.ones(3)
    torch_alone = calls_of(lambda: torch.add(x, x))
    assert calls_of(lambda: ops.add(x, x)) <= torch_alone + 2  # the wrapper and the function
    assert calls_of(lambda: ops.add(x, 1.0)) <= torch_alone + 2
    assert calls_of(lambda: ops.concatenate([x, x])) <= calls_of(lambda: torch.cat([x, x])) + 3
    assert calls_of(lambda: ops.transpose(x, axes=(0,))) <= calls_of(lambda: torch.permute(x, (0,))) + 2


def test_calls_with_other_tensors_cost_little():
    class Mine(torch.Tensor):
        __torch_function__ = torch._C._disabled_torch_function_impl

    x, mine = torch.ones(3), torch.ones(3).as_subclass(Mine)
    assert calls_of(lambda: ops.add(mine, mine)) <= calls_of(lambda: torch.add(x, x)) + 8


def test_a_model_of_operations_is_pickled():
    x = Input((4,))
    y = ops.multiply(ops.sum(ops.square(layers.Dense(3)(x)), axis=-1, keepdims=True), 0.5)
    model = Model(x, y)
    copy = pickle.loads(pickle.dumps(model))
    assert_close(copy(X), model(X))
    assert model.output_shape == (None, 1)


@pytest.mark.parametrize(
    ("call", "shape"),
    [
        (lambda x: ops.reshape(x, (-1, 12)), (None, 12)),
        (lambda x: ops.transpose(x), (4, 3, None)),
        (lambda x: ops.sum(x, axis=0), (3, 4)),
        (lambda x: ops.max(x, axis=1), (None, 4)),
        (lambda x: ops.max(x), ()),
        (lambda x: ops.concatenate([x, x], axis=0), (None, 3, 4)),
        (lambda x: ops.expand_dims(x, 0), (1, None, 3, 4)),
        (lambda x: ops.repeat(x, 2, axis=1), (None, 6, 4)),
        (lambda x: ops.matmul(x, ops.swapaxes(x, 1, 2)), (None, 3, 3)),
        (lambda x: ops.pad(x, ((0, 0), (1, 1), (0, 2))), (None, 5, 6)),
        (lambda x: ops.split(x, 2, axis=-1)[1], (None, 3, 2)),
        (lambda x: ops.quantile(x, [0.1, 0.2], axis=1), (2, None, 4)),
        (lambda x: ops.broadcast_to(ops.mean(x, axis=0), (5, 3, 4)), (5, 3, 4)),
    ],
)
def test_the_batch_stays_unknown(call, shape):
    symbol = Input((3, 4))
    assert call(symbol).shape == shape


def test_shape_and_dtype_of_symbols():
    symbol = Input((3, None), dtype="float16")
    assert ops.shape(symbol) == (None, 3, None)
    assert ops.dtype(symbol) == "float16"
    assert ops.ndim(symbol) == 3
    assert ops.size(symbol) is None
    assert not ops.is_tensor(symbol)
    with pytest.raises(ValueError, match="no values for NumPy"):
        ops.convert_to_numpy(symbol)


def test_a_function_without_kinds_takes_nests():
    @operation
    def both(pair, scale=1.0):
        return pair["a"] * scale + pair["b"]

    pair = {"a": X.numpy(), "b": Variable(X)}
    assert_close(both(pair), 2 * X)
    assert_close(both(pair, scale=np.float32(2)), 3 * X)
    assert is_symbolic(both({"a": Input((4,)), "b": 1.0}))
