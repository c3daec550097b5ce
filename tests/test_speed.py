"""Speed, counted in Python calls: the numbers do not depend on the machine. Lower a ceiling when you can."""

import sys

import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import layers

LAYER_CALLS = 22  # of a built Dense with an activation; nn.Linear alone takes 5
STEP_CALLS = {"eager": 105, "recorded": 78, "plain": 150}  # of a training step of three Dense layers
EVALUATE_CALLS, PREDICT_CALLS = 17, 15  # of a batch of the same
ROW_CALLS = 310  # of predict() on one row; that of Keras 3.15 on torch takes 4,710
SWITCHES = {"eager": {"jit_compile": False}, "recorded": {"jit_compile": "record"}, "plain": {"run_eagerly": True}}


def calls_of(function, events=("call", "c_call")):
    """How many calls `function()` makes: of Python functions, and of C functions unless `events` is only `("call",)`."""
    count = 0

    def profile(frame, event, argument):
        nonlocal count
        count += event in events

    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def test_a_built_layer_calls_little():
    layer, x = layers.Dense(4, activation="relu"), torch.ones(2, 3)
    layer(x)
    assert calls_of(lambda: layer(x)) <= LAYER_CALLS


def test_a_graph_adds_little_to_its_layers():
    x = ks.Input((3,))
    model = ks.Model(x, layers.Add()([layers.Dense(3)(x), x]))
    value = torch.ones(2, 3)
    by_hand = calls_of(lambda: model.layers[2]([model.layers[1](value), value]))
    assert calls_of(lambda: model(value)) <= by_hand + 25


def network(**switches):
    model = ks.Sequential(
        [ks.Input((10,)), layers.Dense(64, "relu"), layers.Dense(32, "relu"), layers.Dense(1, "sigmoid")]
    )
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"], **switches)
    return model


X, Y = np.ones((2560, 10), "float32"), np.ones(2560, "float32")


def calls_per_batch(run):
    """Of `run(x, y)`, without what it takes to begin."""
    run(X, Y)
    return (calls_of(lambda: run(X, Y)) - calls_of(lambda: run(X[:1280], Y[:1280]))) / 40


@pytest.mark.parametrize("tier", SWITCHES)
def test_a_training_step_calls_little(tier):
    model = network(**SWITCHES[tier])
    assert calls_per_batch(lambda x, y: model.fit(x, y, verbose=0)) <= STEP_CALLS[tier]


def test_evaluate_and_predict_call_little():
    model = network()
    assert calls_per_batch(lambda x, y: model.evaluate(x, y, verbose=0)) <= EVALUATE_CALLS
    assert calls_per_batch(lambda x, y: model.predict(x, verbose=0)) <= PREDICT_CALLS


def test_predict_on_a_row_calls_little():
    model = network()
    model.predict(X[:1], verbose=0)
    assert calls_of(lambda: model.predict(X[:1], verbose=0)) <= ROW_CALLS
