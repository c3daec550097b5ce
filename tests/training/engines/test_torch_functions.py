"""Functions of torch that a user replaces: every tier calls what the plain path calls."""

import itertools
import unittest.mock

import numpy as np
import pytest
import torch

from kstyle_torch import layers, metrics, optimizers
from kstyle_torch.training.engines.torch_functions import replaced_functions
from tests.models_to_train import GRAPHS, AtBatch, network
from tests.oracle import assert_same_bits, uniform

F = torch.nn.functional
FUNCTIONS = {
    "linear": (F, "linear"),
    "relu of nn": (F, "relu"),
    "relu": (torch, "relu"),
    "layer_norm": (F, "layer_norm"),
    "inherited method": (torch.Tensor, "square"),
}
TIERS = {
    "eager": {"jit_compile": False},
    "recorded": {},
    "recorded on request": {"jit_compile": "record"},
    "step graph": GRAPHS,
    "passes": {**GRAPHS, "optimizer": torch.optim.SGD},  # the optimizer is no part of such a graph
    "epoch graph": {**GRAPHS, "steps_per_execution": "epoch"},
}
X = uniform(16 * 100, 6).numpy()
Y = X.sum(1, keepdims=True).astype("float32")
BATCHES = {"x": X, "y": Y, "batch_size": 16, "shuffle": False, "verbose": 0}


class Squares(layers.Layer):
    def call(self, x):
        return x.square()


def make(optimizer="sgd", squares=False, **settings):
    inside = [layers.LayerNormalization(), *([Squares()] if squares else [])]
    return network(optimizer, inside, loss="mse", metrics=[], **settings)


def halved(function):
    return lambda *args, **kwargs: 0.5 * function(*args, **kwargs)


def replaced(name):
    home, attribute = FUNCTIONS[name]
    return unittest.mock.patch.object(home, attribute, halved(getattr(home, attribute)))


def numbers(model, name):
    """Predictions and losses before, while, and after a function is replaced."""
    found = [model.fit(**BATCHES).history["loss"], model.predict(X[:50], verbose=0)]
    with replaced(name):
        found += [model.predict(X[:50], verbose=0), model.evaluate(X, Y, verbose=0)]
        found += [model.fit(**BATCHES).history["loss"]]
    found += [model.fit(**BATCHES).history["loss"], model.predict(X[:50], verbose=0)]
    return found


@pytest.mark.filterwarnings("ignore:jit_compile", "ignore:steps_per_execution")
@pytest.mark.parametrize(
    ("tier", "name"),
    [
        *itertools.product(["eager", "recorded", "recorded on request"], FUNCTIONS),
        ("step graph", "linear"),
        *(pytest.param(*row, marks=pytest.mark.full) for row in [("step graph", "relu"), ("passes", "layer_norm")]),
        pytest.param("epoch graph", "inherited method", marks=pytest.mark.full),
    ],
)
def test_a_replaced_function_is_called_in_every_tier(name, tier):
    squares = name == "inherited method"
    settings = TIERS[tier]
    expected = numbers(make(settings.get("optimizer", "sgd"), squares, run_eagerly=True), name)
    got = numbers(make(squares=squares, **settings), name)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    assert np.abs(np.subtract(expected[1], expected[2])).max() > 1e-3


@pytest.mark.parametrize("settings", [{}, {"jit_compile": "record"}], ids=["recorded", "on request"])
@pytest.mark.filterwarnings("ignore:jit_compile")
def test_a_callback_replaces_a_function_between_batches(settings):
    def fitted(**settings):
        patch = replaced("layer_norm")
        model = make(**settings)
        history = model.fit(**BATCHES, epochs=3, callbacks=[AtBatch(lambda _: patch.start())]).history["loss"]
        patch.stop()
        return history, model.get_weights()

    expected, weights = fitted(run_eagerly=True)
    got, ours = fitted(**settings)
    assert got == expected
    assert_same_bits(ours, weights)


def generator(replace):
    def batches():
        for step in range(300):
            if step == 150:
                replace()
            rows = slice(step % 100 * 16, step % 100 * 16 + 16)
            yield X[rows], Y[rows]

    return {}, {"x": batches(), "y": None, "batch_size": None, "steps_per_epoch": 100}


def metric(replace):
    class Replacing(metrics.MeanAbsoluteError):
        steps = 0

        def update_state(self, *args, **kwargs):
            self.steps += 1
            if self.steps == 150:
                replace()
            super().update_state(*args, **kwargs)

    return {"metrics": [Replacing()]}, {}


def schedule(replace):
    class Replacing(optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            if step == 150:
                replace()
            return 0.01

    return {"optimizer": optimizers.SGD(Replacing())}, {}


@pytest.mark.parametrize("settings", [{"jit_compile": False}, {}, {"jit_compile": "record"}], ids=str)
@pytest.mark.parametrize("place", [generator, metric, schedule], ids=lambda place: place.__name__)
@pytest.mark.filterwarnings("ignore:jit_compile")
def test_users_code_between_the_passes_replaces_a_function(place, settings):
    def fitted(**settings):
        patch = replaced("layer_norm")
        compiling, fitting = place(patch.start)
        model = network(
            **{"inside": [layers.LayerNormalization()], "loss": "mse", "metrics": [], **settings, **compiling}
        )
        try:
            history = model.fit(**{**BATCHES, **fitting, "epochs": 3}).history["loss"]
        finally:
            patch.stop()
        return history, model.get_weights()

    expected, weights = fitted(run_eagerly=True)
    got, ours = fitted(**settings)
    assert got == expected
    assert_same_bits(ours, weights)


def test_recording_goes_on_when_a_function_is_put_back():
    model = make()
    model.fit(**BATCHES)
    tapes = dict(model._fit.step_engine.recordings)
    assert all(tape.checked for tape in tapes.values())
    with replaced("layer_norm"):
        model.fit(**BATCHES)
        assert "layer_norm" in model._fit.step_engine.reason
    model.fit(**BATCHES)
    assert model._fit.step_engine.reason is None
    assert model._fit.step_engine.recordings == tapes != {}


def test_replaced_functions_are_found_by_path():
    assert replaced_functions() == {}
    with replaced("relu"), replaced("inherited method"), replaced("linear"):
        assert replaced_functions().keys() == {"torch.relu", "torch.Tensor.square", "torch.nn.functional.linear"}
    assert replaced_functions() == {}
