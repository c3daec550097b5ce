"""Copies that are made in the middle of `fit`, and models with layers in common that are trained in several threads."""

import copy
import io
import pickle
import threading

import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import layers
from kstyle_torch import mode as modes
from tests.training.test_threads import PATIENCE, X, Y, bare, compiled, fit, state, subclassed, wrapped


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    yield
    assert modes.holds == {} and modes.modeless == [] and modes.active == []


def in_another_thread(work):
    results = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join(PATIENCE)
    return results[0]


def saved(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


class Does(ks.callbacks.Callback):
    """Does something after a batch in the middle of `fit`, and keeps what it gives."""

    def __init__(self, do):
        super().__init__()
        self.do, self.results = do, []

    def on_train_batch_end(self, batch, logs=None):
        if batch == 2:
            self.results.append(self.do(self.model))


COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda model: pickle.loads(pickle.dumps(model)), "torch.save": saved}


@pytest.mark.parametrize("where", [lambda work: work(), in_another_thread], ids=["callback", "another thread"])
@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("make", [bare, wrapped, subclassed], ids=lambda make: make.__name__)
def test_copies_made_in_the_middle_of_fit_are_in_no_mode(make, how, where):
    model, alone = compiled(make), compiled(make)
    does = Does(lambda model: where(lambda: COPIES[how](model)))
    fit(model, does)
    fit(alone)
    assert all(map(torch.equal, state(model), state(alone)))
    for twin in does.results:
        assert not any(module.training for module in twin.modules())
        assert "_held_flags" not in vars(twin)
        x, before = torch.from_numpy(X), [buffer.clone() for buffer in twin.buffers()]
        assert torch.equal(twin(x), twin(x)) and all(map(torch.equal, twin.buffers(), before))


def test_a_shallow_copy_made_in_the_middle_of_fit_leaves_its_modules_alone():
    model, alone = compiled(bare), compiled(bare)
    fit(model, Does(copy.copy))
    fit(alone)
    assert all(map(torch.equal, state(model), state(alone)))


def two_models(base_trainable=True):
    """Two models with a layer in common."""
    torch.manual_seed(0)
    inputs, base = ks.Input((10,)), layers.Dense(8, trainable=base_trainable)
    models = [ks.Model(inputs, layers.Dense(1)(base(inputs))) for _ in range(2)]
    for model in models:
        model.compile("sgd", "mse")
    return models


def error_of(run):
    try:
        run()
    except RuntimeError as error:
        return str(error)
    return None


@pytest.mark.parametrize("run", ["fit", "train_on_batch"])
def test_training_of_weights_that_fit_trains_in_another_thread_is_refused(run):
    one, two = two_models()
    alone, _ = two_models()
    does = Does(lambda model: in_another_thread(lambda: error_of(lambda: getattr(two, run)(X, Y))))
    fit(one, does)
    fit(alone)
    assert len(does.results) == 2
    for error in does.results:
        assert f"{one.name}, which has trained weights in common with {two.name}, is being trained" in error
    assert all(map(torch.equal, state(one), state(alone)))
    two.fit(X, Y, verbose=0)


def test_models_with_frozen_weights_in_common_are_trained_at_once():
    one, two = two_models(base_trainable=False)
    does = Does(lambda model: in_another_thread(lambda: error_of(lambda: two.fit(X, Y, verbose=0))))
    fit(one, does)
    assert does.results == [None, None]


def test_steps_on_weights_in_common_take_turns():
    models, steps, errors = two_models(), 60, []

    def work(model):
        errors.extend(error_of(lambda: model.train_on_batch(X[:16], Y[:16])) for _ in range(steps))

    threads = [threading.Thread(target=work, args=(model,)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert errors == [None] * 2 * steps
    assert [int(model.optimizer.iterations) for model in models] == [steps, steps]


@pytest.mark.parametrize("jit_compile", [False, "auto"])
def test_a_callback_that_trains_a_model_with_weights_in_common(jit_compile):
    """In the same thread it is as if the steps were made by hand, one after the other."""
    (one, two), (alone, other) = two_models(), two_models()
    for model in (one, two):
        model.compile("sgd", "mse", jit_compile=jit_compile)
    fit(one, Does(lambda model: two.fit(X[:32], Y[:32], shuffle=False, verbose=0) and None))
    for _ in range(2):
        for batch in range(6):
            alone.train_on_batch(X[batch * 16 :][:16], Y[batch * 16 :][:16])
            if batch == 2:
                other.train_on_batch(X[:32], Y[:32])
    assert all(torch.allclose(mine, its) for mine, its in zip(state(one), state(alone), strict=True))
    assert all(torch.allclose(mine, its) for mine, its in zip(state(two), state(other), strict=True))
    assert all(parameter.grad is None for model in (one, two) for parameter in model.parameters())
