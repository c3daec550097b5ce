"""Methods that users set on objects, or on classes of the library: they count as they do in Keras, in every tier."""

import functools
import operator
import unittest.mock

import numpy as np
import pytest
import torch

import kstyle_torch

RNG = np.random.default_rng(5)
X = RNG.normal(size=(16 * 60, 6)).astype("float32")
Y = (X.sum(1, keepdims=True) + 0.1 * RNG.normal(size=(len(X), 1))).astype("float32")
TIERS = {
    "eagerly": {"run_eagerly": True},
    "plain": {"jit_compile": False},
    "default": {},
    "record": {"jit_compile": "record"},
}


def halved(function):
    return lambda *args, **kwargs: 0.5 * function(*args, **kwargs)


def of_half(function):
    """Of an optimizer: halves the gradients."""

    def apply(*args):
        *owner, gradients, variables = args
        return function(*owner, [gradient * 0.5 for gradient in gradients], variables)

    return apply


def far(function):
    return lambda *args: 3 * torch.mean((args[-2] - args[-1]).abs(), -1)


def of_zeros(function):
    """Of a metric: compares with zeros, and depends on the batch as a whole."""
    return lambda *args, **_: function(*args[:-2], 0 * args[-2], args[-1] / args[-1].std())


def logs(function):
    return lambda *args, **kwargs: {"loss": 7.0}


def more(function):
    """Of `compute_metrics`: halves the numbers. Keras goes by them if the keys are not those of the metrics."""
    return lambda *args, **kwargs: {f"half_{key}": 0.5 * value for key, value in function(*args, **kwargs).items()}


def zeros(function):
    return lambda *args: torch.zeros(16, 1)


ON_OBJECTS = {
    ("model", "train_step"): logs,
    ("model", "test_step"): logs,
    ("model", "predict_step"): zeros,
    ("model", "compute_loss"): halved,
    ("model", "compute_metrics"): more,
    ("optimizer", "apply"): of_half,
    ("optimizer", "scale_loss"): halved,
    ("loss", "call"): far,
    ("loss", "fn"): far,
    ("metric", "update_state"): of_zeros,
    ("metric", "result"): halved,
}
ON_CLASSES = {
    ("Sequential", "train_step"): logs,
    ("Sequential", "test_step"): logs,
    ("Sequential", "predict_step"): zeros,
    ("Sequential", "compute_loss"): halved,
    ("Sequential", "compute_metrics"): more,
    ("Model", "train_step"): logs,
    ("Model", "compute_loss"): halved,
    ("optimizers.Adam", "apply"): of_half,
    ("optimizers.Optimizer", "apply"): of_half,
    ("losses.MeanSquaredError", "call"): far,
    ("losses.MeanSquaredError", "__call__"): halved,
    ("losses.Loss", "__call__"): halved,
    ("metrics.MeanAbsoluteError", "update_state"): of_zeros,
    ("regularizers.L2", "__call__"): halved,
    ("layers.Layer", "__call__"): halved,
    ("layers.Dense", "__call__"): halved,
    ("Sequential", "__call__"): halved,
    ("Model", "__call__"): halved,
}


def weights_of(keras):
    rng = np.random.default_rng(7)
    return [rng.normal(size=shape).astype("float32") * 0.4 for shape in ((6, 8), (8,), (8, 1), (1,))]


def program(keras, owner, name, replacement, when, **tier):
    """Returns losses and metrics of two epochs, then what `evaluate` and `predict` give."""
    model = keras.Sequential([
        keras.Input((6,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(1, kernel_regularizer="l2"),
    ])  # fmt: skip
    model.set_weights(weights_of(keras))
    optimizer, loss = keras.optimizers.Adam(0.01), keras.losses.MeanSquaredError()
    metric = keras.metrics.MeanAbsoluteError(name="mae")
    objects = {"model": model, "optimizer": optimizer, "loss": loss, "metric": metric}
    home = objects.get(owner) or operator.attrgetter(owner)(keras)
    replaced = replacement(getattr(home, name))
    patch = unittest.mock.patch.object(home, name, replaced) if isinstance(home, type) else None
    replace = patch.start if patch else functools.partial(setattr, home, name, replaced)
    times = {"batch": ("on_train_batch_begin", [30]), "epoch": ("on_epoch_begin", [1])}
    hook, waits = times.get(when, ("on_train_end", []))

    def act(number, logs=None):
        if waits and number == waits[-1] and (when == "epoch" or not done):
            done.append(replace())

    done = []
    try:
        if when == "before compile":
            replace()
        model.compile(optimizer, loss, metrics=[metric], **tier)
        if when == "after compile":
            replace()
        fits = {"batch_size": 16, "shuffle": False, "verbose": 0}
        callbacks = [keras.callbacks.LambdaCallback(**{hook: act})] if waits else []
        history = model.fit(X, Y, epochs=2, callbacks=callbacks, **fits).history
        tested = model.evaluate(X, Y, batch_size=16, verbose=0, return_dict=True)
        return history, tested, model.predict(X[:64], batch_size=16, verbose=0)
    finally:
        if patch:
            unittest.mock.patch.stopall()


ROWS = {**ON_OBJECTS, **ON_CLASSES}
ids = ".".join


@functools.cache
def expected_of(keras, row, when):
    return program(keras, *row, ROWS[row], when)


def assert_as_in_keras(keras, row, when, tier):
    expected = expected_of(keras, row, when)
    got = program(kstyle_torch, *row, ROWS[row], when, **TIERS[tier])
    for one, other in zip(got[:2], expected[:2], strict=True):
        assert one.keys() == other.keys()
        for key in other:
            np.testing.assert_allclose(one[key], other[key], rtol=2e-4, atol=1e-6, err_msg=key)
    np.testing.assert_allclose(got[2], expected[2], rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings("ignore:jit_compile")
@pytest.mark.parametrize(
    ("row", "tier", "when"),
    [
        *((row, "default", "epoch") for row in ROWS),
        *(pytest.param(row, "record", "epoch", marks=pytest.mark.full) for row in ON_OBJECTS),
        *(pytest.param(row, "default", "before compile", marks=pytest.mark.full) for row in [*ROWS][::4]),
        *(pytest.param(row, "plain", "epoch", marks=pytest.mark.full) for row in [*ROWS][1::4]),
    ],
)
def test_a_replaced_method_is_called_as_in_keras(keras, row, tier, when):
    assert_as_in_keras(keras, row, when, tier)


@pytest.mark.filterwarnings("ignore:jit_compile")
@pytest.mark.parametrize("tier", [pytest.param("plain", marks=pytest.mark.full), "default"])
@pytest.mark.parametrize("row", [row for row in ROWS if "metric" not in row[0]], ids=ids)
def test_a_callback_replaces_a_method_between_batches(keras, row, tier):
    assert_as_in_keras(keras, row, "batch", tier)


def test_a_callback_replaces_compute_loss_between_batches_of_a_test(keras):
    def tested(keras):
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(1)])
        model.set_weights(weights_of(keras))
        model.compile("adam", "mse")

        def act(batch, logs=None):
            if batch == 30:
                model.compute_loss = halved(model.compute_loss)

        callback = keras.callbacks.Callback()
        callback.on_test_batch_begin = act
        return model.evaluate(X, Y, batch_size=16, verbose=0, callbacks=[callback])

    np.testing.assert_allclose(tested(kstyle_torch), tested(keras), rtol=1e-5)


def called_otherwise(keras):
    class Shifted(keras.layers.Dense):
        def __call__(self, *args, **kwargs):
            return super().__call__(*args, **kwargs) + 1.0

    return [keras.Input((6,)), Shifted(8, "tanh"), keras.layers.Dense(1)]


def cell_called_otherwise(keras):
    class ShiftedCell(keras.layers.SimpleRNNCell):
        def __call__(self, *args, **kwargs):
            outputs, states = super().__call__(*args, **kwargs)
            return outputs + 1.0, states

    return [keras.Input((6,)), keras.layers.Reshape((3, 2)), keras.layers.RNN(ShiftedCell(4)), keras.layers.Dense(1)]


@pytest.mark.filterwarnings("ignore:jit_compile")
@pytest.mark.parametrize(
    "tier", ["default", *(pytest.param(tier, marks=pytest.mark.full) for tier in ("plain", "record"))]
)
@pytest.mark.parametrize("layers", [called_otherwise, cell_called_otherwise], ids=lambda layers: layers.__name__)
def test_a_layers_own_dunder_call_is_called_as_in_keras(keras, layers, tier):
    def run(keras, **tier):
        model = keras.Sequential(layers(keras))
        rng = np.random.default_rng(7)
        model.set_weights([rng.normal(size=weight.shape).astype("float32") * 0.4 for weight in model.get_weights()])
        model.compile(keras.optimizers.SGD(0.01), "mse", **tier)
        losses = model.fit(X, Y, batch_size=16, epochs=2, shuffle=False, verbose=0).history["loss"]
        return [*losses, *model.predict(X[:16], verbose=0)[:, 0]]

    np.testing.assert_allclose(run(kstyle_torch, **TIERS[tier]), run(keras), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "optimizer", [pytest.param("sgd", marks=pytest.mark.full), "adagrad"]
)  # in a step graph, and not
def test_a_replaced_dunder_call_is_called_instead_of_compiled_code(optimizer, monkeypatch):
    calls = []
    usual = kstyle_torch.layers.Dense.__call__

    def counting(layer, *args, **kwargs):
        calls.append(layer)
        return usual(layer, *args, **kwargs)

    model = kstyle_torch.Sequential([kstyle_torch.Input((6,)), kstyle_torch.layers.Dense(1)])
    model.compile(optimizer, "mse", jit_compile={"backend": "eager"})
    fits = {"batch_size": 16, "shuffle": False, "verbose": 0}
    model.fit(X[:64], Y[:64], **fits)
    model.predict(X[:64], batch_size=16, verbose=0)
    monkeypatch.setattr(kstyle_torch.layers.Dense, "__call__", counting)
    with pytest.warns(UserWarning, match="Dense.__call__"):
        model.fit(X[:64], Y[:64], **fits)
    assert len(calls) == 4
    model.evaluate(X[:64], Y[:64], batch_size=16, verbose=0)
    model.predict(X[:64], batch_size=16, verbose=0)
    assert len(calls) == 12


@pytest.mark.full
@pytest.mark.parametrize("row", ROWS, ids=ids)
def test_each_replacement_changes_the_numbers(keras, row):
    one, other = expected_of(keras, next(iter(ROWS)), "never"), expected_of(keras, row, "epoch")
    assert str(one) != str(other)
