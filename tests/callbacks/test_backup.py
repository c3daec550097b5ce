"""BackupAndRestore: a training that was killed ends as if it had not been."""

import functools
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import layers
from kstyle_torch.callbacks import backup, snapshot
from tests.models_to_train import rows_with_signs
from tests.oracle import assert_same_bits

PROGRAM = pathlib.Path(__file__).with_name("interrupted.py")
ROOT = pathlib.Path(ks.__file__).parents[1]
X, Y = rows_with_signs(40, 5)


@pytest.mark.full
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the lives of the training are forked, to import torch only once")
@pytest.mark.parametrize(
    ("save_freq", "kinds"),
    [
        ("epoch", {"arrays": 6, "loader": 6}),
        ("2", {"arrays": 8, "part": 4, "dataset": 4, "generator": 4, "numpy-generator": 4, "pydataset": 4}),
    ],
    ids=["epoch", "batch"],
)
def test_a_killed_training_ends_as_if_it_had_not_been(tmp_path, save_freq, kinds):
    """Weights, optimizer, History, other callbacks, files and random numbers, all bit for bit."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(PROGRAM), str(tmp_path), save_freq, *kinds]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert {kind: int(deaths) for kind, deaths in map(str.split, run.stdout.splitlines())} == kinds
    for kind in kinds:
        plain, whole, killed = (
            json.loads((tmp_path / kind / life / "results.json").read_text()) for life in ("plain", "whole", "killed")
        )
        assert len(whole["epochs"]) > 5
        assert kind == "part" or len(whole["epochs"]) < 12  # EarlyStopping ended it
        assert len(set(whole["history"]["learning_rate"])) > 2
        for key in whole:
            assert killed[key] == whole[key], (kind, key)
        for key in ("weights", "optimizer", "random", "epochs", "best", "counter"):
            assert plain[key] == whole[key], (kind, key)


def network(units=1):
    ks.utils.set_random_seed(1)
    model = ks.Sequential([ks.Input((5,)), layers.Dense(units, activation="sigmoid"), layers.Dropout(0.2)])
    model.compile(ks.optimizers.Adam(0.01), "mse", metrics=["mae"])
    return model


class Interrupt(ks.callbacks.Callback):
    def __init__(self, at, batch=None):
        super().__init__()
        self.at, self.batch, self.epoch = at, batch, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        if epoch == self.at and self.batch is None:
            raise KeyboardInterrupt

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == self.at and batch == self.batch:
            raise KeyboardInterrupt


def fit(model, *callbacks, **kwargs):
    return model.fit(X, Y, **{"batch_size": 8, "epochs": 4, "verbose": 0, "callbacks": list(callbacks), **kwargs})


def interrupted(folder, at=2, batch=None, model=None, **kwargs):
    with pytest.raises(KeyboardInterrupt):
        fit(model or network(), ks.callbacks.BackupAndRestore(folder, **kwargs), Interrupt(at, batch))


def test_an_interrupted_training_goes_on_in_the_same_process(tmp_path):
    model = network()
    interrupted(tmp_path / "b", model=model)
    seen = []
    watch = ks.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: seen.append(epoch))
    history = fit(model, ks.callbacks.BackupAndRestore(tmp_path / "b"), watch)
    assert seen == [2, 3]
    assert history.epoch == [0, 1, 2, 3]
    whole = network()
    assert fit(whole).history == history.history
    assert not (tmp_path / "b").exists()
    fit(model, ks.callbacks.BackupAndRestore(tmp_path / "b"), watch)
    assert seen == [2, 3, 0, 1, 2, 3]


def test_the_epochs_are_those_that_keras_resumes_with(keras, tmp_path):
    orders = []
    for library in (keras, ks):
        folder, seen = str(tmp_path / library.__name__), []
        watch = library.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs, seen=seen: seen.append(epoch))
        for fails in (True, False):
            model = library.Sequential([library.Input((5,)), library.layers.Dense(1)])
            model.compile("sgd", "mse")

            def fail(epoch, logs, fails=fails):
                if fails and epoch == 2:
                    raise RuntimeError

            callbacks = [
                library.callbacks.BackupAndRestore(folder, delete_checkpoint=False),
                watch,
                library.callbacks.LambdaCallback(on_epoch_begin=fail),
            ]
            try:
                model.fit(X, Y, epochs=5, verbose=0, callbacks=callbacks)
            except RuntimeError:
                assert fails
        model.fit(X, Y, epochs=7, verbose=0, callbacks=callbacks)
        orders.append((seen, int(model.optimizer.iterations)))
    assert orders[1] == orders[0]


def test_what_the_callbacks_have_is_not_taken_from_a_training_that_has_ended(tmp_path):
    folder = tmp_path / "b"
    stop = ks.callbacks.EarlyStopping("loss", patience=0, min_delta=10)
    keep = ks.callbacks.BackupAndRestore(folder, delete_checkpoint=False)
    model = network()
    assert fit(model, keep, stop).epoch == [0, 1]
    history = fit(network(), ks.callbacks.BackupAndRestore(folder, delete_checkpoint=False))
    assert history.epoch == [2, 3]


def test_the_backup_is_plain_data_and_the_folder_the_users(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    model = network()
    interrupted(tmp_path, batch=2, save_freq=3, model=model)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest.pt", "mine.txt"]
    state = torch.load(tmp_path / "latest.pt", weights_only=True)
    assert (state["epoch"], state["batch"]) == (2, 2)
    assert {name: tensor.shape for name, tensor in state["tensors"].items()} == {
        name: tensor.shape for name, tensor in model.state_dict().items()
    }
    fit(network(), ks.callbacks.BackupAndRestore(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_backup_before_the_last_is_used_if_the_last_is_damaged(tmp_path):
    interrupted(tmp_path, double_checkpoint=True)
    latest, before = (tmp_path / name for name in (backup.LATEST, backup.PREVIOUS))
    assert torch.load(before, weights_only=True)["epoch"] == 1
    content = bytearray(latest.read_bytes())
    content[len(content) // 2] ^= 255
    latest.write_bytes(content)
    with pytest.warns(UserWarning, match="The backup before it is used"):
        resumed = fit(network(), ks.callbacks.BackupAndRestore(tmp_path))
    assert resumed.history == fit(network()).history


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_backup_is_an_error(tmp_path, damage):
    interrupted(tmp_path)
    latest = tmp_path / backup.LATEST
    content = bytearray(latest.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 255
    latest.write_bytes({"cut": content[:-100], "flipped": content, "empty": b""}[damage])
    model = network()
    with pytest.raises(OSError, match="delete it to start over"):
        fit(model, ks.callbacks.BackupAndRestore(tmp_path))
    np.testing.assert_array_equal(model.get_weights()[0], network().get_weights()[0])


def test_a_backup_of_another_model_is_refused(tmp_path):
    interrupted(tmp_path)
    model = network(units=2)
    before = model.get_weights()[0]
    with pytest.raises(ValueError, match=r"linear.weight has shape \(1, 5\) there, \(2, 5\) here"):
        model.fit(X, np.stack([Y, Y], 1), epochs=4, verbose=0, callbacks=[ks.callbacks.BackupAndRestore(tmp_path)])
    np.testing.assert_array_equal(model.get_weights()[0], before)


def test_other_batches_within_an_epoch_are_refused(tmp_path):
    interrupted(tmp_path, batch=3, save_freq=2)
    with pytest.raises(ValueError, match="an epoch of 5 batches; there are 3 now"):
        fit(network(), ks.callbacks.BackupAndRestore(tmp_path), batch_size=16)


def test_trainable_flags_and_several_optimizers_are_restored(tmp_path):
    class Pair(ks.Model):
        def __init__(self):
            super().__init__()
            self.first, self.second = layers.Dense(4, activation="relu"), layers.Dense(1)
            self.slow, self.steps = ks.optimizers.SGD(0.01, momentum=0.9), 0

        def call(self, x):
            return self.second(self.first(x))

        def train_step(self, data):
            x, y = data
            loss = self.compute_loss(x, y, self(x, training=True))
            loss.backward()
            for optimizer, layer in ((self.slow, self.first), (self.optimizer, self.second)):
                weights = layer.trainable_weights
                if weights:
                    optimizer.apply([weight.value.grad for weight in weights], weights)
                for weight in weights:
                    weight.value.grad = None
            self.steps += 1
            return {"loss": loss}

    class Freeze(ks.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                self.model.first.trainable = False

    def pair():
        ks.utils.set_random_seed(2)
        model = Pair()
        model.compile("adam", "mse")
        return model

    whole, resumed = pair(), pair()
    fit(whole, Freeze())
    with pytest.raises(KeyboardInterrupt):
        fit(pair(), ks.callbacks.BackupAndRestore(tmp_path, save_freq=2), Freeze(), Interrupt(2, 3))
    fit(resumed, ks.callbacks.BackupAndRestore(tmp_path, save_freq=2), Freeze())
    assert not resumed.first.trainable
    assert resumed.steps == whole.steps == 20
    assert_same_bits(resumed.get_weights(), whole.get_weights())
    for a, b in zip(resumed.slow.variables, whole.slow.variables, strict=True):
        assert torch.equal(torch.as_tensor(getattr(a, "value", a)), torch.as_tensor(getattr(b, "value", b)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backup_dir": ""}, "backup_dir is empty"),
        ({"backup_dir": "b", "save_freq": "batch"}, "got 'batch'"),
        ({"backup_dir": "b", "save_freq": 1.5}, "got 1.5"),
    ],
    ids=["dir", "text", "float"],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ks.callbacks.BackupAndRestore(**arguments)


def test_what_is_saved_of_an_object_are_its_plain_attributes_that_change():
    class Thing:
        def __init__(self):
            self.same, self.count, self.array, self.nest = "given", 0, np.arange(3), {"a": [torch.zeros(2)], 1: None}
            self.function, self.scalar = print, np.float32(0.5)

    thing = Thing()
    changes = snapshot.Changes({"thing": thing})
    assert changes.take() == {}
    thing.count, thing.scalar = 3, np.float32(2.5)
    thing.array[1] = 7
    thing.nest["a"][0] += 1
    taken = changes.take()
    assert sorted(taken["thing"]) == ["array", "count", "nest", "scalar"]
    other = Thing()
    snapshot.Changes({"thing": other}).give_back(taken)
    assert other.count == 3 and other.scalar == 2.5
    assert other.array.tolist() == [0, 7, 2]
    assert other.nest["a"][0].tolist() == [1, 1] and other.nest[1] is None


def test_a_state_dict_that_cannot_be_saved_is_an_error(tmp_path):
    class Odd(ks.callbacks.Callback):
        def state_dict(self):
            return {"file": print}

    with pytest.raises(TypeError, match=r"state_dict\(\) of .*Odd#0 may hold numbers"):
        fit(network(), Odd(), ks.callbacks.BackupAndRestore(tmp_path))


OPTIMIZERS = {
    "schedule": lambda: ks.optimizers.Adam(ks.optimizers.schedules.ExponentialDecay(0.05, 3, 0.9), amsgrad=True),
    "ema": lambda: ks.optimizers.SGD(0.1, momentum=0.9, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=7),
    "accumulation": lambda: ks.optimizers.Nadam(0.01, gradient_accumulation_steps=3),
    "schedule-free": lambda: ks.optimizers.ScheduleFreeAdamW(0.01),
    "loss-scale": lambda: ks.optimizers.LossScaleOptimizer(ks.optimizers.Adam(0.01), dynamic_growth_steps=3),
    "multi": lambda: ks.optimizers.MultiOptimizer(
        ks.optimizers.OptimizerMap(ks.optimizers.RMSprop(0.01), {".*bias": ks.optimizers.SGD(0.1, momentum=0.5)})
    ),
    "torch": lambda: functools.partial(torch.optim.NAdam, lr=0.01),
}


@pytest.mark.parametrize("save_freq", ["epoch", 3])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_kind_of_optimizer_goes_on(tmp_path, name, save_freq):
    def model():
        made = network()
        made.compile(OPTIMIZERS[name](), "mse", metrics=["mae"])
        return made

    whole, resumed = model(), model()
    swap = [ks.callbacks.SwapEMAWeights(swap_on_epoch=True)] if name == "ema" else []
    fit(whole, *swap, validation_data=(X, Y))
    for at, batch in ((1, 1), (2, None), (3, 3)):
        swap = [ks.callbacks.SwapEMAWeights(swap_on_epoch=True)] if name == "ema" else []
        with pytest.raises(KeyboardInterrupt):
            fit(
                model(),
                ks.callbacks.BackupAndRestore(tmp_path, save_freq=save_freq),
                *swap,
                Interrupt(at, batch),
                validation_data=(X, Y),
            )
    swap = [ks.callbacks.SwapEMAWeights(swap_on_epoch=True)] if name == "ema" else []
    fit(resumed, ks.callbacks.BackupAndRestore(tmp_path, save_freq=save_freq), *swap, validation_data=(X, Y))
    assert_same_bits(resumed.get_weights(), whole.get_weights())
    assert_same_bits(resumed.optimizer.variables, whole.optimizer.variables)


@pytest.mark.parametrize(
    "tier", [{"run_eagerly": True}, {"jit_compile": "record"}, {"steps_per_execution": 2}], ids=str
)
def test_every_way_of_running_steps_goes_on(tmp_path, tier):
    def model():
        made = network()
        made.compile("adam", "mse", metrics=["mae"], **tier)
        return made

    whole, resumed = model(), model()
    fit(whole)
    with pytest.raises(KeyboardInterrupt):
        fit(model(), ks.callbacks.BackupAndRestore(tmp_path, save_freq=2), Interrupt(2, 3))
    fit(resumed, ks.callbacks.BackupAndRestore(tmp_path, save_freq=2))
    np.testing.assert_array_equal(resumed.get_weights()[0], whole.get_weights()[0])
    assert int(resumed.optimizer.iterations) == int(whole.optimizer.iterations) == 20


def test_stateful_layers_go_on(tmp_path):
    x = np.random.default_rng(1).normal(size=(40, 3, 2)).astype("float32")

    def model():
        ks.utils.set_random_seed(4)
        made = ks.Sequential([ks.Input((3, 2), batch_size=8), layers.LSTM(3, stateful=True), layers.Dense(1)])
        made.compile("adam", "mse")
        return made

    def train(made, *callbacks):
        made.fit(x, Y, batch_size=8, epochs=3, shuffle=False, verbose=0, callbacks=list(callbacks))
        return made.get_weights()[0]

    whole = train(model())
    with pytest.raises(KeyboardInterrupt):
        train(model(), ks.callbacks.BackupAndRestore(tmp_path, save_freq=2), Interrupt(1, 2))
    np.testing.assert_array_equal(train(model(), ks.callbacks.BackupAndRestore(tmp_path, save_freq=2)), whole)
