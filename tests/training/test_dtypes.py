"""Models moved to another dtype, bfloat16 on its way to NumPy, and torch.autocast around training."""

import sys

import keras
import numpy as np
import pytest
import torch
from torch import nn

import kstyle_torch as ks
from kstyle_torch import layers
from kstyle_torch.training.engines.invalidation import marks
from tests.oracle import assert_close, uniform

X, TWO = uniform(64, 6).numpy(), [uniform(64, 6).numpy(), uniform(64, 3, seed=1).numpy()]
IMAGES, STEPS = uniform(64, 6, 6, 2).numpy(), uniform(64, 5, 6).numpy()
NUMBERS = np.random.default_rng(0).integers(0, 9, (64, 5))
Y = uniform(64, 2, seed=2).numpy()


class Subclassed(ks.Model):
    def __init__(self):
        super().__init__()
        self.hidden, self.out = layers.Dense(8), layers.Dense(2)

    def build(self, input_shape):
        self.factor = self.add_weight(shape=(input_shape[-1],), initializer="ones")

    def call(self, x):
        return self.out(torch.relu(self.hidden(x * self.factor)))


def functional():
    a, b = ks.Input((6,)), ks.Input((3,))
    x = layers.Concatenate()([layers.Dense(4, activation="relu")(a), layers.Dense(4)(b)])
    return ks.Model([a, b], layers.Dense(2)(x * 2.0 + 1.0))


def nested():
    x = ks.Input((6,))
    inner = ks.Sequential([ks.Input((6,)), layers.Dense(8), layers.LayerNormalization(), layers.GroupNormalization(4)])
    return ks.Model(x, layers.Dense(2)(layers.Activation("tanh")(inner(x))))


def shared():
    x, twice = ks.Input((6,)), layers.Dense(6, activation="tanh")
    return ks.Model(x, layers.Dense(2)(twice(twice(x))))


def attention():
    x = ks.Input((5, 6))
    y = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 3)(x, x))
    return ks.Model(x, layers.Dense(2)(layers.GlobalAveragePooling1D()(y)))


def sequential(*parts):
    return lambda: ks.Sequential([make() for make in parts])


MODELS = {
    "sequential": (sequential(lambda: ks.Input((6,)), lambda: layers.Dense(8, "relu"), lambda: layers.Dense(2)), X),
    "functional": (functional, TWO),
    "subclassed": (Subclassed, X),
    "nested": (nested, X),
    "shared": (shared, X),
    "convnet": (
        sequential(
            lambda: ks.Input((6, 6, 2)),
            lambda: layers.Conv2D(4, 3, padding="same"),
            layers.BatchNormalization,
            layers.ReLU,
            layers.MaxPooling2D,
            lambda: layers.DepthwiseConv2D(3),
            layers.GlobalAveragePooling2D,
            lambda: layers.Dense(2),
        ),
        IMAGES,
    ),
    "recurrent": (
        sequential(
            lambda: ks.Input((5,)),
            lambda: layers.Embedding(9, 4, mask_zero=True),
            lambda: layers.LSTM(4, return_sequences=True),
            lambda: layers.Bidirectional(layers.GRU(3)),
            lambda: layers.Dense(2),
        ),
        NUMBERS,
    ),
    "attention": (attention, STEPS),
    "from_torch": (lambda: ks.from_torch(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))), X),
    "bare": (
        sequential(
            lambda: ks.Input((6,)),
            lambda: nn.Linear(6, 8),
            nn.ReLU,
            lambda: layers.Dense(2),
            lambda: layers.TorchModule(nn.Linear(2, 2)),
        ),
        X,
    ),
}
IN_FILES = MODELS.keys() - {"from_torch", "bare", "subclassed"}


def of_tensors(x):
    return [torch.from_numpy(each) for each in x] if isinstance(x, list) else torch.from_numpy(x)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_a_model_follows_its_weights(name, dtype, tmp_path):
    torch.manual_seed(0)
    make, x = MODELS[name]
    model = make()
    before = model(of_tensors(x))
    model.compile(ks.optimizers.SGD(0.01), "mse", metrics=["mae"])
    model.fit(x, Y, batch_size=4, epochs=6, verbose=0)  # what is recorded here is of no use afterwards
    before = model(of_tensors(x))
    model.to(dtype)
    outputs = model(of_tensors(x))
    assert outputs.dtype == dtype
    assert_close(outputs.detach().double(), before.detach().double(), rtol=0.1, atol=0.05)
    predicted = model.predict(x, batch_size=16, verbose=0)
    assert predicted.dtype == model.predict_on_batch(x).dtype == model.get_weights()[0].dtype
    assert predicted.dtype.name == str(dtype).removeprefix("torch.")
    assert_close(predicted.astype("float64"), outputs.detach().double(), rtol=0.05, atol=0.05)
    first = model.evaluate(x, Y, verbose=0)[0]
    model.fit(x, Y, batch_size=4, epochs=6, verbose=0)
    assert (
        any(recording is not None and recording.checked for recording in model._fit.step_engine.recordings.values())
        or name == "subclassed"
    )
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert model.evaluate(x, Y, verbose=0)[0] < first + 0.02
    model.set_weights(model.get_weights())
    model.save_weights(tmp_path / "model.weights.h5")
    model.load_weights(tmp_path / "model.weights.h5")
    if name in IN_FILES:
        model.save(tmp_path / "model.keras")
        again = ks.models.load_model(tmp_path / "model.keras").predict(x, verbose=0)
        np.testing.assert_array_equal(again, model.predict(x, verbose=0))


def test_a_moved_model_computes_in_all_digits_of_its_data():
    model = MODELS["sequential"][0]().double()
    x, y = np.random.default_rng(0).random((2, 20, 6))
    y = y[:, :2]
    model.compile("sgd", "mse")
    by_hand = model(torch.from_numpy(x))
    for given in (x, x.tolist(), torch.from_numpy(x)):
        np.testing.assert_array_equal(model.predict(given, verbose=0), by_hand.detach())
    stream = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.from_numpy(x)), batch_size=20)
    np.testing.assert_array_equal(model.predict(stream, verbose=0), by_hand.detach())


@pytest.mark.parametrize("settings", [{}, {"jit_compile": False}], ids=["recorded", "plain"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd", torch.optim.Adam], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("place", ["callback", "data"])
def test_optimizers_follow_a_move_between_batches(place, dtype, optimizer, settings):
    def fitted(**settings):
        torch.manual_seed(0)
        model = MODELS["sequential"][0]()
        model.compile(optimizer, "mse", **settings)
        moves = ks.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: batch == 149 and model.to(dtype))

        def batches():
            for step in range(200):
                if step == 150:
                    model.to(dtype)
                yield X[step % 4 * 16 :][:16], Y[step % 4 * 16 :][:16]

        if place == "data":
            history = model.fit(batches(), steps_per_epoch=200, verbose=0).history
        else:
            rows = {"x": np.tile(X, (50, 1)), "y": np.tile(Y, (50, 1)), "batch_size": 16, "shuffle": False}
            history = model.fit(**rows, callbacks=[moves], verbose=0).history
        assert {weight.dtype for weight in model.parameters()} == {dtype}
        return history["loss"], [weight.astype("float64") for weight in model.get_weights()]

    expected, got = fitted(run_eagerly=True), fitted(**settings)
    assert got[0] == expected[0]
    for one, other in zip(got[1], expected[1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_moves_that_change_no_dtype_change_nothing_else():
    model = MODELS["nested"][0]()
    run, code = model._emitted, model.code
    model.to("cpu").float().share_memory()
    assert model._emitted is run
    before = marks()
    model.double()
    assert marks() != before  # which all that is recorded or compiled looks at
    assert "torch.float64" in model.code
    model.float()
    assert model.code == code
    assert not any("forward" in vars(layer) for layer in model.layers)


def test_a_torch_module_in_float64():
    model = ks.from_torch(nn.Linear(3, 1).double())
    x = np.random.default_rng(0).random((60, 3))
    model.compile(ks.optimizers.SGD(0.1), "mse")
    history = model.fit(x, x.sum(1, keepdims=True), batch_size=4, epochs=6, verbose=0).history["loss"]
    assert history[-1] < history[0] / 4
    assert model(x.astype("float32")).dtype == torch.float64 and model.predict(x, verbose=0).dtype == np.float64


def test_weights_that_are_assigned_in_another_dtype_are_followed():
    model, other = MODELS["sequential"][0](), MODELS["sequential"][0]().double()
    model.load_state_dict(other.state_dict(), assign=True)
    assert_close(model(uniform(4, 6)).detach(), other(uniform(4, 6)).detach())


def test_layers_without_weights_follow_too():
    assert layers.Dropout(0.5).double()(torch.ones(2, dtype=torch.float64)).dtype == torch.float64
    assert layers.Dense(2).to(torch.bfloat16).dtype_policy.name == "bfloat16"


# ------------------------------------------------------------------------------------------------- bfloat16 and NumPy


@pytest.fixture(params=["with ml_dtypes", "without"])
def dtype_of_arrays(request, monkeypatch):
    if request.param == "without":
        monkeypatch.setitem(sys.modules, "ml_dtypes", None)
        return "float32"
    pytest.importorskip("ml_dtypes")
    return "bfloat16"


@pytest.mark.parametrize("policy", ["bfloat16", "mixed_bfloat16"])
def test_bfloat16_reaches_numpy(policy, dtype_of_arrays, tmp_path):
    model = ks.Sequential([ks.Input((6,)), layers.Dense(2, dtype=policy)])
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(X, Y, verbose=0)
    weights = dtype_of_arrays if policy == "bfloat16" else "float32"
    assert model.predict(X, verbose=0).dtype.name == model.predict_on_batch(X).dtype.name == dtype_of_arrays
    assert model.predict(X, batch_size=8, verbose=0).dtype.name == dtype_of_arrays
    kernel = model.layers[0].kernel
    assert {array.dtype.name for array in (*model.get_weights(), kernel.numpy(), np.asarray(kernel))} == {weights}
    kernel.assign(kernel.numpy())
    assert "dtype=" + weights in repr(kernel) or policy == "bfloat16"
    for file in ("model.keras", "model.h5"):
        model.save(tmp_path / file)
        again = ks.models.load_model(tmp_path / file)
        np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))


def test_files_of_bfloat16_go_to_keras_and_back(tmp_path):
    ours, theirs = (
        library.Sequential([library.Input((6,)), library.layers.Dense(2, dtype="bfloat16")]) for library in (ks, keras)
    )
    ours.save(tmp_path / "ours.keras")
    theirs.save(tmp_path / "theirs.keras")
    for path, mine in (("ours.keras", ours), ("theirs.keras", ks.models.load_model(tmp_path / "theirs.keras"))):
        other = keras.saving.load_model(tmp_path / path)
        for one, two in zip(mine.get_weights(), other.get_weights(), strict=True):
            assert one.dtype == two.dtype
            np.testing.assert_array_equal(one, two)


def test_arrays_of_bfloat16_come_in():
    x = X.astype(pytest.importorskip("ml_dtypes").bfloat16)
    model = MODELS["sequential"][0]()
    np.testing.assert_array_equal(model.predict(x, verbose=0), model.predict(x.astype("float32"), verbose=0))
    assert_close(model(x).detach(), model.predict(x, verbose=0))
    assert ks.Variable(x, dtype="bfloat16").numpy().dtype == x.dtype


# ----------------------------------------------------------------------------------------------------- torch.autocast


@pytest.mark.parametrize("jit_compile", ["auto", "record", False])
def test_training_under_autocast(jit_compile):
    torch.manual_seed(0)
    model = MODELS["sequential"][0]()
    model.compile(ks.optimizers.SGD(0.1), "mse", jit_compile=jit_compile)
    y, start = X[:, :2] + 1, model.get_weights()
    by_hand = MODELS["sequential"][0]()
    by_hand.set_weights(start)
    optimizer = torch.optim.SGD(by_hand.parameters(), 0.1)
    for _ in range(8):
        for rows in range(0, 64, 4):
            x, target = torch.from_numpy(X[rows : rows + 4]), torch.from_numpy(y[rows : rows + 4])
            with torch.autocast("cpu", torch.bfloat16):
                loss = nn.functional.mse_loss(by_hand(x).float(), target)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        model(torch.from_numpy(X))  # autocast keeps copies of the weights from here on
        if jit_compile == "record":
            with pytest.warns(UserWarning, match="autocast"):
                model.fit(X, y, batch_size=4, epochs=8, shuffle=False, verbose=0)
        else:
            model.fit(X, y, batch_size=4, epochs=8, shuffle=False, verbose=0)
        called, predicted = model(torch.from_numpy(X)), model.predict(X, verbose=0)
        evaluated = model.evaluate(X, y, verbose=0)
    for ours, hand in zip(model.get_weights(), by_hand.get_weights(), strict=True):
        np.testing.assert_allclose(ours, hand, atol=5e-3)
    np.testing.assert_array_equal(predicted.astype("float32"), called.detach().float())
    np.testing.assert_allclose(predicted.astype("float32"), model.predict(X, verbose=0), atol=0.03)
    assert evaluated == pytest.approx(model.evaluate(X, y, verbose=0), abs=0.02) and evaluated < 0.2


def test_steps_and_assigned_weights_under_autocast():
    model = MODELS["sequential"][0]()
    model.compile(ks.optimizers.SGD(0.1), "mse")
    y = X[:, :2] + 1
    with torch.autocast("cpu", torch.bfloat16):
        losses = [model.train_on_batch(X, y) for _ in range(60)]
        assert losses[-1] < losses[0] / 4
        model(torch.from_numpy(X))
        model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
        assert not model.predict(X, verbose=0).any()
        assert torch.is_autocast_cache_enabled()


def test_what_was_recorded_does_not_run_under_autocast():
    model = MODELS["sequential"][0]()
    model.compile("sgd", "mse", jit_compile="record")
    model.fit(X, Y, batch_size=4, epochs=6, verbose=0)
    kinds = []
    model.layers[0].register_forward_hook(lambda layer, args, output: kinds.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16), pytest.warns(UserWarning, match="autocast|hooks"):
        model.fit(X, Y, batch_size=4, verbose=0)
    assert {*kinds} == {torch.bfloat16}
