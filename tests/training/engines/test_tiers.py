"""How steps are run: plainly, compiled, in groups; and what is left when one of them fails."""

import gc
import sys

import numpy as np
import pytest

import kstyle_torch as ks
from kstyle_torch import layers
from kstyle_torch.training.recorded import engine
from tests.models_to_train import X, Y, network
from tests.oracle import assert_same_bits

# ------------------------------------------------------------------------------------------------------------- compiled


@pytest.mark.full
def test_a_compiled_step_gives_the_numbers_of_the_eager_one():
    expected = network(jit_compile=False).fit(X, Y, batch_size=16, epochs=3, verbose=0).history
    got = network(jit_compile={"backend": "aot_eager"}).fit(X, Y, batch_size=16, epochs=3, verbose=0).history
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-5, atol=1e-6)


def test_a_compiler_that_fails_costs_a_warning_and_nothing_else():
    def refuses(graph, inputs):
        raise RuntimeError("no compiler here")

    expected = network(jit_compile=False).fit(X, Y, batch_size=16, epochs=2, verbose=0).history
    model = network(jit_compile={"backend": refuses})
    with pytest.warns(UserWarning, match="without being compiled"):
        history = model.fit(X, Y, batch_size=16, epochs=2, verbose=0).history
    assert history == expected


@pytest.mark.full
def test_the_tenth_model_is_compiled_too():
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph

    counts = []
    for _ in range(10):
        network(jit_compile={"backend": backend}).fit(X[:16], Y[:16], batch_size=16, verbose=0)
        counts.append(len(compiled))
    assert len({*counts}) == 10


def test_a_step_of_the_users_is_not_compiled():
    class Own(ks.Sequential):
        def train_step(self, data):
            return super().train_step(data)

    model = Own([ks.Input((6,)), layers.Dense(1, "sigmoid")])
    model.compile("sgd", "bce", jit_compile=True)
    with pytest.warns(UserWarning, match="train_step"):
        model.fit(X, Y, verbose=0)


@pytest.mark.parametrize(
    ("switches", "error", "words"),
    [
        ({"jit_compile": "recrod"}, ValueError, "record"),
        ({"jit_compile": 3.5}, TypeError, "jit_compile"),
        ({"steps_per_execution": 0}, ValueError, "steps_per_execution"),
        ({"steps_per_execution": 1.5}, ValueError, "steps_per_execution"),
    ],
    ids=["unknown mode", "a number", "no steps", "half steps"],
)
def test_a_wrong_switch_is_named(switches, error, words):
    model = network()
    before = model.optimizer
    with pytest.raises(error, match=words):
        model.compile("sgd", "bce", **switches)
    assert model.optimizer is before


# ------------------------------------------------------------------------------------------------------------ in groups


class Calls(ks.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.calls = []

    def on_train_batch_begin(self, batch, logs=None):
        self.calls.append(("begin", batch))

    def on_train_batch_end(self, batch, logs=None):
        self.calls.append(("end", batch, round(logs["loss"], 4) > 0))


def test_callbacks_are_called_once_for_a_group_of_steps():
    calls = Calls()
    plain = network().fit(X, Y, batch_size=16, epochs=1, verbose=0).history
    grouped = network(steps_per_execution=2).fit(X, Y, batch_size=16, epochs=1, verbose=0, callbacks=[calls]).history
    begun = [call[1] for call in calls.calls if call[0] == "begin"]
    ended = [call[1] for call in calls.calls if call[0] == "end"]
    assert (begun, ended) == ([0, 2, 4], [1, 3, 4])  # five batches: the last group is short
    assert grouped == plain


# ------------------------------------------------------------------------------------------------------- plainly, to see


def test_eagerly_every_line_of_a_layer_runs_in_every_step():
    seen = []

    class Watched(layers.Layer):
        def call(self, x):
            seen.append(float(x.detach().mean()))
            return x

    model = ks.Sequential([ks.Input((6,)), layers.Dense(4), Watched(), layers.Dense(1, "sigmoid")])
    model.compile("sgd", "bce", run_eagerly=True)
    seen.clear()
    model.fit(X, Y, batch_size=10, epochs=2, verbose=0)
    assert len(set(seen)) >= 14


# --------------------------------------------------------------------------------------------------- when it breaks off


class Breaks(ks.callbacks.Callback):
    def __init__(self, error, epoch=2, batch=3):
        super().__init__()
        self.error, self.when, self.epoch, self.weights = error, (epoch, batch), 0, None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == self.when:
            self.weights = self.model.get_weights()
            raise self.error


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError], ids=lambda error: error.__name__)
@pytest.mark.parametrize("jit_compile", [False, "auto"], ids=["eager", "recorded"])
def test_a_fit_that_breaks_off_leaves_the_model_usable(error, jit_compile, monkeypatch):
    monkeypatch.setattr(engine, "PAYS_AFTER", 1)
    model, breaks = network(jit_compile=jit_compile), Breaks(error)
    with pytest.raises(error):
        model.fit(X, Y, batch_size=16, epochs=5, verbose=0, callbacks=[breaks])
    assert_same_bits(model.get_weights(), breaks.weights)  # those of the last step that was finished
    assert len(model.history.history["loss"]) == 2
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    loss = model.evaluate(X, Y, verbose=0)[0]
    assert model.fit(X, Y, batch_size=16, epochs=5, verbose=0).history["loss"][-1] < loss


def test_a_loss_that_fails_midway_leaves_the_weights_of_the_last_step():
    class Fails(ks.losses.Loss):
        calls = 0

        def call(self, y_true, y_pred):
            Fails.calls += 1
            if Fails.calls > 8:
                raise RuntimeError("no more")
            return (y_true - y_pred) ** 2

    model = network()
    model.compile("sgd", Fails())
    with pytest.raises(RuntimeError, match="no more"):
        model.fit(X, Y, batch_size=16, epochs=5, verbose=0)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    model.compile("sgd", "bce")
    model.fit(X, Y, verbose=0)


# --------------------------------------------------------------------------------------------------------- no growth


@pytest.mark.full
@pytest.mark.parametrize("jit_compile", [False, "auto"], ids=["eager", "recorded"])
def test_nothing_grows_with_the_number_of_steps(jit_compile):
    """2,000 steps in one epoch: as many objects and tensors after them as after the first 500, and as many calls in each."""
    model = network(jit_compile=jit_compile)
    x, y = np.repeat(X, 30, axis=0)[:2000], np.repeat(Y, 30)[:2000]
    counts, calls = [], []

    def count(frame, event, argument):
        calls[-1] += 1

    class Counting(ks.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch % 500 == 499:
                gc.collect()
                counts.append(len(gc.get_objects()))
            if batch % 500 == 489:  # the last ten steps of each 500
                calls.append(0)
                sys.setprofile(count)
            elif batch % 500 == 499:
                sys.setprofile(None)

    model.fit(x, y, batch_size=1, verbose=0, callbacks=[Counting()])
    assert len(counts) == len(calls) == 4
    assert counts[-1] - counts[1] < 300
    assert calls[3] <= 1.1 * calls[1]
