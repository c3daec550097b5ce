"""The recorded step: every bit of the eager step, and the eager step wherever a recording does not hold."""

import gc
import linecache
import subprocess
import sys
import weakref

import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import layers
from kstyle_torch.training.recorded import engine, recorder
from tests.models_to_train import AtBatch, recordings_of
from tests.oracle import assert_same_bits

pytestmark = pytest.mark.usefixtures("recorded_soon")


def mlp():
    return ks.Sequential(
        [ks.Input((10,)), layers.Dense(16, "relu"), layers.Dense(8, "tanh"), layers.Dense(1, "sigmoid")]
    )


def noisy():
    return ks.Sequential(
        [
            ks.Input((10,)),
            layers.Dense(16, "gelu", kernel_regularizer="l2"),
            layers.Dropout(0.3),
            torch.nn.Dropout(0.2),
            layers.GaussianNoise(0.1),
            layers.BatchNormalization(),
            layers.Dense(3, "softmax"),
        ]
    )


def convnet():
    return ks.Sequential(
        [
            ks.Input((8, 8, 1)),
            layers.Conv2D(4, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.Activation("relu"),
            layers.MaxPooling2D(),
            layers.SeparableConv2D(6, 3, strides=2, padding="same", activation="relu"),
            layers.Dropout(0.2),
            layers.Flatten(),
            layers.Dense(3, "softmax"),
        ]
    )


def transformer():
    inputs = ks.Input((6,), dtype="int32")
    x = layers.Embedding(20, 8)(inputs)
    a = layers.MultiHeadAttention(2, 4, dropout=0.1)(x, x)
    x = layers.LayerNormalization()(layers.Add()([x, a]))
    x = layers.GlobalAveragePooling1D()(x * 2 + 1)
    return ks.Model(inputs, layers.Dense(1)(x))


def two_inputs():
    a, b = ks.Input((4,), name="a"), ks.Input((3,), name="b")
    h = layers.Concatenate()([layers.Dense(8, activation="tanh")(a), layers.Dense(8, activation="swish")(b)])
    return ks.Model([a, b], layers.Dense(1, activation="sigmoid")(h))


def lstm():
    return ks.Sequential(
        [
            ks.Input((6, 3)),
            layers.LSTM(5, return_sequences=True, dropout=0.2),
            layers.Bidirectional(layers.LSTM(4)),
            layers.Dense(1),
        ]
    )


def masked_lstm():
    return ks.Sequential(
        [ks.Input((6,), dtype="int32"), layers.Embedding(20, 8, mask_zero=True), layers.LSTM(4), layers.Dense(1)]
    )


def stateful():
    return ks.Sequential([ks.Input((6, 3), batch_size=20), layers.LSTM(4, stateful=True), layers.Dense(1)])


def augmented():
    return ks.Sequential(
        [
            ks.Input((8, 8, 1)),
            layers.RandomFlip("horizontal", seed=1),
            layers.RandomRotation(0.1),
            layers.Flatten(),
            layers.Dense(3, "softmax"),
        ]
    )


def data(kind, rows=100):
    rng = np.random.default_rng(7)
    y = rng.integers(0, 3, rows)
    if kind == "pair":
        x = {"a": rng.normal(size=(rows, 4)).astype("float32"), "b": rng.normal(size=(rows, 3)).astype("float32")}
        return x, (y > 0).astype("float32")
    if kind == "tokens":
        return rng.integers(0, 20, (rows, 6)), y.astype("float32")
    shape = {"table": (10,), "images": (8, 8, 1), "series": (6, 3)}[kind]
    x = rng.normal(size=(rows, *shape)).astype("float32")
    return x, (x.reshape(rows, -1).sum(1) > 0) if kind == "table" else y


SPARSE = "sparse_categorical_crossentropy"
CASES = {
    "mlp": (mlp, "table", "binary_crossentropy", {}),
    "noisy": (noisy, "table", SPARSE, {}),
    "weighted": (noisy, "table", SPARSE, {"sample_weight": np.linspace(0, 2, 100, dtype="float32")}),
    "convnet": (convnet, "images", SPARSE, {}),
    "transformer": (transformer, "tokens", "mse", {}),
    "seeded": (lambda: with_layer(lambda: layers.Dropout(0.5, seed=1))(), "table", "bce", {}),
    "two inputs": (two_inputs, "pair", "bce", {}),
    "lstm": (lstm, "series", "mse", {}),
    "masked lstm": (masked_lstm, "tokens", "mse", {}),
    "stateful lstm": (stateful, "series", "mse", {"batch_size": 20, "shuffle": False}),
    "augmented": (augmented, "images", SPARSE, {}),
}


def fitted(make, kind, loss, jit_compile, epochs=4, callbacks=(), **settings):
    torch.manual_seed(3)
    model = make()
    model.compile("adam", loss, metrics=["accuracy"], jit_compile=jit_compile)
    x, y = data(kind)
    settings = {"batch_size": 16, **settings}
    history = model.fit(x, y, epochs=epochs, verbose=0, callbacks=list(callbacks), **settings)
    return model, history.history, torch.get_rng_state()


def assert_same(one, other):
    assert one[1] == other[1]
    assert torch.equal(one[2], other[2])
    assert_same_bits(one[0].get_weights(), other[0].get_weights())


@pytest.mark.parametrize("case", CASES)
def test_every_bit_is_that_of_the_eager_step(case):
    make, kind, loss, settings = CASES[case]
    eager = fitted(make, kind, loss, False, **settings)
    recorded = fitted(make, kind, loss, "auto", **settings)
    assert recordings_of(recorded[0])
    assert_same(eager, recorded)


def failing(run):
    """Returns a recorded step that fails when it has done nearly everything."""

    def failing_run(*batch):
        run(*batch)
        raise RuntimeError("out of memory")

    return failing_run


@pytest.mark.parametrize("case", ["noisy", "convnet", "seeded", "statistics of torch"])
def test_a_recorded_step_that_fails_counts_once(case):
    def epochs(how):
        if case == "statistics of torch":
            torch.manual_seed(3)
            model = ks.Sequential([ks.Input((10,)), torch.nn.BatchNorm1d(10), layers.Dense(3, "softmax")])
        elif case == "seeded":
            torch.manual_seed(3)
            model = ks.Sequential([ks.Input((10,)), layers.Dropout(0.5, seed=3), layers.Dense(3, "softmax")])
        else:
            torch.manual_seed(3)
            model = CASES[case][0]()
        model.compile("adam", SPARSE, metrics=["accuracy"], jit_compile=how)
        x, y = data(CASES[case][1] if case in CASES else "table")
        history = model.fit(x, y, batch_size=16, epochs=4, verbose=0).history
        if how == "auto":
            (key, recording), *_ = [item for item in model._fit.step_engine.recordings.items() if item[1] is not None]
            assert recording.checked
            model._fit.step_engine.recordings[key] = recording._replace(run=failing(recording.run))
        model.fit(x, y, batch_size=16, epochs=2, verbose=0)
        return model, history, torch.get_rng_state()

    eager, recorded = epochs(False), epochs("auto")
    assert None in recorded[0]._fit.step_engine.recordings.values()
    assert_same(eager, recorded)


def test_eager_without_a_recording():
    assert_same(fitted(*CASES["noisy"][:3], False), fitted(*CASES["noisy"][:3], "auto"))
    torch.manual_seed(3)
    model = noisy()
    model.compile("adam", SPARSE, metrics=["accuracy"], run_eagerly=True)
    history = model.fit(*data("table"), batch_size=16, epochs=4, verbose=0).history
    assert model._fit.step_engine is None
    assert_same((model, history, torch.get_rng_state()), fitted(*CASES["noisy"][:3], "auto"))


def test_a_short_last_batch_has_a_recording_of_its_own():
    model = fitted(*CASES["mlp"][:3], "auto")[0]
    assert sorted(key[0][0] for key in model._fit.step_engine.recordings) == [4, 16]


def test_nothing_is_recorded_for_a_few_steps(monkeypatch):
    monkeypatch.setattr(engine, "PAYS_AFTER", 200)
    assert not fitted(*CASES["mlp"][:3], "auto")[0]._fit.step_engine.recordings


class Recurrent(layers.Layer):
    """User code that decides by the values it sees."""

    def build(self, input_shape):
        self.factor = self.add_weight(shape=(), initializer="ones")

    def call(self, x):
        return x * self.factor if float(x.detach().mean()) > 0 else x - self.factor


class Scale(layers.Layer):
    def build(self, input_shape):
        self.factor = self.add_weight(shape=(), initializer="ones")

    def call(self, x):
        return x * self.factor


def with_layer(layer):
    return lambda: ks.Sequential([ks.Input((10,)), layers.Dense(8), layer(), layers.Dense(1, "sigmoid")])


def with_hook():
    model = mlp()
    model.layers[0].register_forward_hook(lambda module, args, output: output + 0.1)
    return model


class Doubling(ks.Sequential):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return 2 * super().compute_loss(x, y, y_pred, sample_weight, training)


class Choosing(layers.Layer):
    """Decides on the host, past all operators; in one batch of some as in another."""

    def call(self, x):
        chosen = (x.detach().numpy() if self.by_array else x.detach()).tolist()
        return x * 2 if sum(map(sum, chosen)) > -5 else x + 1


UNRECORDED = {
    "user layer": with_layer(Scale),
    "values decide": with_layer(Recurrent),
    "lambda": with_layer(lambda: layers.Lambda(lambda x: x * 2)),
    "hook": with_hook,
    "user loss": lambda: Doubling([ks.Input((10,)), layers.Dense(1, "sigmoid")]),
}


@pytest.mark.parametrize("case", UNRECORDED)
def test_what_a_recording_cannot_hold_runs_eagerly(case):
    eager = fitted(UNRECORDED[case], "table", "bce", False)
    quiet = fitted(UNRECORDED[case], "table", "bce", "auto")
    assert not recordings_of(quiet[0])
    assert_same(eager, quiet)


def test_a_user_function_as_loss_runs_eagerly():
    def loss(y_true, y_pred):
        return ((y_true - y_pred.squeeze(-1)) ** 2).mean()

    model = fitted(mlp, "table", loss, "auto")[0]
    assert not model._fit.step_engine.recordings


def test_on_request_user_code_is_recorded():
    eager = fitted(with_layer(Scale), "table", "bce", False)
    recorded = fitted(with_layer(Scale), "table", "bce", "record")
    assert recordings_of(recorded[0])
    assert_same(eager, recorded)


@pytest.mark.parametrize("by_array", [True, False], ids=["array", "list"])
def test_numbers_that_python_sees_are_not_recorded(by_array):
    def make():
        layer = Choosing()
        layer.by_array = by_array
        return layer

    eager = fitted(with_layer(make), "table", "bce", False)
    with pytest.warns(UserWarning, match="Python reads values of tensors"):
        assert_same(eager, fitted(with_layer(make), "table", "bce", "record"))


def test_on_request_a_warning_says_what_cannot_be_recorded():
    with pytest.warns(UserWarning, match="depends on values"):
        model = fitted(with_layer(Recurrent), "table", "bce", "record")[0]
    assert not recordings_of(model)


def set_rate(model):
    model.layers[1].rate = 0.6


def set_learning_rate(model):
    model.optimizer.learning_rate = 0.1


def set_weights(model):
    model.set_weights([np.full_like(weight, 0.1) for weight in model.get_weights()])


def replace_parameter(model):
    linear = model.layers[0].linear
    linear.weight = torch.nn.Parameter(torch.full_like(linear.weight, 0.2))


def freeze(model):
    model.layers[0].trainable = False


def add_hook(model):
    model.layers[0].register_forward_hook(lambda module, args, output: output * 0.5)


def add_gradient_hook(model):
    model.layers[0].linear.weight.register_hook(lambda gradient: gradient * 0)


def set_native_rate(model):
    model.layers[2].p = 0.9


def set_penalty(model):
    model.layers[0].kernel_regularizer.l2 = 0.5


def set_loss(model):
    model._compiled.loss.entries[0].loss.from_logits = True


def predict(model):
    model.predict(data("table")[0], verbose=0)


@pytest.mark.parametrize(
    "action",
    [
        set_rate,
        set_learning_rate,
        set_weights,
        replace_parameter,
        freeze,
        add_hook,
        add_gradient_hook,
        set_native_rate,
        set_penalty,
        set_loss,
        predict,
    ],
    ids=lambda action: action.__name__,
)
def test_what_a_callback_changes_counts_at_once(action):
    results = [fitted(noisy, "table", SPARSE, jit, callbacks=[AtBatch(action)]) for jit in (False, "auto")]
    assert_same(*results)
    untouched = fitted(noisy, "table", SPARSE, "auto")
    assert results[1][1] != untouched[1] or action is predict


def test_a_layer_that_changes_itself_runs_eagerly(monkeypatch):
    class Counting(layers.Layer):
        def call(self, x):
            self.count = getattr(self, "count", 0) + 1
            return x * self.count

    eager = fitted(with_layer(Counting), "table", "bce", False, epochs=8)
    monkeypatch.setattr(engine, "MAX_LOOKS", 2)
    with pytest.warns(UserWarning, match="attributes change"):
        recorded = fitted(with_layer(Counting), "table", "bce", "record", epochs=8)
    assert_same(eager, recorded)


def test_a_large_step_is_not_kept_in_memory(monkeypatch):
    monkeypatch.setattr(recorder, "MAX_BYTES", 2000)
    model = fitted(mlp, "table", "bce", "auto")[0]
    assert set(model._fit.step_engine.recordings.values()) == {None}


def test_a_name_never_enters_the_code():
    model = ks.Sequential(
        [ks.Input((10,), name="x'); import os #"), layers.Dense(1, "sigmoid", name='"]; raise SystemExit #')]
    )
    model.compile("sgd", "bce")
    model.fit(*data("table"), epochs=4, verbose=0)
    source = recordings_of(model)[0].source
    assert not {"import", "raise", '"', "'"} & set(source.split())
    assert "SystemExit" not in source


def test_a_model_with_recordings_can_be_copied_and_compiled_again(tmp_path):
    import copy
    import pickle

    model = fitted(mlp, "table", "bce", "auto")[0]
    twin = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    x = data("table")[0]
    np.testing.assert_array_equal(twin.predict(x, verbose=0), model.predict(x, verbose=0))
    model.compile("adam", "mse")
    assert model._fit.step_engine is None


def test_a_recording_goes_with_its_model():
    def sources():
        return [name for name in linecache.cache if name.startswith("<kstyle_torch step")]

    gc.collect()
    before = len(sources())
    model = fitted(mlp, "table", "bce", "auto")[0]
    assert len(sources()) == before + 2
    weight = weakref.ref(model.layers[0].linear.weight)
    del model
    gc.collect()
    assert len(sources()) == before
    assert weight() is None


@pytest.mark.full
def test_recording_imports_no_compiler():
    code = """
import sys, numpy as np, kstyle_torch as ks
model = ks.Sequential([ks.Input((3,)), ks.layers.Dense(1)])
model.compile("adam", "mse")
model.fit(np.ones((640, 3), "float32"), np.ones(640), batch_size=2, verbose=0)
assert any(recording.checked for recording in model._fit.step_engine.recordings.values())
assert not {"torch._dynamo", "sympy"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def backward_of_clamp(x, upstream, at_bounds, low=1e-7, high=1 - 1e-7):
    """The gradient of `clamp`: torch's own, or as torch 2.13 (passed on at the bounds) and torch 2.14 write it."""
    if at_bounds is None:
        return torch.autograd.grad((x.clamp(low, high) * upstream).sum(), x)[0]
    x = x.detach()
    inside = (x >= low).logical_and_(x <= high) if at_bounds else (x > low).logical_and_(x < high)
    return torch.where(inside, upstream, 0)


@pytest.mark.parametrize("at_bounds", [None, True, False], ids=["torch's own", "bounds pass", "bounds do not"])
def test_shorter_ways_give_the_same_bits(at_bounds):
    """One call for the four with which autograd goes back through `clamp`; at, between and beyond the bounds."""
    x = torch.tensor([0.0, 1e-7, 0.5, 1 - 1e-7, 1.0, -0.0, 2.0, float("inf")], requires_grad=True)
    with engine.Recorder() as recording:
        gradient = backward_of_clamp(x, torch.arange(1.0, 9.0), at_bounds)
    calls = engine.shortened(recording.calls)
    assert len(calls) == len(recording.calls) - 3
    (new,) = [call for call in calls if call.function is torch.ops.aten.hardtanh_backward.default]
    assert torch.equal(new.function(*new.args), gradient)
    at_bounds = bool(gradient[1]) if at_bounds is None else at_bounds
    assert gradient.tolist() == [0, 2 * at_bounds, 3, 4 * at_bounds, 0, 0, 0, 0]


def test_bounds_without_a_next_number_stay_as_they_are():
    x = torch.tensor([-torch.inf, 0.0, 1.0, 2.0])
    with engine.Recorder() as recording:
        backward_of_clamp(x, torch.arange(1.0, 5.0), True, low=-torch.inf, high=1.0)
    assert engine.shortened(recording.calls) == recording.calls


def test_a_number_among_the_results_of_a_call_depends_on_shapes_only():
    """Attention kernels on CUDA give such numbers; a number alone may depend on values."""
    library = torch.library.Library("recorded", "DEF")
    library.define("halves(Tensor x) -> (Tensor, int)")
    library.define("width(Tensor x) -> int")
    library.impl("halves", lambda x: (x / 2, x.shape[0]), "CPU")
    library.impl("width", lambda x: x.shape[0], "CPU")
    x = torch.arange(3.0)
    with engine.Recorder() as recording:
        half, rows = torch.ops.recorded.halves(x)
        result = half.repeat(rows)
    run, _ = recorder.RecordingWriter([x], [], []).write(recording.calls, [result])
    assert torch.equal(run(x + 1)[0], ((x + 1) / 2).repeat(3))
    with engine.Recorder() as recording:
        torch.ops.recorded.width(x)
    with pytest.raises(recorder.CannotRecordError, match="width returns a int"):
        recorder.RecordingWriter([x], [], []).write(recording.calls, [x])
