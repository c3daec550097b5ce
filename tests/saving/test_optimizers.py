"""The state of every optimizer in a `.keras` file: training goes on in the other library as it would have in the first."""

import keras
import numpy as np
import pytest
import torch

import kstyle_torch as ks
from tests.choice import parameters
from tests.oracle import assert_close, uniform

BOTH_WAYS = [pytest.param(keras, ks, id="to-ours"), pytest.param(ks, keras, id="to-keras")]
X, Y = uniform(8, 6, 6, 2).numpy(), uniform(8, 3, seed=1).numpy()


def schedule(library):
    return library.optimizers.schedules.ExponentialDecay(0.05, 2, 0.5)


def scaled(library):
    return library.optimizers.LossScaleOptimizer(library.optimizers.Adam(0.01), initial_scale=64.0)


OPTIMIZERS = {
    "sgd": lambda k: k.optimizers.SGD(0.1),
    "sgd-momentum": lambda k: k.optimizers.SGD(0.1, momentum=0.9, nesterov=True, clipnorm=1.0),
    "adam": lambda k: k.optimizers.Adam(0.01),
    "adam-amsgrad": lambda k: k.optimizers.Adam(0.01, amsgrad=True, weight_decay=0.01),
    "adam-schedule": lambda k: k.optimizers.Adam(schedule(k)),
    "adam-ema": lambda k: k.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2),
    "adam-accumulation": lambda k: k.optimizers.Adam(0.01, gradient_accumulation_steps=2),
    "adam-scaled": scaled,
    "adamw": lambda k: k.optimizers.AdamW(0.01),
    "nadam": lambda k: k.optimizers.Nadam(0.01),
    "adamax": lambda k: k.optimizers.Adamax(0.01),
    "rmsprop": lambda k: k.optimizers.RMSprop(0.01),
    "rmsprop-centered": lambda k: k.optimizers.RMSprop(0.01, momentum=0.9, centered=True),
    "adagrad": lambda k: k.optimizers.Adagrad(0.1),
    "adadelta": lambda k: k.optimizers.Adadelta(1.0),
    "ftrl": lambda k: k.optimizers.Ftrl(0.1),
    "lion": lambda k: k.optimizers.Lion(0.01),
    "lamb": lambda k: k.optimizers.Lamb(0.01),
    "adafactor": lambda k: k.optimizers.Adafactor(0.01),
    "muon": lambda k: k.optimizers.Muon(0.01),
    "schedule-free-adamw": lambda k: k.optimizers.ScheduleFreeAdamW(0.01, warmup_steps=2),
}


def trained(library, optimizer):
    layers = library.layers
    model = library.Sequential(
        [
            library.Input((6, 6, 2)),
            layers.Conv2D(3, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(4, activation="tanh"),
            layers.Dense(3),
        ]
    )
    model.set_weights(
        [uniform(*w.shape, low=-0.5, high=0.5, seed=i).numpy() for i, w in enumerate(model.get_weights())]
    )
    model.compile(OPTIMIZERS[optimizer](library), "mse")
    for _ in range(3):
        model.train_on_batch(X, Y)
    return model


@pytest.mark.parametrize(("theirs", "ours"), BOTH_WAYS)
@pytest.mark.parametrize("optimizer", parameters(OPTIMIZERS, lambda name: name == "adam-schedule"))
def test_training_goes_on(optimizer, theirs, ours, tmp_path):
    model = trained(theirs, optimizer)
    model.save(tmp_path / "m.keras")
    again = ours.saving.load_model(tmp_path / "m.keras")
    assert type(again.optimizer).__name__ == type(model.optimizer).__name__
    before = [np.array(w) for w in again.get_weights()]
    for each in (model, again):
        each.train_on_batch(X, Y)
        each.train_on_batch(X, Y)
    for mine, other, old in zip(again.get_weights(), model.get_weights(), before, strict=True):
        assert_close(mine, other, rtol=1e-4, atol=1e-5)
        assert np.abs(mine - old).max() > 1e-5


def test_a_fresh_optimizer_would_not_do(tmp_path):
    """The rows above can fail: without the state, the next steps are others."""
    model = trained(ks, "adam")
    model.save(tmp_path / "m.keras")
    again = ks.saving.load_model(tmp_path / "m.keras")
    again.compile(ks.optimizers.Adam(0.01), "mse")
    for each in (model, again):
        each.train_on_batch(X, Y)
    assert np.abs(model.get_weights()[0] - again.get_weights()[0]).max() > 1e-4


def test_weights_files_hold_the_state_too(tmp_path):
    model, again = trained(keras, "adam"), trained(ks, "sgd")
    model.save_weights(tmp_path / "m.weights.h5")
    with pytest.warns(UserWarning, match="optimizer sgd was not loaded: it has 2 variables"):
        again.load_weights(tmp_path / "m.weights.h5")
    again = trained(ks, "adam")
    again.load_weights(tmp_path / "m.weights.h5")
    for mine, other in zip(again.optimizer.variables, model.optimizer.variables, strict=True):
        assert_close(mine.numpy(), other.numpy(), rtol=0, atol=0)


def test_a_torch_optimizer_is_not_written_down(tmp_path):
    model = ks.Sequential([ks.Input((3,)), ks.layers.Dense(2)])
    model.compile(torch.optim.SGD(model.parameters(), lr=0.1), "mse")
    with pytest.warns(UserWarning, match=r"without its compile\(\) settings"):
        model.save(tmp_path / "m.keras")
    assert not ks.saving.load_model(tmp_path / "m.keras").compiled
