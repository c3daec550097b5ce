"""Torch modules that a callback freezes, unfreezes or replaces in the middle of `fit`, while another thread predicts."""

import threading

import pytest
import torch
from torch import nn

import kstyle_torch as ks
from kstyle_torch import layers
from kstyle_torch import mode as modes
from tests.training.test_threads import RUNS, Gate, Thread, X, Y, gates, state

ran = []  # thread and mode of each call of a normalization


class Norm(nn.BatchNorm1d):
    def forward(self, x):
        ran.append((threading.get_ident(), self.training))
        return super().forward(x)


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    ran.clear()
    yield
    gates.clear()
    assert modes.holds == {} and modes.modeless == [] and modes.active == []


def net():
    """Without dropout, whose flag would differ from the start, so that the other thread would run on a copy."""
    return nn.Sequential(nn.Linear(8, 8), Norm(8))


PARTS = {
    "TorchModule": lambda: layers.TorchModule(net()),
    "from_torch": lambda: ks.from_torch(net()),
    "bare, in a model": lambda: ks.Sequential([ks.Input((8,)), nn.Linear(8, 8), Norm(8)]),
}


def compiled(make):
    torch.manual_seed(0)
    part = make()
    model = ks.Sequential([ks.Input((10,)), layers.Dense(8), Gate(), part, layers.Dense(1)])
    model.compile("sgd", "mse", metrics=["mae"])
    return model, part


class Changes(ks.callbacks.Callback):
    """Changes the model before the second epoch; from then to its fourth batch another thread is in the middle of a run."""

    def __init__(self, change, run=None):
        super().__init__()
        self.change, self.run, self.thread = change, run, None

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            if self.run is not None:
                self.thread = Thread(self.run, self.model)
                self.thread.until_inside()
            self.change()
            ran.clear()

    def on_train_batch_end(self, batch, logs=None):
        if batch == 3 and self.thread is not None and not self.thread.free.is_set():
            self.thread.finish()


def fit(model, *callbacks):
    torch.manual_seed(1)
    return model.fit(X, Y, epochs=3, batch_size=16, shuffle=False, verbose=0, callbacks=callbacks).history


def modes_by_thread():
    """The modes of the normalization in this thread, in order, and those in the other."""
    me = threading.get_ident()
    return [mode for thread, mode in ran if thread == me], {mode for thread, mode in ran if thread != me}


@pytest.mark.parametrize("run", ["predict", pytest.param("evaluate", marks=pytest.mark.full)])
@pytest.mark.parametrize("starts_frozen", [True, False], ids=["unfreezes", "freezes"])
@pytest.mark.parametrize("kind", PARTS)
def test_a_callback_that_freezes_or_unfreezes_beside_a_run(kind, starts_frozen, run):
    def fitted(run):
        model, part = compiled(PARTS[kind])
        part.trainable = not starts_frozen
        history = fit(model, Changes(lambda: setattr(part, "trainable", starts_frozen), run))
        return model, history, modes_by_thread()

    alone, expected, (in_fit, _) = fitted(None)
    other, history, (beside, in_run) = fitted(RUNS[run])
    assert {*in_fit} == {*beside} == {starts_frozen} and in_run == {False}
    assert history == expected
    assert all(map(torch.equal, state(alone), state(other)))
    assert other._fit.runs == [] and not any(module.training for module in other.modules())


class Replaceable(ks.Model):
    def __init__(self):
        super().__init__()
        self.first, self.gate, self.norm, self.out = layers.Dense(8), Gate(), Norm(8), layers.Dense(1)

    def call(self, x):
        return self.out(self.norm(self.gate(self.first(x))))


@pytest.mark.parametrize("run", [None, "predict"], ids=["alone", "beside predict"])
def test_a_normalization_that_takes_the_place_of_another(run):
    """It runs in training mode from the next epoch on, also while a run that began afterwards holds it in the other one."""
    model = Replaceable()
    model(torch.ones(2, 10))
    model.compile("sgd", "mse")

    class Replaces(Changes):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                self.model.norm = Norm(8)
            super().on_epoch_begin(epoch, logs)

    fit(model, Replaces(lambda: None, run and RUNS[run]))
    in_fit, in_run = modes_by_thread()
    assert {*in_fit} == {True} and in_run == ({False} if run else set())
    assert model.norm.running_mean.any() and not model.norm.training


def test_a_nested_run_gives_back_what_was_frozen_since():
    model, part = compiled(PARTS["TorchModule"])

    class Predicts(ks.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            part.trainable = epoch < 1

        def on_train_batch_end(self, batch, logs=None):
            self.model.predict(X[:8], verbose=0)
            flags.append(part.module[1].training)

    flags = []
    fit(model, Predicts())
    assert flags == [True] * 6 + [False] * 12


def test_layers_frozen_in_a_fit_that_works_on_a_copy():
    """The copy was made before the callback froze them."""

    def fitted(*others):
        model, part = compiled(PARTS["TorchModule"])
        threads = [Thread(RUNS[run], model) for run in others]
        for thread in threads:
            thread.until_inside()
        history = fit(model, Changes(lambda: setattr(part, "trainable", False)))
        for thread in threads:
            thread.finish()
        return model, history

    alone, expected = fitted()
    other, history = fitted("evaluate")
    assert history == expected
    assert all(map(torch.equal, state(alone), state(other)))
