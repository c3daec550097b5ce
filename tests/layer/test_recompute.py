"""Layers made in a `RematScope`, and functions of `remat`: the same numbers, computed twice."""

import copy
import pickle

import keras
import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch.layer.recompute import RecomputingForward
from tests.oracle import array, assert_close, uniform

MODES = {
    "full": {},
    "activations": {"mode": "activations"},
    "large": {"mode": "larger_than", "output_size_threshold": 20},
    "all named": {"mode": "list_of_layers", "layer_names": ["first", "noise", "norm", "last"]},
}


def model_of(library, scope=None, noise=True):
    library.utils.set_random_seed(0)
    layers = library.layers

    def made():
        listed = [layers.Dense(8, activation="tanh", name="first"), layers.BatchNormalization(name="norm")]
        listed += [layers.Dropout(0.5, seed=3, name="noise")] if noise else []
        return [*listed, layers.Dense(1, name="last", activity_regularizer="l2")]

    if scope is None:
        listed = made()
    else:
        with library.RematScope(**scope):
            listed = made()
    model = library.Sequential([library.Input((4,)), *listed])
    model.compile(library.optimizers.SGD(0.05), "mse")
    return model


X, Y = uniform(16, 4), uniform(16, 1, seed=1)


@pytest.mark.parametrize("jit_compile", ["auto", "record", False])
@pytest.mark.parametrize("mode", MODES)
def test_training_is_the_same(mode, jit_compile):
    """Bit for bit: dropout draws the same, statistics move once, and losses count once."""
    runs = []
    for scope in (None, MODES[mode]):
        model = model_of(ks, scope)
        model.compile(ks.optimizers.SGD(0.05), "mse", jit_compile=jit_compile)
        torch.manual_seed(0)
        losses = model.fit(X, Y, epochs=4, batch_size=4, verbose=0, shuffle=False).history["loss"]
        runs.append([losses, *[weight.numpy() for weight in model.weights], model.predict(X, verbose=0)])
    for plain, again in zip(*runs, strict=True):
        np.testing.assert_allclose(again, plain, rtol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_training_is_that_of_keras(mode):
    results = []
    for library in (keras, ks):
        model = model_of(library, MODES[mode], noise=False)
        for number, weight in enumerate(model.weights):
            weight.assign(np.random.default_rng(number).uniform(0.1, 1, weight.shape).astype("float32"))
        model.layers[1].trainable = False  # Keras moves its statistics twice
        model.compile(library.optimizers.SGD(0.05), "mse")
        model.fit(X.numpy(), Y.numpy(), epochs=2, batch_size=4, verbose=0, shuffle=False)
        results.append([array(weight) for weight in model.weights])
    for theirs, ours in zip(*results, strict=True):
        assert_close(ours, theirs, rtol=1e-4)


class Counting(ks.layers.Layer):
    """A layer that counts its calls in training mode and in others."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.modes = []

    def call(self, inputs, training=None):
        self.modes.append(training)
        return (inputs * inputs).tanh()


def test_the_mode_is_that_of_the_first_time():
    with ks.RematScope():
        layer = Counting()
    x = torch.ones(2, 3, requires_grad=True)
    layer(x, training=True).sum().backward()
    assert layer.modes == [True, True]
    layer(x).sum().backward()
    assert layer.modes == [True, True, False, False]
    with torch.no_grad():
        layer(x)
    assert len(layer.modes) == 5


CHOSEN = {
    "full": ({"mode": "full"}, 2),
    "none": ({"mode": None}, 1),
    "named": ({"mode": "list_of_layers", "layer_names": ["counting"]}, 2),
    "other": ({"mode": "list_of_layers", "layer_names": ["another"]}, 1),
    "small": ({"mode": "larger_than", "output_size_threshold": 6}, 1),
    "large": ({"mode": "larger_than", "output_size_threshold": 5}, 2),
    "inner scope": ({"mode": "full"}, 2),
}


@pytest.mark.parametrize(("scope", "calls"), CHOSEN.values(), ids=CHOSEN)
def test_layers_that_are_computed_again(scope, calls):
    with ks.RematScope(**scope):
        layer = Counting(name="counting")
    outside = Counting()
    x = torch.ones(2, 3, requires_grad=True)
    for each in (layer, outside):
        each(x)  # the shape is inferred here, where the size counts
        each.modes.clear()
        each(x).sum().backward()
    assert len(layer.modes) == calls and len(outside.modes) == 1


def test_copies_pickles_and_dtypes():
    model = model_of(ks, {})
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert all(isinstance(vars(layer)["forward"], RecomputingForward) for layer in other.layers)
        assert all(vars(layer)["forward"].layer is layer for layer in other.layers)
        assert_close(other(X), model(X))
    double = copy.deepcopy(model).double()
    assert double(X.double()).dtype is torch.float64
    assert isinstance(vars(double.layers[0])["forward"], RecomputingForward)
    with ks.RematScope():
        mixed = ks.layers.Dense(2, dtype="mixed_bfloat16")
    assert mixed(X).dtype is torch.bfloat16


def test_functions():
    weight = torch.ones(4, 4, requires_grad=True)
    calls = []

    def function(x, scale=1.0):
        calls.append(scale)
        return {"y": (x @ weight * scale).tanh()}

    made = ks.remat(function)
    assert made.__name__ == "function"
    made(X, scale=2.0)["y"].sum().backward()
    assert calls == [2.0, 2.0]
    expected = weight.grad
    weight.grad = None
    function(X, scale=2.0)["y"].sum().backward()
    assert_close(weight.grad, expected)
    outputs = ks.remat(ks.layers.Dense(2))(ks.Input((4,)))
    assert outputs.shape == (None, 2)
    normalization = ks.layers.BatchNormalization()
    x = X.clone().requires_grad_()
    ks.remat(normalization)(x, training=True).square().sum().backward()
    once = ks.layers.BatchNormalization()
    once(X, training=True)
    assert_close(normalization.moving_mean, once.moving_mean)


def test_a_wrong_mode():
    for library in (keras, ks):
        with pytest.raises(ValueError):
            library.RematScope(mode="sometimes")
