"""Training on the simulated accelerator: checks that accelerator.py runs."""

import functools
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from simulated_device import COUNTS, NAME, SimulatedTensor, counting

import kstyle_torch as keras
from kstyle_torch import callbacks, config, layers, utils
from tests.oracle import assert_same_bits

EPOCHS = 3


def mlp():
    hidden = [layers.Dense(16, activation="relu"), layers.Dropout(0.0), layers.Dense(8, activation="relu")]
    model = keras.Sequential([keras.Input((10,)), *hidden, layers.Dense(1, activation="sigmoid")])
    return model, "binary_crossentropy"


def convnet():
    body = [layers.Conv2D(4, 3, activation="relu", padding="same"), layers.BatchNormalization(), layers.MaxPooling2D()]
    head = [layers.Flatten(), layers.Dense(3, activation="softmax")]
    return keras.Sequential([keras.Input((8, 8, 1)), *body, *head]), "sparse_categorical_crossentropy"


def embedding():
    head = [layers.Flatten(), layers.Dense(1, activation="sigmoid")]
    return keras.Sequential([keras.Input((6,)), layers.Embedding(20, 4), *head]), "binary_crossentropy"


MODELS = {"mlp": mlp, "convnet": convnet, "embedding": embedding}


def data_for(name, rows=100):
    draw = np.random.default_rng(0)
    if name == "convnet":
        return draw.normal(size=(rows, 8, 8, 1)).astype("float32"), draw.integers(0, 3, rows)
    x = draw.integers(0, 20, (rows, 6)) if name == "embedding" else draw.normal(size=(rows, 10)).astype("float32")
    return x, draw.integers(0, 2, (rows, 1)).astype("float32")


def built(name, device, optimizer="adam", **options):
    """A compiled model with the same weights on any device."""
    utils.set_random_seed(0)
    with config.device_scope("cpu"):
        model, loss = MODELS[name]()
    model.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"], device=device, **options)
    return model


def fit(model, name, **options):
    x, y = data_for(name)
    return model.fit(x, y, epochs=EPOCHS, batch_size=32, verbose=0, **{"shuffle": False, **options})


def weights_of(model):
    return list(model.state_dict().values())


def assert_on(model, device_type):
    assert {tensor.device.type for tensor in weights_of(model)} == {device_type}


def assert_same(first, second):
    assert first.keys() == second.keys()
    for key in first:
        np.testing.assert_allclose(first[key], second[key], rtol=1e-5, err_msg=key)


def check_device():
    """The device itself: it raises on mixed devices, counts, and is torch's accelerator."""
    x = torch.ones(3, device=NAME)
    assert isinstance(x, SimulatedTensor)
    assert torch.accelerator.current_accelerator().type == NAME
    with pytest.raises(RuntimeError, match="found at least two devices"):
        x + torch.ones(3)
    with counting() as counts:
        y = torch.ones(4).to(NAME)
        (y * 2).sum().item()
        y.cpu()
    assert (counts.h2d, counts.d2h, counts.sync) == (1, 1, 1)
    assert COUNTS.ops >= counts.ops > 3


def check_fit(name, optimizer="adam", **options):
    """Training gives the losses that it gives on the CPU, and so do evaluate and predict."""
    on_host, on_device = built(name, "cpu", optimizer), built(name, NAME, optimizer)
    assert_on(on_device, NAME)
    first, second = fit(on_host, name, **options), fit(on_device, name, **options)
    assert_same(first.history, second.history)
    assert_on(on_device, NAME)
    x, y = data_for(name)
    np.testing.assert_allclose(on_host.evaluate(x, y, verbose=0), on_device.evaluate(x, y, verbose=0), rtol=1e-5)
    predicted = on_device.predict(x, verbose=0)
    assert isinstance(predicted, np.ndarray)
    np.testing.assert_allclose(on_host.predict(x, verbose=0), predicted, rtol=1e-4, atol=1e-6)
    for ours, theirs in zip(on_host.get_weights(), on_device.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def check_recorded(name):
    """Recorded steps, where they are asked for: each bit of the eager ones, with fewer operations, and no more waits."""
    told, counted = [], []
    for jit_compile in (False, "record"):
        model = built(name, NAME, jit_compile=jit_compile)
        fit(model, name)
        with counting() as counts:
            history = fit(model, name).history
        told.append((history, [weight.tolist() for weight in model.get_weights()]))
        counted.append(counts)
    assert [recording.checked for recording in model._fit.step_engine.recordings.values()] == [True, True]
    eager, recorded = counted
    assert recorded.ops < 0.8 * eager.ops, counted
    assert (recorded.sync, recorded.d2h, recorded.h2d) == (eager.sync, eager.d2h, eager.h2d)
    assert told[0] == told[1]


def check_unknown_numbers():
    """Numbers without a place, in data that is on the device: said before the first step, with one wait a fit."""
    for name, spoiled, words in (("embedding", 0, "x contains 20"), ("convnet", 1, "label 3 is out of range")):
        model = built(name, NAME)
        data = [torch.from_numpy(part) for part in data_for(name)]
        whole = [part.to(NAME) for part in data]
        with counting() as short:
            model.fit(*whole, batch_size=32, verbose=0)
        with counting() as long:
            model.fit(*whole, batch_size=8, epochs=3, verbose=0)
        assert long.sync + long.d2h == short.sync + short.d2h + 2, f"{short}, {long}"  # one an epoch, as ever
        before = model.get_weights()
        data[spoiled][50] = 20 if name == "embedding" else 3
        bad = [part.to(NAME) for part in data]
        with pytest.raises(ValueError, match=words):
            model.fit(*bad, batch_size=32, verbose=0)
        with pytest.raises(ValueError, match=words):
            model.fit(iter([tuple(bad)]), verbose=0)
        assert all(np.array_equal(now, then) for now, then in zip(model.get_weights(), before, strict=True))


def check_shuffled(name):
    """The order of an epoch does not depend on the device."""
    histories = []
    for device in ("cpu", NAME):
        model = built(name, device)
        utils.set_random_seed(5)
        histories.append(fit(model, name, shuffle=True, validation_split=0.2).history)
    assert_same(*histories)


def check_waits(name):
    """The host waits once an epoch, twice with validation, and the data goes to the device once."""
    for options, waits in (({}, 1), ({"validation_split": 0.2}, 2)):
        model = built(name, NAME)
        fit(model, name, **options)  # whatever is done once only
        with counting() as short:
            fit(model, name, **options)
        x, y = data_for(name)
        with counting() as long:
            model.fit(x, y, epochs=EPOCHS + 4, batch_size=32, verbose=0, shuffle=False, **options)
        per_epoch = (long.sync + long.d2h - short.sync - short.d2h) / 4
        assert per_epoch <= waits, f"{per_epoch} waits an epoch: {short}, {long}"
        assert short.sync + short.d2h <= waits * EPOCHS + 1, short
        assert long.h2d == short.h2d, f"copies to the device grow with the epochs: {short}, {long}"
        assert short.h2d <= 4 * waits, short  # x and y, of training and of validation, and the rows that are checked
        with counting() as more_batches:
            model.fit(x, y, epochs=EPOCHS, batch_size=8, verbose=0, shuffle=False, **options)
        assert more_batches.sync + more_batches.d2h == short.sync + short.d2h, f"{short}, {more_batches}"
        assert more_batches.h2d == short.h2d, f"copies to the device grow with the batches: {short}, {more_batches}"


def check_shuffle_waits():
    """A shuffled epoch costs one small copy, of its order."""
    model = built("mlp", NAME)
    fit(model, "mlp", shuffle=True)
    with counting() as counts:
        fit(model, "mlp", shuffle=True)
    assert counts.sync + counts.d2h <= EPOCHS + 1, counts
    assert counts.h2d <= 4 + EPOCHS, counts  # x and y, the rows that are checked, an order an epoch


def check_callbacks():
    """EarlyStopping with its best weights, and ModelCheckpoint, whose file fits a model on the CPU."""
    model = built("mlp", NAME, optimizer=keras.optimizers.SGD(0.5))
    stop = callbacks.EarlyStopping(monitor="val_loss", patience=1, restore_best_weights=True, start_from_epoch=0)
    x, y = data_for("mlp")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "best.safetensors"
        save = callbacks.ModelCheckpoint(str(path), save_best_only=True, save_weights_only=True)
        history = model.fit(x, y, epochs=60, batch_size=32, verbose=0, validation_split=0.3, callbacks=[stop, save])
        assert len(history.history["loss"]) < 60
        assert_on(model, NAME)
        other = built("mlp", "cpu")
        other.load_weights(path)
        assert_on(other, "cpu")
        for saved, restored in zip(other.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_allclose(saved, restored)
        again = built("mlp", NAME)
        again.load_weights(path)
        assert_on(again, NAME)
    expected = min(history.history["val_loss"])
    np.testing.assert_allclose(model.evaluate(x[70:], y[70:], verbose=0)[0], expected, rtol=1e-5)


def check_resumed():
    """A training that was interrupted within an epoch, with running means of the weights swapped in for the validation."""

    class Interrupt(callbacks.Callback):
        steps = 0

        def on_train_batch_end(self, batch, logs=None):
            self.steps += 1
            if self.steps == 6:
                raise KeyboardInterrupt

    def train(*others):
        model = built("mlp", NAME, optimizer=keras.optimizers.Adam(0.01, use_ema=True))
        fit(model, "mlp", validation_split=0.2, callbacks=[callbacks.SwapEMAWeights(), *others])
        return model

    whole = train()
    with tempfile.TemporaryDirectory() as folder:
        with pytest.raises(KeyboardInterrupt):
            train(callbacks.BackupAndRestore(folder, save_freq=2), Interrupt())
        resumed = train(callbacks.BackupAndRestore(folder, save_freq=2))
    assert_on(resumed, NAME)
    assert_same_bits(resumed.get_weights(), whole.get_weights())


def check_moving(optimizer):
    """A model that is moved after training trains on, there, with its optimizer's state."""
    moved, stayed = built("mlp", NAME, optimizer), built("mlp", "cpu", optimizer)
    fit(moved, "mlp")
    fit(stayed, "mlp")
    moved.to("cpu")
    assert_on(moved, "cpu")
    with counting() as counts:
        assert_same(fit(moved, "mlp").history, fit(stayed, "mlp").history)
    assert counts.ops == counts.d2h, counts  # the optimizer's and the metrics' state came along, and that is all
    moved.to(NAME)
    assert_same(fit(moved, "mlp").history, fit(stayed, "mlp").history)
    assert_on(moved, NAME)


def check_choosing():
    """The accelerator by default; set_device and compile(device=) choose another; a later to() wins."""
    assert_on(mlp()[0], NAME)
    config.set_device("cpu")
    assert_on(mlp()[0], "cpu")
    config.set_device(None)
    model, loss = mlp()
    model.compile("sgd", loss, device="cpu")
    assert_on(model, "cpu")
    x, y = data_for("mlp")
    model.fit(x, y, verbose=0)
    assert_on(model, "cpu")
    model.to(NAME)
    model.fit(x, y, verbose=0)
    assert_on(model, NAME)
    model.compile("sgd", loss)
    assert_on(model, NAME)
    for device in ("cpu", None):  # a model that is built by its data
        late = keras.Sequential([layers.Dense(4, activation="relu"), layers.Dense(1)])
        late.compile("sgd", "mse", device=device)
        late.fit(x, y, verbose=0)
        assert_on(late, device or NAME)


def check_input_kinds():
    """Tensors of either device, single batches, DataLoaders and plain calls all reach the device."""
    x, y = data_for("mlp")
    results = []
    for device in ("cpu", NAME):
        model = built("mlp", device)
        pairs = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
        model.fit(torch.utils.data.DataLoader(pairs, batch_size=32), epochs=2, verbose=0)
        model.fit(torch.from_numpy(x).to(device), torch.from_numpy(y).to(device), verbose=0, shuffle=False)
        model.fit(torch.from_numpy(x).to(NAME), y, verbose=0, shuffle=False)
        logs = [*model.train_on_batch(x[:32], y[:32]), *model.test_on_batch(x, y)]
        model.fit(x, y, verbose=0, shuffle=False, class_weight={0: 1.0, 1: 2.0})
        weighted = model.fit(x, y, verbose=0, shuffle=False, sample_weight=np.linspace(0, 1, len(x)))
        called = model(torch.from_numpy(x).to(device))
        assert called.device.type == device
        results.append([*logs, *weighted.history["loss"], *model.predict_on_batch(x[:3]).ravel()])
        assert model(x[:3]).device.type == device  # arrays go to where the weights are
    np.testing.assert_allclose(results[0], results[1], rtol=1e-4)


def check_step_of_ones_own():
    """A train_step that is overridden works on the device."""

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden, self.out = layers.Dense(4, activation="relu"), layers.Dense(1)

        def call(self, x):
            return self.out(self.hidden(x))

        def train_step(self, data):
            x, y = data
            assert x.device.type == NAME
            loss = self.compute_loss(x, y, self(x, training=True))
            loss.backward()
            trainable = list(self.trainable_weights)
            with torch.no_grad():
                self.optimizer.apply([weight.value.grad for weight in trainable], trainable)
            self.zero_grad()
            return {"loss": loss}

    model = Own()
    model.compile("sgd", "mse", device=NAME)
    x, y = data_for("mlp")
    history = model.fit(x, y, epochs=5, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert_on(model, NAME)


def check_summary():
    """summary() runs where the model is."""
    model = built("embedding", NAME)
    texts = []
    model.summary(print_fn=texts.append)
    assert "(None, 6, 4)" in texts[0]
    assert_on(model, NAME)


CHECKS = {
    "device": check_device,
    **{f"fit {name}": functools.partial(check_fit, name) for name in MODELS},
    **{f"fit mlp with {name}": functools.partial(check_fit, "mlp", name) for name in ("sgd", "rmsprop", "adamw")},
    **{f"fit {name} with validation": functools.partial(check_fit, name, validation_split=0.2) for name in MODELS},
    **{f"recorded {name}": functools.partial(check_recorded, name) for name in MODELS},
    "unknown numbers": check_unknown_numbers,
    "shuffled": functools.partial(check_shuffled, "mlp"),
    **{f"waits of {name}": functools.partial(check_waits, name) for name in MODELS},
    "waits of a shuffled fit": check_shuffle_waits,
    "callbacks": check_callbacks,
    "resumed": check_resumed,
    **{f"moving with {name}": functools.partial(check_moving, name) for name in ("sgd", "adam")},
    "choosing": check_choosing,
    "input kinds": check_input_kinds,
    "step of one's own": check_step_of_ones_own,
    "summary": check_summary,
}
