"""Tracing and trying compiled code while other threads use the model: they never see its tensors replaced."""

import queue
import threading

import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import layers
from kstyle_torch.training.compiled import verify
from tests.models_to_train import GRAPHS

pytestmark = pytest.mark.full
X = np.random.default_rng(0).uniform(-1, 1, (64, 10)).astype("float32")
Y = X.sum(1, keepdims=True)
watched = []  # what to do in the middle of a call


class Watched(layers.Layer):
    def call(self, x):
        for look in watched:
            look()
        return x


@pytest.fixture
def model():
    made = ks.Sequential([ks.Input((10,)), layers.Dense(8), layers.BatchNormalization(), Watched(), layers.Dense(1)])
    yield made
    watched.clear()


def held(model):
    """Returns the objects in the places of weights and statistics, as another thread sees them."""
    found = []

    def look():
        found.extend(map(id, (*model.parameters(), *model.buffers())))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return found


@pytest.mark.parametrize("tier", ["step graph", "epoch graph", "forward graph"])
def test_tracing_puts_nothing_into_the_model(model, tier):
    model.compile("sgd", "mse", **GRAPHS, steps_per_execution="epoch" if tier == "epoch graph" else 1)
    seen = queue.SimpleQueue()  # which is not looked into for what the layer reads

    def look():
        if torch._C._len_torch_dispatch_stack():
            seen.put(held(model))

    before = held(model)
    watched.append(look)
    if tier == "forward graph":
        model.predict(X, batch_size=16, verbose=0)
    else:
        model.fit(X, Y, batch_size=16, verbose=0)
    assert not seen.empty()
    while not seen.empty():
        assert seen.get() == before


@pytest.mark.parametrize("epoch", [1, "epoch"], ids=["step graph", "epoch graph"])
def test_a_prediction_waits_while_compiled_steps_are_tried(model, epoch, monkeypatch):
    model.compile(ks.optimizers.SGD(0.0), "mse", **GRAPHS, steps_per_execution=epoch)
    model.layers[1].trainable = False  # so that training changes nothing
    expected, found = model.predict_on_batch(X), []
    thread = threading.Thread(target=lambda: found.append(model.predict_on_batch(X)))
    refuse = verify.UpdateCheck.refuse

    def refusing(self):
        refuse(self)
        if not thread.ident:  # the weights are now what a step at some rate left
            assert not torch.equal(model.layers[0].linear.weight, weight)
            thread.start()
            thread.join(0.5)
            assert thread.is_alive()

    weight = model.layers[0].linear.weight.detach().clone()
    monkeypatch.setattr(verify.UpdateCheck, "refuse", refusing)
    monkeypatch.setattr(verify, "PHASES", ((2, True),))
    model.fit(X, Y, batch_size=16, epochs=2, verbose=0)
    thread.join()
    np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-6)  # compiled steps of rate 0 may round


def test_nothing_is_compiled_while_another_thread_is_in_a_run(model):
    model.compile("sgd", "mse", jit_compile=True)
    inside, free = threading.Event(), threading.Event()

    def wait():
        if threading.current_thread() is thread:
            inside.set()
            free.wait(60)

    thread = threading.Thread(target=lambda: model.predict_on_batch(X))
    watched.append(wait)
    thread.start()
    inside.wait(60)
    model.fit(X, Y, batch_size=16, verbose=0)
    assert not model._fit.step_engine.whole.calls
    free.set()
    thread.join()
    watched.clear()
    model.fit(X, Y, batch_size=16, verbose=0)
    assert model._fit.step_engine.whole.calls
