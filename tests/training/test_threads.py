"""Runs of one model in several threads. Where they meet is decided by events and barriers in a layer, not by the clock."""

import pickle
import threading

import numpy as np
import pytest
import torch
from torch import nn

import kstyle_torch as ks
from kstyle_torch import layers
from kstyle_torch import mode as modes
from kstyle_torch.training.validation import first_batch

X = np.random.default_rng(0).uniform(-1, 1, (96, 10)).astype("float32")
Y = X.sum(1, keepdims=True)
PATIENCE = 120  # seconds after which a test fails instead of hanging
gates = {}  # by thread: what is called in the middle of the model


class Gate(layers.Layer):
    def call(self, x):
        gate = gates.get(threading.get_ident())
        if gate is not None:
            gate(self.training)
        return x


def ours():
    return ks.Sequential(
        [ks.Input((10,)), layers.Dense(8, activity_regularizer="l2"), Gate(), layers.BatchNormalization()]
        + [layers.Dropout(0.5), layers.Dense(1)]
    )


def bare():
    return ks.Sequential(
        [ks.Input((10,)), nn.Linear(10, 8), Gate(), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1)]
    )


def wrapped():
    net = nn.Sequential(nn.Linear(10, 8), Gate(), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))
    return ks.from_torch(net)


class Sub(ks.Model):
    def __init__(self):
        super().__init__()
        self.blocks = [layers.Dense(8), Gate(), nn.BatchNorm1d(8), nn.Dropout(0.5)]
        self.out = layers.Dense(1)

    def call(self, x):
        for block in self.blocks:
            x = block(x)
        return self.out(x)


def subclassed():
    model = Sub()
    model(torch.ones(2, 10))
    return model


MODELS = pytest.mark.parametrize("make", [ours, bare, wrapped, subclassed], ids=lambda make: make.__name__)
RUNS = {
    "predict": lambda model: model.predict(X[:32], verbose=0),
    "evaluate": lambda model: model.evaluate(X[:32], Y[:32], batch_size=32, verbose=0),
    "test_on_batch": lambda model: model.test_on_batch(X[:32], Y[:32]),
    "call": lambda model: model(torch.tensor(X[:32])),
    "summary": lambda model: model.summary(print_fn=lambda text: None),
}


@pytest.fixture(autouse=True)
def no_gates():
    yield
    gates.clear()
    assert modes.holds == {} and modes.modeless == []


def compiled(make, **switches):
    torch.manual_seed(0)
    model = make()
    model.compile("sgd", "mse", metrics=["mae"], **switches)
    return model


def fit(model, *callbacks):
    torch.manual_seed(1)
    return model.fit(
        X, Y, epochs=2, batch_size=16, shuffle=False, verbose=0, callbacks=[ks.callbacks.Callback(), *callbacks]
    )


def state(model):
    return [*model.parameters(), *model.buffers()]


class Thread(threading.Thread):
    """Runs something of a model and stops in the middle of it until it is let go."""

    def __init__(self, run, model):
        super().__init__()
        self.run_model, self.model, self.error = run, model, None
        self.entered, self.free = threading.Event(), threading.Event()
        self.seen, self.result = [], None

    def run(self):
        gates[threading.get_ident()] = self.wait
        try:
            self.result = self.run_model(self.model)
        except BaseException as error:
            self.error = error
        self.entered.set()

    def wait(self, training):
        self.seen.append(training)
        self.entered.set()
        self.free.wait(PATIENCE)

    def until_inside(self):
        self.start()
        assert self.entered.wait(PATIENCE)

    def finish(self):
        self.free.set()
        self.join(PATIENCE)
        assert not self.is_alive() and self.error is None
        return self.result


class Beside(ks.callbacks.Callback):
    """From the second batch to the fifth, another thread is in the middle of a run."""

    def __init__(self, run):
        super().__init__()
        self.run, self.batches, self.thread = run, 0, None

    def on_train_batch_end(self, batch, logs=None):
        self.batches += 1
        if self.batches == 2:
            self.thread = Thread(self.run, self.model)
            self.thread.until_inside()
        if self.batches == 5:
            self.thread.finish()


@MODELS
@pytest.mark.parametrize("jit_compile", [False, "auto"])
@pytest.mark.parametrize("run", RUNS)
def test_a_run_beside_fit_changes_nothing_of_it(make, jit_compile, run):
    alone, other = compiled(make, jit_compile=jit_compile), compiled(make, jit_compile=jit_compile)
    expected, beside = fit(alone), Beside(RUNS[run])
    history = fit(other, beside)
    assert history.history == expected.history
    assert all(map(torch.equal, state(alone), state(other)))
    assert beside.thread.seen or (run == "summary" and make in (wrapped, subclassed))  # those it does not run
    assert not any(beside.thread.seen)
    assert other._fit.runs == [] and not any(module.training for module in other.modules())


@MODELS
@pytest.mark.parametrize("run", RUNS)
def test_fit_beside_a_run_that_began_before_it(make, run):
    alone, other = compiled(make, jit_compile=False), compiled(make, jit_compile=False)
    expected, thread = fit(alone), Thread(RUNS[run], other)
    thread.until_inside()
    history = fit(other)
    thread.finish()
    assert history.history == expected.history
    assert all(map(torch.equal, state(alone), state(other)))
    assert not any(thread.seen)
    assert other._fit.runs == [] and not any(module.training for module in other.modules())


@MODELS
def test_eight_threads_at_once(make):
    model = compiled(make)
    parts = [slice(8 * number, 8 * number + 8) for number in range(8)]
    expected = model.predict(X, batch_size=16, verbose=0)
    losses = [model.evaluate(X[part], Y[part], verbose=0) for part in parts]
    barrier, predicted, tested = threading.Barrier(8), {}, {}

    def work(number):
        waits = [True]

        def meet(training):
            if waits and waits.pop():
                barrier.wait(PATIENCE)

        gates[threading.get_ident()] = meet
        predicted[number] = model.predict(X, batch_size=16, verbose=0)
        waits.append(True)
        tested[number] = model.evaluate(X[parts[number]], Y[parts[number]], verbose=0)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert all(np.array_equal(predicted[number], expected) for number in range(8))
    for number in range(8):
        np.testing.assert_allclose(tested[number], losses[number], rtol=1e-5)
    shown = [float(model.metrics[0].result()), float(model.get_metrics_result()["mae"])]
    assert any(np.allclose(shown, losses[number], rtol=1e-5) for number in range(8))
    gates.clear()
    assert model._fit.runs == []


def test_nothing_is_left_behind():
    model = compiled(ours)
    threads = [Thread(RUNS["predict"], model) for _ in range(3)]
    for thread in threads:
        thread.until_inside()
    for thread in threads:
        thread.finish()
    gates.clear()
    pickle.loads(pickle.dumps(model))
    model.pop()
    model.add(layers.Dense(1, kernel_initializer="zeros"))
    assert not model.predict(X, verbose=0).any()
    assert model.test_on_batch(X, np.zeros_like(Y))[1] == 0
    seen = []
    model.layers[0].register_forward_hook(lambda *call: seen.append(call))
    model.predict(X[:8], verbose=0)
    assert len(seen) == 1


def test_each_run_has_its_own_end():
    """What a callback of one thread ends is the run of that thread; a thread without one ends all."""
    model = compiled(ours)

    class Stop(ks.callbacks.Callback):
        def on_predict_batch_end(self, batch, logs=None):
            self.model.stop_predicting = True

    def predict(model, callbacks=()):
        return model.predict(X, batch_size=16, verbose=0, callbacks=callbacks)

    thread = Thread(predict, model)
    thread.until_inside()
    assert len(predict(model, [Stop()])) == 16
    assert len(thread.finish()) == len(X)
    thread = Thread(predict, model)
    thread.until_inside()
    model.stop_predicting = True
    assert len(thread.finish()) == 16


def test_a_callback_that_tests_in_the_middle_of_fit():
    """The metrics are the model's own, since it is the same thread, and the modes are right again after it."""

    class Testing(ks.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.evaluate(X[:8], Y[:8], verbose=0)
            seen.append((self.model.layers[2].training, modes.running.mode))

    seen, (alone, other) = [], (compiled(bare), compiled(bare))
    fit(alone)
    fit(other, Testing())
    assert all(map(torch.equal, state(alone), state(other)))
    assert set(seen) == {(True, None)}


def test_models_that_share_a_module_hold_it_together():
    shared = nn.BatchNorm1d(10)
    one, two = (ks.Sequential([ks.Input((10,)), Gate(), shared, nn.Linear(10, 1)]) for _ in range(2))
    thread = Thread(lambda model: model(torch.tensor(X), training=True), one)
    thread.until_inside()
    before = shared.running_mean.clone()
    two.predict(X, verbose=0)
    assert torch.equal(before, shared.running_mean) and shared.training
    thread.finish()
    assert not shared.training and not torch.equal(before, shared.running_mean)


@pytest.mark.parametrize("settings", [{}, {"run_eagerly": True}], ids=str)
def test_train_on_batch_in_threads_takes_turns(settings):
    model, steps, errors = compiled(ours, **settings), 60, []

    def work():
        try:
            for _ in range(steps):
                model.train_on_batch(X[:16], Y[:16])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert errors == [] and model._fit.runs == []
    assert int(model.optimizer.iterations) == 4 * steps


@pytest.mark.parametrize("run", ["fit", "train_on_batch"])
def test_a_second_training_beside_fit_is_refused(run):
    errors = []

    def train(model):
        try:
            getattr(model, run)(X[:16], Y[:16])
        except RuntimeError as error:
            errors.append(str(error))

    class AtBatch(ks.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2:
                thread = threading.Thread(target=train, args=(self.model,))
                thread.start()
                thread.join(PATIENCE)

    model, alone = compiled(ours), compiled(ours)
    fit(model, AtBatch())
    fit(alone)
    assert len(errors) == 2 and all("another thread" in error and "take turns" in error for error in errors)
    assert all(torch.equal(one, other) for one, other in zip(state(model), state(alone), strict=True))
    model.fit(X[:16], Y[:16], verbose=0)


@MODELS
@pytest.mark.parametrize("run", ["evaluate", "test_on_batch"])
def test_validation_of_a_fit_that_works_on_a_copy(make, run):
    """`fit` works on a copy since another run began before it, and validates that copy, also when the other run is over."""

    def fit_validated(model, *callbacks):
        torch.manual_seed(1)
        options = {"shuffle": False, "verbose": 0, "validation_data": (X[:32], Y[:32])}
        return model.fit(X, Y, epochs=3, batch_size=16, callbacks=[*callbacks], **options)

    class Finish(ks.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                thread.finish()

    alone, other = compiled(make), compiled(make)
    expected, thread = fit_validated(alone), Thread(RUNS[run], other)
    thread.until_inside()
    history = fit_validated(other, Finish())
    assert history.history == expected.history
    assert all(map(torch.equal, state(alone), state(other)))
    assert other._fit.runs == [] and not any(module.training for module in other.modules())


@pytest.mark.parametrize("norm", [nn.BatchNorm1d, lambda _: layers.BatchNormalization()], ids=["bare", "ours"])
@pytest.mark.parametrize("run", ["evaluate", "test_on_batch"])
def test_a_trial_of_new_data_beside_fit_changes_nothing(norm, run, monkeypatch):
    """The trial is due before `fit` begins, and takes from its second batch to the fifth."""

    def make():
        return ks.Sequential([ks.Input((10,)), layers.Dense(8), norm(8), layers.Dense(1)])

    def after(event, function, before=None):
        def waiting(*args):
            if threading.get_ident() in gates:
                if before is not None:
                    before.set()
                assert event.wait(PATIENCE)
            return function(*args)

        return waiting

    class Meet(ks.callbacks.Callback):
        batches = 0

        def on_train_batch_end(self, batch, logs=None):
            self.batches += 1
            if self.batches == 2:
                begun.set()
                assert tried.wait(PATIENCE)
            if self.batches == 5:
                trained.set()
                thread.finish()

    due, begun, tried, trained = (threading.Event() for _ in range(4))
    alone, other = compiled(make), compiled(make)
    expected, thread = fit(alone), Thread(RUNS[run], other)
    monkeypatch.setattr(first_batch, "first_rows", after(begun, first_batch.first_rows, due))
    monkeypatch.setattr(first_batch.FirstBatch, "_check", after(trained, first_batch.FirstBatch._check, tried))
    thread.start()
    assert due.wait(PATIENCE)
    history = fit(other, Meet())
    assert not thread.is_alive()
    assert history.history == expected.history
    assert all(map(torch.equal, state(alone), state(other)))
