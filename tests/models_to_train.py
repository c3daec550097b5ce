"""Small models with data for them, their training, and the comparisons of what came out of it."""

import numpy as np
import torch

import kstyle_torch as ks
from kstyle_torch import layers

GRAPHS = {"jit_compile": {"backend": "aot_eager"}}
SLOPES = np.random.default_rng(1).normal(size=(5, 1)).astype("float32")


def rows_with_signs(rows, features, seed=0, noise=0.0):
    """Random rows, and whether the sum of each one, and of some noise, is positive."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(rows, features)).astype("float32")
    return x, (x.sum(1) + noise * draw.normal(size=rows) > 0).astype("float32")


X, Y = rows_with_signs(70, 6, seed=5)


def network(optimizer="adam", inside=(), features=6, hidden=(8, "relu"), kind=ks.Sequential, **settings):
    """A compiled classifier of rows, with layers between its two dense ones."""
    torch.manual_seed(2)
    model = kind([ks.Input((features,)), layers.Dense(*hidden), *inside, layers.Dense(1, "sigmoid")])
    settings = {"loss": "binary_crossentropy", "metrics": ["accuracy"], **settings}
    model.compile(optimizer, **settings)
    return model


def logistic_regression(library=ks, optimizer=None, rate=4.0, metrics=("accuracy",)):
    """A compiled model of one layer for five features, with the same weights here and in Keras."""
    model = library.Sequential([library.Input((5,)), library.layers.Dense(1, activation="sigmoid")])
    model.set_weights([SLOPES, np.zeros(1, "float32")])
    model.compile(optimizer or library.optimizers.SGD(rate), "binary_crossentropy", metrics=list(metrics))
    return model


def fit(model, **arguments):
    """The history of three epochs."""
    torch.manual_seed(3)
    return model.fit(**{"x": X, "y": Y, "batch_size": 16, "epochs": 3, "verbose": 0, **arguments}).history


class AtBatch(ks.callbacks.Callback):
    """Does something to the model before the fourth batch of some epochs."""

    def __init__(self, action, epochs=(1,)):
        super().__init__()
        self.action, self.epochs, self.epoch = action, epochs, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if self.epoch in self.epochs and batch == 3:
            self.action(self.model)


def recordings_of(model):
    """The recorded steps that have been proven right."""
    return [
        recording
        for recording in model._fit.step_engine.recordings.values()
        if recording is not None and recording.checked
    ]


def assert_same_history(got, expected):
    assert got.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-5, atol=1e-6, err_msg=name)


def assert_same_state(model, other):
    ours, theirs = ([*each.weights, *each.optimizer.variables] for each in (model, other))
    for mine, its in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine.numpy(), its.numpy(), rtol=2e-5, atol=1e-6)
