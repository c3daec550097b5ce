"""Operations in graphs: Keras' classes and our functions."""

import importlib
import inspect

import keras
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from keras.src.ops.operation import Operation

import kstyle_torch as ks
from kstyle_torch import ops
from kstyle_torch.models import op_nodes
from tests.oracle import array, uniform

# of another name, made of two others, or with functions in their config, which a file cannot hold
NOT_HERE = {"Operation", "SegmentReduction", "ConvertToTensor"} | {
    *("AssociativeScan", "Cond", "ForiLoop", "JVP", "Map", "Scan", "Switch", "VectorizedMap", "WhileLoop")
}


@pytest.mark.parametrize("module", op_nodes.CLASSES)
def test_the_classes_are_those_of_keras(module):
    """Names, and the arguments that stand in a config; what the newest Keras has more is none of ours yet."""
    theirs = {
        name: cls
        for name, cls in vars(importlib.import_module(f"keras.src.ops.{module}")).items()
        if inspect.isclass(cls) and issubclass(cls, Operation) and cls.__module__ == f"keras.src.ops.{module}"
    }
    ours = {name: op for name, op in op_nodes.by_class().items() if op.module.endswith(f".{module}")}
    assert theirs.keys() - NOT_HERE == ours.keys()
    for name, op in ours.items():
        parameters = {*inspect.signature(theirs[name].__init__).parameters} - {"self", "name", "kwargs", "rms_scaling"}
        assert parameters == {*op.settings}, name
        assert parameters <= {*inspect.signature(op.function).parameters}, name


def calculation(library):
    """Functions with and without settings, operators with numbers on either side, indexing, several outputs."""
    ops, a, b = library.ops, library.Input((4,)), library.Input((4,))
    x = ops.concatenate([ops.tanh(a) * 2.0 + b, a], axis=-1)
    x = ops.reshape(x, (-1, 2, 4))
    z, x = x[:, 0, 1:3], x[..., 0]
    x = ops.relu(ops.mean(x, axis=1, keepdims=True))
    x = 1 - ops.where(x > 0.1, -x / 3, 0.5) ** 2
    x = ops.squeeze(ops.expand_dims(ops.log_sigmoid(x), 1), 1)
    x = ops.clip(ops.pad(x, ((0, 0), (1, 1))), 0.1, 0.9)
    x = library.activations.relu(ops.einsum("ab,ac->bc", x, x), negative_slope=0.1)
    x, y = ops.split(ops.stack([x, x * 2], axis=0), 2, axis=0)
    inner_input = library.Input((3, 3))
    inner = library.Model(inner_input, library.layers.Dense(2)(inner_input))  # called twice
    return library.Model([a, b], [inner(x) + inner(y), z, ops.norm(z, axis=-1), ops.top_k(z, k=1)[0]])


def positions(library):
    """Rows and columns, told apart as in a program."""
    x = library.Input((4,))
    rows, columns = library.ops.nonzero(x)
    return x, rows, columns


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [pytest.param(keras, ks, id="to-ours"), pytest.param(ks, keras, id="to-keras"), pytest.param(ks, ks, id="here")],
)
def test_graphs_of_operations_go_both_ways(theirs, ours, tmp_path):
    model = calculation(theirs)
    model.save(tmp_path / "m.keras")
    again = ours.saving.load_model(tmp_path / "m.keras")
    data = [uniform(6, 4), uniform(6, 4, seed=1)]
    with torch.no_grad():
        for mine, other in zip(again(data), model(data), strict=True):
            np.testing.assert_allclose(array(mine), array(other), rtol=1e-6, atol=1e-6)


def test_positions_are_a_tuple_of_symbolic_tensors(tmp_path):
    (x, rows, columns), theirs = positions(ks), positions(keras)
    assert [(each.shape, each.dtype) for each in (rows, columns)] == [(each.shape, each.dtype) for each in theirs[1:]]
    model = ks.Model(x, [rows * 2, columns + 1])
    model.save(tmp_path / "m.keras")
    data = torch.tensor([[0.0, 1, 0, 3], [2, 0, 0, 0]])
    found = keras.ops.nonzero(data)
    for each in (model, ks.saving.load_model(tmp_path / "m.keras")):
        for mine, other in zip(each(data), (found[0] * 2, found[1] + 1), strict=True):
            assert torch.equal(mine, other)
    written = keras.Model(theirs[0], [theirs[1] * 2, theirs[2] + 1])  # which Keras on torch cannot run
    written.save(tmp_path / "theirs.keras")
    assert torch.equal(ks.saving.load_model(tmp_path / "theirs.keras")(data)[0], found[0] * 2)
    assert keras.saving.load_model(tmp_path / "m.keras").output_shape == written.output_shape


def operations_of_users(library):
    """Classes, and a model that calls an operation twice and one of two outputs."""

    class Scale(library.Operation):
        def __init__(self, factor=2.0, name=None):
            super().__init__(name=name)
            self.factor = factor

        def call(self, x, shift=0.0, training=False):
            return x * self.factor + shift + (1.0 if training else 0.0)

        def compute_output_spec(self, x, shift=0.0, training=False):
            return library.KerasTensor(x.shape, x.dtype)

        def get_config(self):
            return {"factor": self.factor, "name": self.name}

    class Both(library.Operation):
        def call(self, x, y):
            return [x + y, x - y]

    x, scale = library.Input((3,), name="x"), Scale(3.0, name="twice")
    hidden = library.layers.Dense(2, kernel_initializer="ones", name="dense")(scale(x))
    first, second = Both(name="both")(hidden, scale(hidden, shift=1.0, training=True))
    shared = library.ops.multiply(first, first)
    return {"Scale": Scale, "Both": Both}, library.Model(x, [Scale(name="last")(shared), second])


def described(model):
    tables = []
    model.summary(print_fn=lambda text, **_: tables.append(text), line_length=120)
    rows = [row.split("│")[1:3] for text in tables for row in text.splitlines() if row.startswith("│")]
    operations = [(type(each).__name__, each.name) for each in model.operations if type(each).__name__ != "Multiply"]
    return operations, [[cell.strip() for cell in row] for row in rows if not row[0].strip().startswith("multiply")]


def test_operations_of_users_are_listed_as_in_keras():
    theirs, ours = (described(operations_of_users(library)[1]) for library in (keras, ks))
    assert ours == theirs
    assert ("Scale", "twice") in ours[0]


def test_only_graphs_have_operations():
    made = ks.Sequential([ks.layers.Dense(2)])
    with pytest.raises(AttributeError):
        made.operations  # noqa: B018
    made.operations = 3
    assert made.operations == 3


def test_two_operations_of_one_name_are_refused():
    for library in (keras, ks):
        x, cls = library.Input((3,)), operations_of_users(library)[0]["Scale"]
        with pytest.raises(ValueError, match="same"):
            library.Model(x, cls(name="same")(cls(name="same")(x)))


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [pytest.param(keras, ks, id="to-ours"), pytest.param(ks, keras, id="to-keras"), pytest.param(ks, ks, id="here")],
)
def test_operations_of_users_go_both_ways(theirs, ours, tmp_path):
    _, model = operations_of_users(theirs)
    model.save(tmp_path / "m.keras")
    classes, _ = operations_of_users(ours)
    again = ours.saving.load_model(tmp_path / "m.keras", custom_objects=classes)
    assert [each[:2] for each in described(again)] == [each[:2] for each in described(model)]
    data = uniform(6, 3)
    with torch.no_grad():
        for mine, other in zip(again(data), model(data), strict=True):
            np.testing.assert_allclose(array(mine), array(other), rtol=1e-6, atol=1e-6)
    with pytest.raises((TypeError, ValueError), match="Scale"):
        ours.saving.load_model(tmp_path / "m.keras")


def test_functions_of_torch_are_written_as_the_operations_of_keras(tmp_path):
    x = ks.Input((4,))
    y = torch.exp(x) + torch.sigmoid(x) * 2
    model = ks.Model(x, torch.where(y > 1, 3 - y, torch.rsqrt(y.square())) @ ops.ones((4, 2)))
    model.save(tmp_path / "m.keras")
    data = uniform(3, 4)
    np.testing.assert_allclose(
        array(keras.saving.load_model(tmp_path / "m.keras")(data)), array(model(data)), rtol=1e-6, atol=1e-6
    )


def test_functions_that_keras_lacks_are_read_here(tmp_path):
    x = ks.Input((4,))
    model = ks.Model(x, F.softplus(x, beta=2.0).roll(1, dims=1))
    model.save(tmp_path / "m.keras")
    data = uniform(3, 4)
    assert torch.equal(ks.saving.load_model(tmp_path / "m.keras")(data), model(data))


def test_an_operation_that_is_none():
    config = calculation(ks).get_config()
    entry = next(entry for entry in config["layers"] if entry["class_name"] == "Tanh")
    entry["class_name"] = "Bomb"
    with pytest.raises(ValueError, match="'Bomb'"):
        ks.Functional.from_config(config)


def test_a_nested_model_of_older_keras_begins_at_call_1():
    inner_input, x = ks.Input((3,)), ks.Input((3,))
    inner = ks.Model(inner_input, ks.layers.Dense(3)(inner_input), name="inner")
    config = ks.Model(x, inner(inner(x))).get_config()
    entry = next(entry for entry in config["layers"] if entry["name"] == "inner")
    entry["inbound_nodes"][1]["args"][0]["config"]["keras_history"] = ["inner", 1, 0]
    config["output_layers"] = ["inner", 2, 0]
    again = ks.Functional.from_config(config)
    assert len([call for call in again.graph.calls if call.target.name == "inner"]) == 2
