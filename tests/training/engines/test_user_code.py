"""Code of the user's in recorded and compiled steps: whatever it reads may be changed, whatever its attributes are called."""

import warnings
from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.utils.prune

import kstyle_torch as ks
from kstyle_torch import layers
from tests.choice import parameters
from tests.models_to_train import AtBatch, recordings_of
from tests.oracle import assert_same_bits

RNG = np.random.default_rng(0)
X = RNG.normal(size=(96, 6)).astype("float32")
Y = X.sum(1)
GAIN = 1.0
SETTINGS = {"gain": 1.0}
CONFIG = SimpleNamespace(gain=1.0, inner=SimpleNamespace(gain=1.0))
Pair = namedtuple("Pair", "gain other")
# names that the package itself uses, or once did
NAMES = """history _seen _tables _tried _straight _readers _trained _fingerprint _meter _known_weights _masked_runs _fast_step
    _penalised _loss_layers _compiled stop_training""".split()


class Scale(layers.Layer):
    """Multiplies by what `read` gives."""

    gain, scale = 1.0, lambda layer: 1.0

    def __init__(self, read):
        super().__init__()
        self.read = read
        self.held, self.table, self.array = [1.0, [1.0]], {"gain": 1.0}, np.ones(3, "float32")
        self.pair, self.config = Pair([1.0], 2.0), SimpleNamespace(gain=1.0)

    def call(self, x):
        return x * self.read(self)


def helper():
    return GAIN


def closure():
    gain = [1.0]

    def read(layer):
        return gain[0]

    return read


def default(layer, gain=[1.0]):  # noqa: B006 - that it can be changed is the point
    return gain[0]


def set_global(layer):
    global GAIN
    GAIN = 3.0


def set_class(layer):
    Scale.gain = 3.0


def put(home, key):
    home[key] = 3.0


# how a layer reads the gain, and how a callback changes it
READS = {
    "list": (lambda layer: layer.held[0], lambda layer: put(layer.held, 0)),
    "list in a list": (lambda layer: layer.held[1][0], lambda layer: put(layer.held[1], 0)),
    "dict": (lambda layer: layer.table["gain"], lambda layer: put(layer.table, "gain")),
    "array": (lambda layer: float(layer.array[1]), lambda layer: put(layer.array, 1)),
    "named tuple": (lambda layer: layer.pair.gain[0], lambda layer: put(layer.pair.gain, 0)),
    "object": (lambda layer: layer.config.gain, lambda layer: setattr(layer.config, "gain", 3.0)),
    "class attribute": (lambda layer: layer.gain, set_class),
    "global": (lambda layer: GAIN, set_global),
    "global of a helper": (lambda layer: helper(), set_global),
    "global dict": (lambda layer: SETTINGS["gain"], lambda layer: put(SETTINGS, "gain")),
    "global object": (lambda layer: CONFIG.inner.gain, lambda layer: setattr(CONFIG.inner, "gain", 3.0)),
    "closure": (closure(), lambda layer: put(layer.read.__closure__[0].cell_contents, 0)),
    "default": (default, lambda layer: put(layer.read.__defaults__[0], 0)),
    "method": (lambda layer: layer.scale(), lambda layer: setattr(Scale, "scale", lambda self: 3.0)),
}


def as_ever():
    global GAIN
    GAIN, SETTINGS["gain"], CONFIG.inner.gain, Scale.gain, Scale.scale = 1.0, 1.0, 1.0, 1.0, lambda layer: 1.0
    READS["closure"][0].__closure__[0].cell_contents[0] = default.__defaults__[0][0] = 1.0


@pytest.fixture(autouse=True)
def afterwards(recorded_soon):
    """Sets back what a test changes."""
    yield
    as_ever()


class AtEpoch(ks.callbacks.Callback):
    """Does something at the end of the second epoch."""

    def __init__(self, action):
        super().__init__()
        self.action = action

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            self.action(self.model.layers[1])


class InBatches(AtBatch):
    """Does something to the layer in the second epoch."""

    def __init__(self, action):
        super().__init__(lambda model: action(model.layers[1]))


def network(layer, jit_compile, loss="mse", **switches):
    torch.manual_seed(1)
    model = ks.Sequential([ks.Input((6,)), layers.Dense(4), layer, layers.Dense(1)])
    model.compile("adam", loss, jit_compile=jit_compile, **switches)
    return model


def fit(model, *callbacks, **settings):
    settings = {"batch_size": 16, "epochs": 4, "verbose": 0, **settings}
    return model.fit(X, Y, callbacks=list(callbacks), **settings).history["loss"]


def fitted(read, jit_compile, callback, settings=()):
    as_ever()
    model = network(Scale(read), jit_compile, **dict(settings))
    return model, fit(model, callback)


def assert_same(one, other):
    assert one[1] == other[1]
    assert_same_bits(one[0].get_weights(), other[0].get_weights())


@pytest.mark.parametrize("case", READS)
def test_a_recorded_step_reads_what_the_epoch_before_has_changed(case):
    read, change = READS[case]
    expected = fitted(read, False, AtEpoch(change))
    got = fitted(read, "record", AtEpoch(change))
    assert expected[1] != fitted(read, False, AtEpoch(id))[1]
    assert_same(got, expected)
    assert recordings_of(got[0])


GRAPHS = {"backend": "aot_eager"}
TIERS = {
    "step, at the epoch's end": ({}, AtEpoch),
    "step, in the epoch": ({}, InBatches),
    "epoch": ({"steps_per_execution": "epoch"}, AtEpoch),
}


@pytest.mark.parametrize(
    ("tier", "case"),
    parameters(
        [
            *(("step, at the epoch's end", case) for case in ("list", "global", "class attribute")),
            *(("step, in the epoch", "list"), ("epoch", "global")),
        ],
        lambda row: None,
    ),
)
def test_a_compiled_step_reads_what_was_changed(case, tier):
    (read, change), (settings, callback) = READS[case], TIERS[tier]
    expected = fitted(read, False, callback(change))
    model, losses = fitted(read, GRAPHS, callback(change), settings)
    np.testing.assert_allclose(losses, expected[1], rtol=1e-4)
    if settings:
        assert len(model._fit.epoch_engine.calls) == 2
    else:
        assert [step for step in model._fit.step_engine.whole.calls.values() if step is not None]


def test_a_compiled_forward_pass_reads_what_was_changed():
    model = network(Scale(READS["list"][0]), GRAPHS)
    before = [model.predict(X, 16, verbose=0) for _ in range(2)][1]
    assert None not in model._fit.forward_engine.calls.values()
    model.layers[1].held[0] = 0.0
    bias = model.layers[2].bias.numpy()
    np.testing.assert_allclose(model.predict(X, 16, verbose=0), np.broadcast_to(bias, before.shape), rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_an_attribute_may_have_any_name(name):
    def read(layer):
        return getattr(layer, name)

    def change(layer):
        setattr(layer, name, 3.0)

    losses = []
    for jit_compile in (False, "record"):
        layer = Scale(read)
        setattr(layer, name, 1.0)
        losses.append(fit(network(layer, jit_compile), AtEpoch(change)))
    assert losses[0] == losses[1]


def test_user_code_is_not_recorded_beside_batch_callbacks():
    read, change = READS["list"]
    expected = fitted(read, False, InBatches(change))
    with pytest.warns(UserWarning, match="code between the batches"):
        got = fitted(read, "record", InBatches(change))
    assert not recordings_of(got[0])
    assert_same(got, expected)
    fit(got[0])
    assert recordings_of(got[0])  # without such a callback


class Looking(layers.Layer):
    """Notes its calls, and reads a number from where nobody can look."""

    def __init__(self, hidden):
        super().__init__()
        self.hidden = hidden

    def build(self, input_shape):
        self.bias = self.add_weight(shape=(), initializer="zeros")

    def call(self, x):
        return x * next(self.hidden) + self.bias


class Hidden:
    """A number behind an iterator of C code, which cannot be looked into."""

    def __init__(self):
        self.number = [1.0]
        self.calls = 0

    def take(self):
        self.calls += 1
        return self.number[0]

    def __iter__(self):
        return iter(self.take, None)


def test_what_cannot_be_looked_at_is_found_by_the_comparison_of_each_epoch():
    results = []
    for jit_compile in (False, "record"):
        hidden = Hidden()
        model = network(Looking(iter(hidden)), jit_compile)
        change = AtEpoch(lambda layer, hidden=hidden: put(hidden.number, 0))
        calls = hidden.calls
        if jit_compile:
            with pytest.warns(UserWarning, match="gave different results"):
                losses = fit(model, change, epochs=5)
            assert not recordings_of(model)
        else:
            losses = fit(model, change, epochs=5)
        results.append((model, losses))
    assert_same(*results)
    assert hidden.calls - calls < 5 * 6


@pytest.mark.parametrize("recorded", [True, False])
def test_user_code_runs_once_per_batch_in_compared_steps(recorded):
    """In the first epoch a step that tells the losses, one before it pays, one recorded, one compared; then one each."""
    hidden = Hidden()
    model = network(Looking(iter(hidden)), "record" if recorded else False)
    before = hidden.calls
    fit(model, epochs=4)
    assert hidden.calls - before == (4 + 3 if recorded else 4 * 6)


BROKEN = {
    "a gradient": lambda results: [
        results[0],
        results[1],
        *[part if part is None else part * 1.0001 for part in results[2:]],
    ],
    "the loss": lambda results: [results[0] + 1, *results[1:]],
    "the output": lambda results: [results[0], results[1] + 1e-6, *results[2:]],
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_recording_is_refused_in_the_next_epoch(case):
    """Of user code, whose recording went wrong after it was accepted."""

    class Breaking(ks.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            recordings = self.model._fit.step_engine.recordings
            for key, recording in [*recordings.items()] if epoch == 1 else ():
                run = recording.run
                recordings[key] = recording._replace(run=lambda *batch, run=run: BROKEN[case](run(*batch)))

    expected = fitted(READS["list"][0], False, AtEpoch(id))
    with pytest.warns(UserWarning, match="gave different results"):
        got = fitted(READS["list"][0], "record", Breaking())
    assert not recordings_of(got[0])
    assert_same(got, expected)


class Appending(layers.Layer):
    def __init__(self):
        super().__init__()
        self.history = []

    def call(self, x):
        self.history.append(float(len(x)))
        return x


class Drawing(layers.Layer):
    def call(self, x):
        return x if np.random.uniform() < 2 else -x


@pytest.mark.parametrize("layer", [Appending, Drawing])
def test_what_a_recording_would_leave_out_is_not_recorded(layer):
    models, losses = [], []
    for jit_compile in (False, "record"):
        np.random.seed(0)
        models.append(network(layer(), jit_compile))
        if jit_compile:
            with pytest.warns(UserWarning, match="gave different results|attributes change"):
                losses.append(fit(models[-1]))
        else:
            losses.append(fit(models[-1]))
        losses.append(np.random.uniform())
    assert losses[:2] == losses[2:]
    assert not recordings_of(models[1])
    if layer is Appending:
        assert models[0].layers[1].history == models[1].layers[1].history


def hooked(layer):
    layer.register_forward_hook(lambda module, args, output: output * 0.5)


def replaced_forward(layer):
    layer.forward = torch.tanh


def replaced_native_forward(layer):
    layer.linear.forward = torch.tanh


def pruned(layer):
    torch.nn.utils.prune.l1_unstructured(layer.linear, "weight", 0.5)


@pytest.mark.parametrize("change", [hooked, replaced_forward, replaced_native_forward, pruned])
@pytest.mark.parametrize("how", [{}, {"jit_compile": False}, {"jit_compile": "record"}], ids=str)
def test_data_that_changes_modules_within_an_epoch(change, how):
    """A generator's code runs between the steps: from the next batch on, what it did to a layer counts."""
    x = np.random.default_rng(3).normal(size=(128, 8)).astype("float32")

    def run(**how):
        torch.manual_seed(0)
        model = ks.Sequential([ks.Input((8,)), layers.Dense(8, "relu"), layers.Dense(1)])
        model.compile("adam", "mse", **how)

        def batches(steps, at, change=hooked):
            for step in range(steps):
                if step == at:
                    change(model.layers[0])
                yield x[16 * (step % 8) :][:16], x[16 * (step % 8) :][:16, :1]

        losses = model.fit(batches(16, 5, change), steps_per_epoch=16, verbose=0).history["loss"]
        tested = model.evaluate(batches(4, 2), steps=4, verbose=0)
        return losses, tested, model.predict(batches(4, 2), steps=4, verbose=0)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what cannot be recorded any more
        got, expected = run(**how), run(run_eagerly=True)
    assert got[:2] == expected[:2]
    np.testing.assert_array_equal(got[2], expected[2])


def another_class(model, patch):
    def call(layer, x):
        return layers.Dense.call(layer, x) * 0.5

    model.layers[0].__class__ = type("Halved", (layers.Dense,), {"call": call})


def another_call_of_all_modules(model, patch):
    call = torch.nn.Module.__call__
    patch.setattr(torch.nn.Module, "__call__", lambda module, *args, **kwargs: call(module, *args, **kwargs) * 0.5)


@pytest.mark.parametrize("change", [another_class, another_call_of_all_modules], ids=lambda change: change.__name__)
@pytest.mark.parametrize("how", [{"jit_compile": False}, {}, {"jit_compile": "record"}], ids=str)
@pytest.mark.filterwarnings("ignore:jit_compile")
def test_a_class_or_call_that_is_replaced_between_epochs(change, how, monkeypatch):
    def run(**how):
        torch.manual_seed(0)
        model = ks.Sequential([ks.Input((6,)), layers.Dense(8, "relu"), layers.Dense(1)])
        model.compile("sgd", "mse", **how)
        with monkeypatch.context() as patch:
            replacing = ks.callbacks.LambdaCallback(
                on_epoch_begin=lambda epoch, logs: change(model, patch) if epoch == 1 else None
            )
            fits = {"epochs": 3, "batch_size": 2, "shuffle": False, "verbose": 0}
            return model.fit(X, Y, callbacks=[replacing], **fits).history["loss"], model.predict(X, verbose=0).tolist()

    assert run(**how) == run(run_eagerly=True)


class Halving(ks.callbacks.Callback):
    """Sets the forward function of a class of torch before the second epoch."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.monkeypatch = monkeypatch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            forward = torch.nn.Linear.forward
            self.monkeypatch.setattr(torch.nn.Linear, "forward", lambda module, x: forward(module, x) * 0.5)


@pytest.mark.parametrize("how", [{}, {"jit_compile": "record"}], ids=str)
def test_the_forward_function_of_a_class_counts(how, monkeypatch):
    def run(**how):
        torch.manual_seed(0)
        model = ks.Sequential([ks.Input((6,)), layers.Dense(8, "relu"), layers.Dense(1)])
        model.compile("sgd", "mse", **how)
        with monkeypatch.context() as patch:
            fits = {"epochs": 3, "batch_size": 16, "shuffle": False, "verbose": 0}
            return model.fit(X, Y, callbacks=[Halving(patch)], **fits).history["loss"]

    assert run(**how) == run(run_eagerly=True)
