"""`update_step` and `apply` that users define in subclasses of the optimizers, or put on their classes."""

import unittest.mock

import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import layers
from kstyle_torch.optimizers import base

X = np.random.default_rng(0).normal(size=(16 * 60, 6)).astype("float32")
FITS = {"batch_size": 16, "epochs": 2, "shuffle": False, "verbose": 0}
ALL = [name for name in dir(ks.optimizers) if isinstance(getattr(ks.optimizers, name), type)]
ALL = [name for name in ALL if issubclass(getattr(ks.optimizers, name), base.Optimizer)]
ALL = [name for name in ALL if name not in ("Optimizer", "LossScaleOptimizer", "MultiOptimizer", "TorchOptimizer")]
QUICK = ("Adafactor", "Adagrad", "Muon")  # of each kind one


def update_step(self, gradient, variable, learning_rate):
    variable.assign(variable.value - learning_rate * gradient)


def backwards(apply):
    return lambda self, gradients, variables=None: apply(self, [-each for each in gradients], variables)


def network(optimizer, **how):
    torch.manual_seed(0)
    model = ks.Sequential([ks.Input((6,)), layers.Dense(8, "tanh"), layers.Dense(1)])
    model.compile(optimizer, "mse", **how)
    return model


def losses(optimizer, **how):
    return network(optimizer, **how).fit(X, X[:, :1], **FITS).history["loss"]


class OfKeras(ks.optimizers.Optimizer):
    update_step = update_step


@pytest.mark.parametrize("way", ["subclass", "class", "object"])
@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.full) for name in ALL]
)
def test_an_update_step_of_the_users_is_the_step(name, way):
    cls, expected = getattr(ks.optimizers, name), losses(OfKeras(0.02))
    rate = {"learning_rate": 0.02, "weight_decay": 0.0}
    if way == "subclass":
        np.testing.assert_allclose(
            losses(type("Own", (cls,), {"update_step": update_step})(**rate)), expected, rtol=1e-4
        )
        return
    optimizer = cls(**rate)
    if way == "object":
        optimizer.update_step = update_step.__get__(optimizer)
        np.testing.assert_allclose(losses(optimizer), expected, rtol=1e-4)
        return
    for jit_compile in ("auto", *([{"backend": "eager"}] if name == "Adam" else [])):
        model = network(cls(**rate), jit_compile=jit_compile)
        start = model.get_weights()
        model.fit(X, X[:, :1], **FITS)
        model.set_weights(start)
        with unittest.mock.patch.object(cls, "update_step", update_step):
            np.testing.assert_allclose(model.fit(X, X[:, :1], **FITS).history["loss"], expected, rtol=1e-4)
        model.set_weights(start)
        assert model.fit(X, X[:, :1], **FITS).history["loss"] != expected


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.full) for name in ALL]
)
def test_a_users_apply_is_called(name):
    cls = getattr(ks.optimizers, name)
    expected = losses(type("Own", (cls,), {"apply": backwards(cls.apply)})(0.02), jit_compile=False)
    assert losses(cls(0.02)) != expected
    with unittest.mock.patch.object(cls, "apply", backwards(cls.apply)):
        assert losses(cls(0.02)) == expected


@pytest.mark.parametrize(
    "name", [name if name in (*QUICK, "Nadam") else pytest.param(name, marks=pytest.mark.full) for name in ALL]
)
def test_an_update_step_may_call_that_of_its_class(name):
    cls = getattr(ks.optimizers, name)

    class Own(cls):
        def update_step(self, gradient, variable, learning_rate):
            super().update_step(gradient, variable, learning_rate)

    np.testing.assert_allclose(losses(Own(0.02)), losses(cls(0.02)), rtol=1e-4)


@pytest.mark.parametrize("name", [pytest.param("update", marks=pytest.mark.full), "update_step"])
def test_a_replaced_update_is_not_compiled_away(name):
    class Still:
        def __get__(self, optimizer, owner=None):
            return lambda *arguments: None

    model = network(ks.optimizers.Adam(0.02), jit_compile={"backend": "eager"})
    model.fit(X, X[:, :1], **FITS)
    before = model.get_weights()
    with unittest.mock.patch.object(ks.optimizers.Adam, name, Still()):
        model.fit(X, X[:, :1], **FITS)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
