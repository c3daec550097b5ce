"""Speed, counted in Python calls: the numbers do not depend on the machine. Lower a ceiling when you can."""

import sys

import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import layers

LAYER_CALLS = 22  # of a built Dense with an activation; nn.Linear alone takes 5
STEP_CALLS = {"eager": 125, "recorded": 120, "plain": 170}  # of a training step of three Dense layers
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


@pytest.mark.parametrize("tier", SWITCHES)
def test_a_training_step_calls_little(tier):
    model = ks.Sequential(
        [ks.Input((10,)), layers.Dense(64, "relu"), layers.Dense(32, "relu"), layers.Dense(1, "sigmoid")]
    )
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"], **SWITCHES[tier])
    x, y = np.ones((2560, 10), "float32"), np.ones(2560, "float32")
    model.fit(x, y, verbose=0)
    whole = calls_of(lambda: model.fit(x, y, verbose=0))
    half = calls_of(lambda: model.fit(x[:1280], y[:1280], verbose=0))
    assert (whole - half) / 40 <= STEP_CALLS[tier]
