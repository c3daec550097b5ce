"""The name of a dtype, which is a string, equals the torch dtype, and is taken by all functions of the package."""

import inspect
import json
import pickle

import keras
import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import initializers, layers, losses, metrics, ops, optimizers, random
from kstyle_torch.dtype_policies import DTypeName, dtype_name
from kstyle_torch.initializers import as_dtype

NAMES = ["float16", "bfloat16", "float32", "float64", "int8", "int32", "int64", "uint8", "bool", "complex64"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_a_string_and_equals_the_dtype(name):
    dtype = getattr(torch, name)
    for made in (dtype_name(dtype), DTypeName(name), pickle.loads(pickle.dumps(DTypeName(name)))):
        assert made == name and name == made and made == dtype and dtype == made and made == DTypeName(name)
        assert not (made != name or name != made or made != dtype or dtype != made)
        assert made != "int16" and made != torch.int16 and torch.int16 != made and made != 3 and made is not None
        assert made in (name,) and made in (dtype,) and dtype in (made,) and made in {name} and {made: 1}[name] == 1
        assert f"{made}" == str(made) == name and isinstance(made, str) and json.dumps(made) == f'"{name}"'
        assert made.torch_dtype is dtype and made.itemsize == dtype.itemsize
        assert [made.is_floating_point, made.is_complex, made.is_signed] == [
            dtype.is_floating_point,
            dtype.is_complex,
            dtype.is_signed,
        ]
    assert dtype not in {DTypeName(name)}  # the hash is the string's


def test_names_that_torch_does_not_have():
    assert DTypeName("string") == "string" and DTypeName("string") != torch.float32
    with pytest.raises(ValueError, match="torch has no dtype 'string'"):
        assert DTypeName("string").itemsize


def dtypes(library):
    layer = library.layers.Dense(2)
    layer.build((None, 3))
    mixed = library.layers.Dense(2, dtype="mixed_bfloat16")
    x = library.Input((3,))
    return {
        "input": x.dtype,
        "integer input": library.Input((3,), dtype="int32").dtype,
        "layer's output": layer(x).dtype,
        "comparison": library.ops.greater(x, 0).dtype,
        "mixed output": mixed(x).dtype,
        "kernel": layer.kernel.dtype,
        "mixed kernel": mixed.kernel.dtype,
        "variable": library.Variable(np.zeros(3, "float32")).dtype,
        "layer": layer.dtype,
        "compute_dtype": mixed.compute_dtype,
        "variable_dtype": mixed.variable_dtype,
        "policy": mixed.dtype_policy.compute_dtype,
        "floatx": library.config.floatx(),
        "moving_mean": normalization(library).moving_mean.dtype,
        "learning_rate": library.optimizers.Adam().learning_rate.dtype,
        "metric": library.metrics.Mean().variables[0].dtype,
    }


def normalization(library):
    layer = library.layers.BatchNormalization()
    layer.build((None, 3))
    return layer


def test_dtypes_are_keras_strings():
    ours, theirs = dtypes(ks), dtypes(keras)
    assert ours == theirs
    for key, dtype in ours.items():
        assert isinstance(dtype, DTypeName) and dtype == getattr(torch, theirs[key]), key


INT32, DOUBLE = DTypeName("int32"), DTypeName("float64")
TAKERS = {
    "numpy": lambda: torch.from_numpy(np.zeros(2, dtype=DOUBLE)),
    "cast": lambda: ops.cast(torch.ones(2), DOUBLE),
    "convert_to_tensor": lambda: ops.convert_to_tensor([1, 2], DOUBLE),
    "ones": lambda: ops.ones((2,), DOUBLE),
    "full_like": lambda: ops.full_like(torch.ones(2), 3, dtype=DOUBLE),
    "arange": lambda: ops.arange(3, dtype=DOUBLE),
    "sum": lambda: ops.cumsum(torch.ones(3), dtype=DOUBLE),
    "view": lambda: ops.view(torch.ones(2, dtype=torch.int64), DOUBLE),
    "one_hot": lambda: ops.one_hot(torch.tensor([1]), 2, dtype=DOUBLE),
    "random": lambda: random.normal((2,), dtype=DOUBLE),
    "dropout": lambda: random.uniform((2,), dtype=DOUBLE),
    "initializer": lambda: initializers.GlorotUniform()((2, 2), dtype=DOUBLE),
    "variable": lambda: ks.Variable(np.ones(2), dtype=DOUBLE).value,
    "add_weight": lambda: layers.Layer().add_weight((2,), dtype=DOUBLE),
    "layer": lambda: layers.Dense(2, dtype=DOUBLE)(torch.ones(1, 2)),
    "embedding": lambda: layers.Embedding(2, 2, dtype=DOUBLE)(torch.zeros(1, 2)),
    "policy": lambda: layers.Dense(2, dtype=ks.dtype_policies.DTypePolicy(DOUBLE))(torch.ones(1, 2)),
    "loss": lambda: losses.MeanSquaredError(dtype=DOUBLE)(torch.ones(2, 1), torch.zeros(2, 1)),
    "metric": lambda: metrics.Mean(dtype=DOUBLE).variables[0].value,
    "optimizer": lambda: built_optimizer().add_variable((2,), dtype=DOUBLE).value,
}


# Of an object that overrides torch functions, torch's C parser accepts whatever it is as a dtype. Functions that do not
# look for overrides would then read the string's memory: `torch.finfo(x.dtype)` would be that of another dtype.
REFUSERS = {
    "torch.zeros": lambda: torch.zeros(2, dtype=DOUBLE),
    "torch.sum": lambda: torch.ones(2).sum(dtype=DOUBLE),
    "torch.tensor": lambda: torch.tensor([1, 2], dtype=DOUBLE),
    "new_tensor": lambda: torch.ones(2).new_tensor([1], dtype=DOUBLE),
    "finfo": lambda: torch.finfo(DOUBLE),
    "iinfo": lambda: torch.iinfo(INT32),
    "frombuffer": lambda: torch.frombuffer(bytearray(16), dtype=DOUBLE),
    "nested_tensor": lambda: torch.nested.nested_tensor([torch.ones(2)], dtype=DOUBLE),
    "set_autocast_dtype": lambda: torch.set_autocast_dtype("cpu", DOUBLE),
    "set_default_dtype": lambda: torch.set_default_dtype(DOUBLE),
}


@pytest.mark.parametrize("refuser", REFUSERS)
def test_functions_of_torch_refuse_names(refuser):
    with pytest.raises((TypeError, AssertionError), match="dtype"):
        REFUSERS[refuser]()


def built_optimizer():
    optimizer = optimizers.SGD()
    optimizer.build([torch.nn.Parameter(torch.ones(1))])
    return optimizer


@pytest.mark.parametrize("taker", TAKERS)
def test_functions_take_names(taker):
    assert TAKERS[taker]().dtype == torch.float64


def test_all_ops_with_a_dtype_take_names():
    """As they take torch dtypes; what they are called on is what fits, if anything does."""
    taken = []
    attempts = [
        (torch.ones(2, 2),),
        ((2, 2),),
        (3,),
        (0, 1),
        ((2,), 1.0),
        ([1, 0], 2),
        (torch.ones(2, 2), 1),
        (1, 2, 3),
    ]
    for name, function in vars(ops).items():
        if not callable(function) or "dtype" not in inspect.signature(function).parameters:
            continue
        for args in attempts:
            try:
                expected = function(*args, dtype=torch.float32)
            except (TypeError, ValueError, RuntimeError, IndexError):
                continue
            got = function(*args, dtype=DTypeName("float32"))
            assert torch.as_tensor(got).dtype == torch.as_tensor(expected).dtype == torch.float32, name
            taken.append(name)
            break
    assert len(taken) > 20


GRAPHS = {
    "torch.ones": lambda x: torch.ones(4, dtype=as_dtype(x.dtype)) * x,
    "to": lambda x: x.double().to(x.dtype),
    "keyword": lambda x: x.double().to(dtype=x.dtype),
    "sum": lambda x: x.sum(-1, dtype=x.dtype),
    "softmax": lambda x: x.softmax(-1, dtype=x.dtype),
    "cast": lambda x: ops.cast(ops.cast(x, "float64"), x.dtype),
    "zeros_like": lambda x: ops.zeros_like(x, dtype=x.dtype),
    "decision": lambda x: x * (2 if x.dtype == torch.float32 and x.dtype.is_floating_point else 1),
    "promotion": lambda x: ops.cast(x, torch.promote_types(as_dtype(x.dtype), torch.float64)),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_symbolic_dtypes_in_graphs(name):
    x = ks.Input((4,))
    model = ks.Model(x, GRAPHS[name](x))
    data = torch.rand(2, 4)
    expected = GRAPHS[name](data)
    assert torch.equal(model(data), expected) and model(data).dtype == expected.dtype == model.outputs[0].dtype
    again = ks.models.model_from_json(model.to_json()) if name in ("cast", "zeros_like") else model
    assert torch.equal(again(data), expected)


class Precise(layers.Layer):
    """A layer that decides by dtypes, as programs for Keras do."""

    def build(self, input_shape):
        self.dense = layers.Dense(4)
        self.dense.build(input_shape)

    def call(self, x):
        x = x * 2 if x.dtype == self.compute_dtype else x
        x = ops.cast(x, self.compute_dtype) + torch.ones(4, dtype=self.compute_dtype.torch_dtype)
        x = x * 3 if self.dense.kernel.dtype.is_floating_point and self.dense.kernel.dtype == "float32" else x
        return x + ops.ones((4,), dtype=self.dense.kernel.dtype) * (5 if ks.config.floatx() == x.dtype else 7)


def test_graphs_hold_torch_dtypes():
    """Each call pays for the conversion of a name."""
    x = ks.Input((4,))
    assert x.sum(-1, dtype=x.dtype).node.kwargs["dtype"] is torch.float32


@pytest.mark.full
def test_names_inside_compiled_functions():
    layer, x = Precise(), torch.rand(2, 4)
    expected = layer(x)
    assert torch.equal(expected, (2 * x + 1) * 3 + 5)
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    assert torch.equal(compiled(x), expected)
