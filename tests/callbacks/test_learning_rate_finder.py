"""The range test: what it suggests, and that a training after it is the one that would have been without it."""

import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch.callbacks import LearningRateFinder
from tests.callbacks.test_curves import pyplot  # noqa: F401

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(64, 3)).astype("float32")
Y = (X @ RANDOM.normal(size=(3, 1))).astype("float32")


def model_with(optimizer):
    ks.utils.set_random_seed(1)
    layers = [ks.layers.Dense(8), ks.layers.BatchNormalization(), ks.layers.Dropout(0.2), ks.layers.Dense(1)]
    model = ks.Sequential([ks.Input((3,)), *layers])
    model.compile(optimizer, "mse", metrics=["mae"])
    return model


def found(model, **arguments):
    finder = LearningRateFinder(**{"steps": 30, **arguments})
    model.fit(X, Y, batch_size=16, epochs=20, verbose=0, callbacks=[finder])
    return finder


OPTIMIZERS = {
    "Adam": lambda: ks.optimizers.Adam(0.01),
    "SGD": lambda: ks.optimizers.SGD(0.01, momentum=0.9, use_ema=True),
    "LossScale": lambda: ks.optimizers.LossScaleOptimizer(ks.optimizers.RMSprop(0.01)),
    "torch": lambda: torch.optim.AdamW,
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("trained", [False, True], ids=["new", "trained"])
def test_a_training_is_the_same_after_a_test(optimizer, trained):
    weights = []
    for tests in (True, False):
        model = model_with(OPTIMIZERS[optimizer]())
        if trained:
            model.fit(X, Y, batch_size=16, verbose=0)
        if tests:
            found(model)
        history = model.fit(X, Y, batch_size=16, epochs=2, verbose=0).history
        weights.append([*model.get_weights(), history["loss"], history["mae"]])
    for after, without in zip(*weights, strict=True):
        np.testing.assert_array_equal(after, without)


def test_learning_rates_losses_and_suggestion():
    finder = found(model_with("sgd"), min_lr=1e-4, max_lr=1.0, divergence=1e9)
    assert finder.learning_rates == pytest.approx(np.geomspace(1e-4, 1, 30).tolist())
    assert len(finder.losses) == 30 and finder.suggestion() in finder.learning_rates[5:]

    finder.losses = [4.0] * 20 + [2.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 3.0, 9.0]  # falls from the 21st on
    assert finder.suggestion() in finder.learning_rates[20:23]


def test_losses_are_those_of_each_batch():
    model = ks.Sequential([ks.Input((1,)), ks.layers.Dense(1, kernel_initializer="zeros")])
    model.compile("sgd", "mae")
    finder = LearningRateFinder(1e-9, 1e-8, steps=8, divergence=1e9)
    y = np.repeat(np.arange(1.0, 9.0), 4)
    history = model.fit(np.ones((32, 1)), y, batch_size=4, shuffle=False, verbose=0, callbacks=[finder])
    assert finder.losses == pytest.approx([*range(1, 9)], rel=1e-5) and history["loss"] == finder.losses[-1:]


def test_it_ends_when_the_loss_diverges():
    finder = found(model_with("sgd"), min_lr=1e-4, max_lr=1e9, steps=60)
    assert len(finder.losses) < 60 and np.isfinite(finder.suggestion())


def test_its_plot(pyplot, monkeypatch):  # noqa: F811
    drawn = []

    class Axes:
        def __getattr__(self, name):
            return lambda *args, **options: drawn.append((name, options.get("label", args)))

    figure = type("Figure", (), {"savefig": drawn.append})
    monkeypatch.setattr(pyplot, "subplots", lambda layout: (figure, Axes()))
    finder = found(model_with("sgd"))
    finder.plot("rates.png")
    assert ("axvline", f"suggestion: {finder.suggestion():.1e}") in drawn and drawn[-1] == "rates.png"


def test_what_is_refused():
    for arguments in ({"min_lr": 0.0}, {"min_lr": 2.0}, {"steps": 6}, {"divergence": 1.0}):
        with pytest.raises(ValueError, match="LearningRateFinder.*got"):
            LearningRateFinder(**arguments)
    with pytest.raises(ValueError, match="no suggestion after 0 batches"):
        LearningRateFinder().suggestion()
    schedule = ks.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    for rate in (schedule, lambda: 0.1):
        with pytest.raises(ValueError, match="follows a schedule or a function"):
            found(model_with(ks.optimizers.SGD(rate)))
    level = LearningRateFinder()
    level.losses, level.learning_rates = [1.0] * 10, [0.1] * 10
    with pytest.raises(ValueError, match="fell at none"):
        level.suggestion()
