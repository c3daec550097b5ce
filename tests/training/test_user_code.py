"""Code of the user's in recorded and compiled steps: whatever it reads may be changed, whatever its attributes are called."""

from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import layers
from kstyle_torch.training import record

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
def recorded_soon(monkeypatch):
    monkeypatch.setattr(record, "PAYS_AFTER", 1)
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


class AtBatch(AtEpoch):
    """Does something after the third batch of the second epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        pass

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (1, 2):
            self.action(self.model.layers[1])


def network(layer, jit_compile, loss="mse", **switches):
    torch.manual_seed(1)
    model = ks.Sequential([ks.Input((6,)), layers.Dense(4), layer, layers.Dense(1)])
    model.compile("adam", loss, jit_compile=jit_compile, **switches)
    return model


def fit(model, *callbacks, **settings):
    settings = {"batch_size": 16, "epochs": 4, "verbose": 0, **settings}
    return model.fit(X, Y, callbacks=list(callbacks), **settings).history["loss"]


def tapes_of(model):
    return [tape for tape in model._fit.step_engine.tapes.values() if tape is not None and tape.checked]


def fitted(read, jit_compile, callback, settings=()):
    as_ever()
    model = network(Scale(read), jit_compile, **dict(settings))
    return model, fit(model, callback)


def assert_same(one, other):
    assert one[1] == other[1]
    for mine, its in zip(one[0].get_weights(), other[0].get_weights(), strict=True):
        np.testing.assert_array_equal(mine, its)


@pytest.mark.parametrize("case", READS)
def test_a_recorded_step_reads_what_the_epoch_before_has_changed(case):
    read, change = READS[case]
    expected = fitted(read, False, AtEpoch(change))
    got = fitted(read, "record", AtEpoch(change))
    assert expected[1] != fitted(read, False, AtEpoch(id))[1]
    assert_same(got, expected)
    assert tapes_of(got[0])


GRAPHS = {"backend": "aot_eager"}
TIERS = {"step": {}, "epoch": {"steps_per_execution": "epoch"}}


@pytest.mark.parametrize("case", READS)
@pytest.mark.parametrize(("tier", "callback"), [("step", AtEpoch), ("step", AtBatch), ("epoch", AtEpoch)])
def test_a_compiled_step_reads_what_was_changed(case, tier, callback):
    read, change = READS[case]
    expected = fitted(read, False, callback(change))
    got = fitted(read, GRAPHS, callback(change), TIERS[tier])
    np.testing.assert_allclose(got[1], expected[1], rtol=1e-4)
    if tier == "step":
        assert [step for step in got[0]._fit.step_engine.whole.calls.values() if step is not None]
    else:
        assert len(got[0]._fit.epoch_engine.calls) == 2


@pytest.mark.parametrize("how", ["record", GRAPHS], ids=["recorded", "compiled"])
@pytest.mark.parametrize("name", NAMES)
def test_an_attribute_may_have_any_name(name, how):
    def read(layer):
        return getattr(layer, name)

    def change(layer):
        setattr(layer, name, 3.0)

    losses = []
    for jit_compile in (False, how):
        layer = Scale(read)
        setattr(layer, name, 1.0)
        losses.append(fit(network(layer, jit_compile), AtEpoch(change)))
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4 if how is GRAPHS else 0)
