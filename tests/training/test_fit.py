import signal

import numpy as np
import pytest
import torch
from torch.utils import data as torch_data

import kstyle_torch as ks
from kstyle_torch import layers
from tests import models_to_train
from tests.models_to_train import rows_with_signs
from tests.oracle import assert_same_bits

X, Y = rows_with_signs(70, 5)


def network(optimizer="adam", **settings):
    return models_to_train.network(optimizer, features=5, **settings)


def fitted(x, y=None, **kwargs):
    model = network()
    return model, model.fit(x, y, epochs=2, shuffle=False, verbose=0, **kwargs)


def same(history, other):
    assert history.history.keys() == other.history.keys()
    for name in history:
        np.testing.assert_allclose(history[name], other[name], rtol=1e-5)


class Rows(torch_data.Dataset):
    def __len__(self):
        return len(X)

    def __getitem__(self, index):
        return X[index], Y[index]


def batches():
    for start in range(0, len(X), 32):
        yield X[start : start + 32], Y[start : start + 32]


def endless():
    while True:
        yield from batches()


SOURCES = {
    "lists": lambda: {"x": X.tolist(), "y": Y.tolist()},
    "tensors": lambda: {"x": torch.tensor(X), "y": torch.tensor(Y)},
    "dataset": lambda: {"x": Rows()},
    "loader": lambda: {"x": torch_data.DataLoader(Rows(), batch_size=32)},
    "tensor-dataset": lambda: {"x": torch_data.TensorDataset(torch.tensor(X), torch.tensor(Y))},
    "generator": lambda: {"x": endless(), "steps_per_epoch": 3},
    "float64": lambda: {"x": X.astype("float64"), "y": Y.astype("int64")},
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_kind_of_data_trains_the_same(source):
    _, expected = fitted(X, Y)
    _, got = fitted(**SOURCES[source]())
    same(got, expected)


def test_a_generator_that_runs_out_warns():
    with pytest.warns(UserWarning, match="ran out after . of 3 batches"):
        fitted(batches(), steps_per_epoch=3)


@pytest.mark.parametrize("form", ["arrays", "loader", "weights"])
def test_validation_data(form):
    given = {"arrays": (X, Y), "weights": (X, Y, np.ones(70)), "loader": torch_data.DataLoader(Rows(), batch_size=32)}[
        form
    ]
    model, history = fitted(X, Y, validation_data=given)
    loss, accuracy = model.evaluate(X, Y, verbose=0)
    assert history["val_loss"][-1] == pytest.approx(loss, rel=1e-5)
    assert history["val_accuracy"][-1] == pytest.approx(accuracy, rel=1e-5)


def test_validation_split_takes_the_last_samples_before_shuffling():
    model = network()
    history = model.fit(X, Y, validation_split=0.3, verbose=0)
    assert history["val_loss"][0] == pytest.approx(model.evaluate(X[49:], Y[49:], verbose=0)[0], rel=1e-5)


def test_validation_frequency_and_initial_epoch():
    model = network()
    history = model.fit(X, Y, validation_split=0.2, epochs=6, initial_epoch=2, validation_freq=2, verbose=0)
    assert history.epoch == [2, 3, 4, 5]
    assert len(history["loss"]) == 4
    assert len(history["val_loss"]) == 2


def test_shuffling_depends_on_the_seed_alone():
    histories = []
    for seed in (0, 0, 1):
        model = network("sgd")
        ks.utils.set_random_seed(seed)
        histories.append(model.fit(X, Y, epochs=2, verbose=0)["loss"])
    assert histories[0] == histories[1]
    assert histories[0] != histories[2]


def test_history_reads_like_a_dict():
    _, history = fitted(X, Y)
    assert dict(history) == history.history
    assert list(history) == ["accuracy", "loss"]
    assert "loss" in history
    assert len(history["loss"]) == len(history.epoch) == 2


@pytest.mark.parametrize("name", ["accuracy", "acc", "Accuracy", "binary_accuracy"])
def test_the_log_key_is_the_name_given(name):
    if name == "Accuracy":
        metric = network(metrics=["accuracy"]).fit(X, Y, verbose=0)
        assert "accuracy" in metric
    else:
        assert name in network(metrics=[name]).fit(X, Y, verbose=0)


def test_metrics_as_functions_and_objects():
    def gap(y_true, y_pred):
        return (y_true - y_pred).abs()

    model = network(metrics=[gap, ks.metrics.MeanAbsoluteError(name="mine"), "mae"])
    result = model.evaluate(X, Y[:, None], verbose=0, return_dict=True)
    assert set(result) == {"loss", "gap", "mine", "mae"}
    assert result["gap"] == pytest.approx(result["mae"], rel=1e-5)
    assert result["mine"] == pytest.approx(np.abs(model.predict(X, verbose=0)[:, 0] - Y).mean(), rel=1e-5)


def test_a_loss_function_of_the_users():
    def cubed(y_true, y_pred):
        return (y_true - y_pred).abs() ** 3

    model = network(loss=cubed, metrics=[])
    expected = (np.abs(model.predict(X, verbose=0)[:, 0] - Y) ** 3).mean()
    assert model.evaluate(X, Y, verbose=0) == pytest.approx(expected, rel=1e-5)


def test_on_batch_methods():
    model = network("sgd")
    loss, accuracy = model.train_on_batch(X, Y)
    other = network("sgd")
    history = other.fit(X, Y, batch_size=70, verbose=0)
    assert (loss, accuracy) == (pytest.approx(history["loss"][0]), pytest.approx(history["accuracy"][0]))
    assert model.test_on_batch(X, Y, return_dict=True) == pytest.approx(
        model.evaluate(X, Y, verbose=0, return_dict=True)
    )
    np.testing.assert_allclose(model.predict_on_batch(X), model.predict(X, verbose=0), rtol=1e-6)


def test_predict_does_not_need_compile_and_does_not_track_gradients():
    model = ks.Sequential([ks.Input((5,)), layers.Dense(2, activation="softmax")])
    prediction = model.predict(X, batch_size=16, verbose=0)
    assert prediction.shape == (70, 2)
    np.testing.assert_allclose(prediction, model(torch.tensor(X)).detach(), rtol=1e-6)


def test_predict_of_one_batch():
    """What fits in one batch goes a shorter way; the numbers, the mode and the errors are the same."""
    model = ks.Sequential([ks.Input((5,)), layers.Dense(3), layers.Dropout(0.5), layers.Dense(2, activation="softmax")])
    whole = model.predict(X, batch_size=16, verbose=0)
    model.train()
    for rows in (X[:16], torch.tensor(X[:16]), X[:16].tolist(), X[:16].astype("float64")):
        np.testing.assert_allclose(model.predict(rows, batch_size=16, verbose=0), whole[:16], rtol=1e-6)
    assert model.training and model.layers[1].training
    with pytest.raises(ValueError, match=r"x has shape \(4, 3\)"):
        model.predict(X[:4, :3], verbose=0)
    seen = []
    model.layers[0].register_forward_hook(lambda *_: seen.append(1))
    model.predict(X[:3], verbose=0)
    assert seen == [1]


def test_predictions_are_memory_of_their_own():
    model = ks.Sequential([ks.Input((5,)), layers.Identity()])
    x = X.copy()
    for batch_size in (16, 100):
        model.predict(x, batch_size=batch_size, verbose=0)[:] = 0
    np.testing.assert_array_equal(x, X)


class Counting(ks.Sequential):
    steps = 0

    def train_step(self, data):
        x, y = data
        type(self).steps += 1
        self.zero_grad()
        y_pred = self(x, training=True)
        loss = self.compute_loss(y=y, y_pred=y_pred)
        loss.backward()
        weights = list(self.trainable_weights)
        with torch.no_grad():
            self.optimizer.apply([w.value.grad for w in weights], weights)
        for metric in self.metrics:
            metric.update_state(loss) if metric.name == "loss" else metric.update_state(y, y_pred)
        return {m.name: m.result() for m in self.metrics}


def test_an_overridden_train_step_gives_the_same_numbers():
    model = network(kind=Counting)
    history = model.fit(X, Y, epochs=2, shuffle=False, verbose=0)
    assert Counting.steps == 6
    _, expected = fitted(X, Y)
    assert history["accuracy"] == pytest.approx(expected["accuracy"])
    for a, b in zip(model.get_weights(), _.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


class OwnMetric(ks.Sequential):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.tracker = ks.metrics.Mean(name="my_loss")

    def train_step(self, data):
        x, y = data
        loss = ((self(x, training=True)[:, 0] - y) ** 2).mean()
        self.zero_grad()
        loss.backward()
        weights = self.trainable_weights
        self.optimizer.apply([w.value.grad for w in weights], weights)
        self.tracker.update_state(loss)
        return {"my_loss": self.tracker.result()}

    @property
    def metrics(self):
        return [self.tracker]


def test_metrics_of_the_users_own():
    model = OwnMetric([ks.Input((5,)), layers.Dense(1)])
    model.compile("adam")
    history = model.fit(X, Y, epochs=3, shuffle=False, verbose=0)
    assert list(history) == ["my_loss"]
    assert history["my_loss"][-1] < history["my_loss"][0]


def test_add_loss_and_activity_regularizer_are_minimised():
    class Penalised(ks.layers.Layer):
        def call(self, x):
            self.add_loss(x.mean() * 0 + 0.5)
            return x

    model = ks.Sequential([ks.Input((5,)), Penalised(), layers.Dense(1, activity_regularizer="l2")])
    model.compile("sgd", "mse")
    prediction = model.predict(X, verbose=0)[:, 0]
    expected = ((prediction - Y) ** 2).mean() + 0.5
    loss = model.evaluate(X, Y, batch_size=70, verbose=0)
    assert loss == pytest.approx(expected + 0.01 * (prediction**2).mean(), rel=1e-4)


def test_modes_are_left_alone():
    model = ks.Sequential([ks.Input((5,)), layers.BatchNormalization(), layers.Dropout(0.5), layers.Dense(1)])
    model.compile("sgd", "mse")
    assert not model.training
    model.layers[1].train()
    for run in (model.evaluate, model.fit, model.train_on_batch, model.test_on_batch):
        run(X, Y)
    model.predict(X, verbose=0)
    assert [module.training for module in model.layers] == [False, True, False]


def test_a_callback_that_gives_a_mode_does_not_change_that_of_the_steps():
    seen = []

    class Seeing(layers.Layer):
        def call(self, x):
            seen.append(self.training)
            return x

    model = ks.Sequential([ks.Input((5,)), Seeing(), layers.Dense(1)])
    model.compile("sgd", "mse")

    class Predicting(ks.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.eval()

    seen.clear()
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[Predicting()])
    assert seen[-6:] == [True] * 6


def test_frozen_layers_stay_as_they_are():
    model = network()
    model.layers[0].trainable = False
    before = model.get_weights()
    model.fit(X, Y, verbose=0)
    changed = [not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)]
    assert changed == [False, False, True, True]
    model.layers[0].trainable = True
    model.fit(X, Y, verbose=0)
    assert not np.array_equal(before[0], model.get_weights()[0])


@pytest.mark.parametrize("how", ["error", "ctrl-c"])
def test_an_interrupted_fit_leaves_a_usable_model(how):
    model = network()
    reference = network()
    reference.fit(X, Y, epochs=2, shuffle=False, verbose=0)

    class Stop(ks.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                if how == "ctrl-c":
                    signal.raise_signal(signal.SIGINT)
                raise RuntimeError("stop")

    with pytest.raises((RuntimeError, KeyboardInterrupt)):
        model.fit(X, Y, epochs=5, shuffle=False, verbose=0, callbacks=[Stop()])
    assert model.history.epoch == [0, 1]
    assert not model.training
    assert all(p.grad is None for p in model.parameters())
    assert_same_bits(model.get_weights(), reference.get_weights())
    assert len(model.fit(X, Y, verbose=0)["loss"]) == 1


def test_what_compile_made_is_no_part_of_the_module():
    model = network(loss=torch.nn.BCELoss(weight=torch.ones(1)))
    assert not any("loss" in key for key in model.state_dict())
    assert len(list(model.parameters())) == 4


def test_the_last_short_batch_counts_by_its_size():
    model = network(metrics=[])
    whole = model.evaluate(X, Y, batch_size=70, verbose=0)
    assert model.evaluate(X, Y, batch_size=32, verbose=0) == pytest.approx(whole, rel=1e-5)


def test_many_steps_fold_into_the_same_metrics(monkeypatch):
    from kstyle_torch.training import epoch_metrics

    _, expected = fitted(X, Y, batch_size=2)
    monkeypatch.setattr(epoch_metrics, "FOLD_STEPS", 3)
    _, got = fitted(X, Y, batch_size=2)
    same(got, expected)


def test_weights_files(tmp_path):
    for suffix in (".safetensors", ".pt"):
        model, other = network(), network()
        model.fit(X, Y, verbose=0)
        path = tmp_path / f"w{suffix}"
        model.save_weights(path)
        other.load_weights(path)
        np.testing.assert_array_equal(other.predict(X, verbose=0), model.predict(X, verbose=0))
        with pytest.raises(FileExistsError):
            model.save_weights(path, overwrite=False)
        smaller = ks.Sequential([ks.Input((5,)), layers.Dense(2)])
        before = smaller.get_weights()
        with pytest.raises(ValueError, match="does not fit"):
            smaller.load_weights(path)
        assert np.array_equal(before[0], smaller.get_weights()[0])
    with pytest.raises(ValueError, match="must end in"):
        model.save_weights(tmp_path / "w.bin")
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["w.pt", "w.safetensors"]


def test_a_learning_rate_set_between_fits_is_used():
    model = network("sgd")
    model.optimizer.learning_rate = 0.0
    before = model.get_weights()
    model.fit(X, Y, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert float(model.optimizer.learning_rate) == 0.0
    assert int(model.optimizer.iterations) == 3


def test_a_model_without_call_is_trained_by_its_own_step():
    class OnlyTrained(ks.Model):
        def __init__(self):
            super().__init__()
            self.part = layers.Dense(1)

        def train_step(self, data):
            loss = self.part(data).square().mean()
            return {"loss": loss}

    model = OnlyTrained()
    model.part(torch.ones(1, 3))
    model.compile(optimizer="sgd")
    assert list(model.fit(torch.ones(8, 3), verbose=0).history) == ["loss"]
