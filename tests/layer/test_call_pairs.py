"""`call` and `forward` that a user replaces, on a layer or its class: every way to call the layer takes the new one."""

import abc
import copy
import itertools
import types
import unittest.mock

import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import layers
from tests.models_to_train import GRAPHS, AtBatch
from tests.oracle import assert_same_bits, uniform


class Block(ks.Sequential):
    pass


CASES = {
    "Dense": (lambda: layers.Dense(6, activation="relu"), (6,)),
    "Conv2D": (lambda: layers.Conv2D(3, 3, activation="relu"), (8, 8, 3)),
    "MaxPooling2D": (lambda: layers.MaxPooling2D(2), (8, 8, 3)),
    "Dropout": (lambda: layers.Dropout(0.5), (6,)),
    "BatchNormalization": (lambda: layers.BatchNormalization(), (6,)),
    "LSTM": (lambda: layers.LSTM(4), (5, 6)),
    "Bidirectional": (lambda: layers.Bidirectional(layers.LSTM(4)), (5, 6)),
    "float64": (lambda: layers.Dense(6, dtype="float64"), (6,)),
    "Sequential": (lambda: Block([layers.Dense(6)]), (6,)),
}


class Replaced:
    """A `call` that doubles what the layer gives, in the place of that on an object or a class, until the block ends."""

    def __init__(self, layer, name="call", on_class=False, own_self=True):
        self.target = type(layer) if on_class else layer
        self.name, original = name, getattr(self.target, name)
        if on_class:
            self.value = lambda layer, *args, **kwargs: tripled(original(layer, *args, **kwargs))
        elif own_self:
            self.value = types.MethodType(lambda layer, *args, **kwargs: tripled(original(*args, **kwargs)), layer)
        else:
            self.value = lambda *args, **kwargs: tripled(original(*args, **kwargs))

    def __enter__(self):
        self.patch = unittest.mock.patch.object(self.target, self.name, self.value)
        self.patch.start()

    def __exit__(self, *error):
        self.patch.stop()


def tripled(y):
    return 3 * y


WAYS = {
    "method of an object": {},
    "function of an object": {"own_self": False},
    "forward of an object": {"name": "forward"},
    "class": {"on_class": True},
    "forward of a class": {"on_class": True, "name": "forward"},
}


def models_with(layer, shape):
    """A Sequential, a functional and a subclassed model that do what a layer does, and the layer."""

    class Own(ks.Model):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def call(self, x):
            return self.layer(x)

    inputs = ks.Input(shape)
    return [layer, ks.Sequential([ks.Input(shape), layer]), ks.Model(inputs, layer(inputs)), Own()]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES)
def test_a_replaced_call_is_made(case, way):
    make, shape = CASES[case]
    layer, x = make(), uniform(4, *shape)
    models = models_with(layer, shape)
    expected = layer(x).detach().numpy()
    for settings in ({}, {"run_eagerly": True}):
        for model in models[1:]:
            model.compile("sgd", "mse", **settings)
            model.predict(x, verbose=0)
        with Replaced(layer, **WAYS[way]):
            for model in models:
                np.testing.assert_allclose(model(x).detach(), 3 * expected, rtol=1e-5)
            for model in models[1:]:
                np.testing.assert_allclose(model.predict(x, verbose=0), 3 * expected, rtol=1e-5)
                np.testing.assert_allclose(model.predict_on_batch(x), 3 * expected, rtol=1e-5)
        for model in models:
            np.testing.assert_allclose(model(x).detach(), expected, rtol=1e-5)
        for model in models[1:]:
            np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_a_call_replaced_before_the_layer_is_built_is_made(way):
    layer, x = layers.Dense(3), uniform(4, 6)
    with Replaced(layer, **WAYS[way]):
        y = layer(x).detach()
    np.testing.assert_allclose(y, 3 * layer(x).detach(), rtol=1e-5)


@pytest.mark.parametrize("on_class", [False, True], ids=["object", "class"])
def test_a_cell_with_another_call_steps_through_the_sequence(on_class):
    layer, x, shapes = layers.LSTM(4, return_sequences=True), uniform(2, 5, 6), []
    before, original = layer(x), layers.LSTMCell.call

    def call(cell, inputs, states, training=None):
        shapes.append(inputs.shape)
        return original(cell, inputs, states, training)

    target = layers.LSTMCell if on_class else layer.cell
    with unittest.mock.patch.object(target, "call", call if on_class else types.MethodType(call, layer.cell)):
        np.testing.assert_allclose(layer(x).detach(), before.detach(), atol=1e-6)
    assert shapes == [(2, 6)] * 5
    assert_same_bits([layer(x)], [before])
    assert len(shapes) == 5


X = uniform(16 * 100, 6).numpy()
Y = X.sum(1, keepdims=True)
TIERS = {
    "eager": {"jit_compile": False},
    "recorded": {},
    "on request": {"jit_compile": "record"},
    "step graph": GRAPHS,
    "passes": {**GRAPHS, "optimizer": torch.optim.SGD},
    "epoch graph": {**GRAPHS, "steps_per_execution": "epoch"},
}


def fitted(way, at=None, optimizer="sgd", **settings):
    """Losses and weights of fits before, while and after a layer's call is replaced; or of one, in which a callback does."""
    ks.utils.set_random_seed(1)
    model = ks.Sequential([ks.Input((6,)), layers.Dense(8, "relu"), layers.LayerNormalization(), layers.Dense(1)])
    model.compile(optimizer, "mse", **settings)
    losses, batches = [], {"x": X, "y": Y, "batch_size": 16, "verbose": 0, "shuffle": False}
    replaced = Replaced(model.layers[1], **WAYS[way])
    losses += model.fit(**batches).history["loss"]
    if at is not None:
        losses += model.fit(**batches, epochs=2, callbacks=[AtBatch(lambda _: replaced.__enter__())]).history["loss"]
    else:
        replaced.__enter__()
    losses += model.fit(**batches).history["loss"]
    predictions = [model.predict(X[:32], verbose=0), model.evaluate(X, Y, verbose=0)]
    replaced.__exit__()
    losses += model.fit(**batches).history["loss"]
    return [losses, *predictions, *model.get_weights()]


@pytest.mark.filterwarnings("ignore:jit_compile", "ignore:steps_per_execution")
@pytest.mark.parametrize(
    ("tier", "way"),
    [
        *itertools.product(["eager", "recorded", "on request"], WAYS),
        ("step graph", "method of an object"),
        *(pytest.param(*row, marks=pytest.mark.full) for row in [("step graph", "class"), ("passes", "class")]),
        pytest.param("epoch graph", "function of an object", marks=pytest.mark.full),
    ],
)
def test_a_replaced_call_is_trained_with(tier, way):
    settings = TIERS[tier]
    expected = fitted(way, optimizer=settings.get("optimizer", "sgd"), run_eagerly=True)
    for one, other in zip(fitted(way, **settings), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.filterwarnings("ignore:jit_compile")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("tier", ["recorded", "on request"])
def test_a_callback_replaces_a_call_between_batches(tier, way):
    got, expected = fitted(way, at=3, **TIERS[tier]), fitted(way, at=3, run_eagerly=True)
    assert got[0] == expected[0]
    assert_same_bits(got[1:2] + got[3:], expected[1:2] + expected[3:])


def program(lib, on_class):
    """The modes that the replaced call of a layer is passed."""
    seen, layer = [], lib.layers.Dense(3)

    def call(layer, x, training=None):
        seen.append(training)
        return original(layer, x)

    x, original = np.ones((4, 6), "float32"), lib.layers.Dense.call
    try:
        if on_class:
            lib.layers.Dense.call = call
            layer = lib.layers.Dense(3)
        else:
            layer(x)
            layer.call = types.MethodType(call, layer)
        model = lib.Sequential([lib.Input((6,)), layer])
        model.compile("sgd", "mse")
        seen.clear()
        layer(x, training=True)
        layer(x, training=False)
        model(x, training=True)
        model.train_on_batch(x, np.ones((4, 3)))
        model.predict(x, verbose=0)
        return seen
    finally:
        lib.layers.Dense.call = original


def test_a_replaced_call_is_passed_the_mode():
    import keras

    expected = program(keras, on_class=True)
    assert expected[:3] == [True, False, True]
    for got in (expected, program(ks, on_class=True), program(ks, on_class=False)):
        assert got[:3] == expected[:3]
        assert True in got[3:]  # train_on_batch
        assert got[-1] is False  # predict


def test_a_class_without_a_call_of_its_own_gets_rid_of_a_replaced_one():
    before = {**vars(layers.Conv2D)}
    with unittest.mock.patch.object(layers.Conv2D, "call", lambda layer, x: x):
        assert layers.Conv2D(2, 3)(torch.ones(1, 4, 4, 1)).shape == (1, 4, 4, 1)
    assert layers.Conv2D(2, 3)(torch.ones(1, 4, 4, 1)).shape == (1, 2, 2, 2)
    assert {*vars(layers.Conv2D)} - {*before} <= {"_opens_call"}


def doubled(layer, x):
    return 2 * x


def test_a_copy_calls_what_their_own_layer_has():
    layer = layers.Dense(3)
    layer.call = types.MethodType(doubled, layer)
    twin = copy.deepcopy(layer)
    assert twin.call.__self__ is twin
    assert twin(torch.ones(1, 3)).tolist() == [[2.0, 2.0, 2.0]]


def test_layers_mix_with_classes_of_other_metaclasses():
    class Registering(type):
        pass

    class Own(layers.Dense, metaclass=Registering):
        pass

    class Abstract(layers.Dense, abc.ABC):
        pass

    assert Own(3)(torch.ones(1, 2)).shape == Abstract(3)(torch.ones(1, 2)).shape


def test_a_mock_records_the_calls_of_a_layer():
    model = ks.Sequential([ks.Input((6,)), layers.Dense(1)])
    with unittest.mock.patch.object(model.layers[0], "call", return_value=torch.zeros(4, 1)) as call:
        assert model.predict(X[:4], verbose=0).tolist() == [[0.0]] * 4
    assert call.call_count == 1


def test_an_attribute_that_is_deleted_counts_as_a_change():
    from kstyle_torch.training.engines.invalidation import marks

    layer = layers.Dense(1)
    layer.scale = 2.0
    before = marks()
    del layer.scale
    assert marks() != before


@pytest.mark.parametrize("name", ["call", "forward"])
def test_a_class_is_as_before_when_the_patch_has_gone(name, monkeypatch):
    layer, x = layers.Dense(4), torch.ones(2, 3)
    expected = layer(x)
    before = {
        key: value for key, value in vars(layers.Dense).items() if key.startswith("_") or key in ("call", "forward")
    }
    with monkeypatch.context() as patch:
        patch.setattr(layers.Dense, name, lambda self, inputs: inputs * 0)
        assert not layer(x).any()
    assert torch.equal(layer(x), expected)
    after = {
        key: value for key, value in vars(layers.Dense).items() if key.startswith("_") or key in ("call", "forward")
    }
    assert after == before
