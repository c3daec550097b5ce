"""A small network and its training, for the tests of compiled steps and epochs: the same numbers as by ordinary steps."""

import numpy as np
import torch

import kstyle_torch as ks
from kstyle_torch import layers

RNG = np.random.default_rng(5)
X = RNG.normal(size=(70, 6)).astype("float32")
Y = (X.sum(1) > 0).astype("float32")
GRAPHS = {"jit_compile": {"backend": "aot_eager"}}


def network(optimizer="adam", inside=(), **switches):
    torch.manual_seed(2)
    model = ks.Sequential([ks.Input((6,)), layers.Dense(8, "relu"), *inside, layers.Dense(1, "sigmoid")])
    model.compile(optimizer, "binary_crossentropy", metrics=["accuracy"], **switches)
    return model


def fit(model, **arguments):
    torch.manual_seed(3)
    return model.fit(**{"x": X, "y": Y, "batch_size": 16, "epochs": 3, "verbose": 0, **arguments}).history


def assert_same_history(got, expected):
    assert got.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-5, atol=1e-6)


def assert_same_state(model, other):
    ours, theirs = ([*each.weights, *each.optimizer.variables] for each in (model, other))
    for mine, its in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine.numpy(), its.numpy(), rtol=2e-5, atol=1e-6)
