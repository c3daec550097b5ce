"""A training that is killed, over and over, and begun again: run as a program by test_backup.py.

It imports torch once and forks for every life of the training, so that a SIGKILL ends a real process.
"""

import json
import os
import pathlib
import signal
import sys
import traceback

import numpy as np
import torch

import kstyle_torch as ks
from kstyle_torch import layers
from kstyle_torch.callbacks import backup

RNG = np.random.default_rng(0)
X = RNG.normal(size=(70, 6)).astype("float32")
Y = (X.sum(1) > 0).astype("float32")


class Killer(ks.callbacks.Callback):
    """Ends the process, as the operating system would."""

    def __init__(self, hook, epoch, batch=None):
        super().__init__()
        self.at, self.epoch = (hook, epoch, batch), None

    def _reached(self, hook, epoch, batch=None):
        if (hook, epoch, batch) == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        self._reached("epoch_begin", epoch)

    def on_train_batch_end(self, batch, logs=None):
        self._reached("batch_end", self.epoch, batch)

    def on_test_batch_end(self, batch, logs=None):
        self._reached("test_batch_end", self.epoch, batch)

    def on_epoch_end(self, epoch, logs=None):
        self._reached("epoch_end", epoch)

    def on_train_end(self, logs=None):
        self._reached("train_end", None)


class Counter(ks.callbacks.Callback):
    """A user's callback with state of its own."""

    def __init__(self):
        super().__init__()
        self.epochs, self.means = 0, np.zeros(12)

    def on_epoch_end(self, epoch, logs=None):
        self.means[self.epochs] = np.random.normal() + float(torch.rand(()))  # as data augmentation would draw
        self.epochs += 1


def die_while_writing(nth):
    """The nth backup is cut off in the middle of the file."""
    whole, count = torch.save, iter(range(1, 1000))

    def save(state, path):
        whole(state, path)
        if next(count) == nth:
            os.truncate(path, os.path.getsize(path) // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    backup.torch.save = save


def network():
    torch.manual_seed(7)
    np.random.seed(7)
    model = ks.Sequential(
        [
            ks.Input((6,)),
            layers.Dense(8, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.3),
            layers.Dense(8, activation="relu"),
            layers.Dropout(0.2, seed=3),
            Noise(),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(ks.optimizers.Adam(0.02), "binary_crossentropy", metrics=["accuracy"])
    return model


class Noise(layers.Layer):
    """A user's layer with a seed generator of its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seeds = ks.random.SeedGenerator(3)
        self.calls = 0

    def call(self, x, training=None):
        self.calls += 1
        return x + 0.1 * ks.random.normal(x.shape, seed=self.seeds) if training else x


class Rows(torch.utils.data.Dataset):
    """Draws NumPy's random numbers for every item, as augmentation does."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index] + np.random.normal(scale=0.1, size=6).astype("float32"), self.y[index]


class Shuffled(ks.utils.PyDataset):
    """Shuffles itself after each epoch, and says what that made of it."""

    def __init__(self):
        super().__init__()
        self.order = np.arange(70)

    def __len__(self):
        return 5

    def __getitem__(self, index):
        chosen = self.order[index * 16 : index * 16 + 16]
        return X[chosen], Y[chosen]

    def on_epoch_end(self):
        np.random.shuffle(self.order)

    def state_dict(self):
        return {"order": self.order}

    def load_state_dict(self, state):
        self.order = state["order"]


def generator(x, y):
    rng = np.random.default_rng(5)
    while True:
        chosen = rng.integers(0, len(x), 16)
        yield x[chosen], y[chosen]


def drawing_generator():
    while True:
        chosen = np.random.randint(0, 70, 16)
        yield X[chosen], Y[chosen]


def data(kind):
    """What `fit` gets of each kind of data; five batches an epoch."""
    x, y = X[:20], (X[:20, 0] > 0).astype("float32")
    if kind == "arrays":
        return {"x": X, "y": Y, "batch_size": 16, "validation_data": (x, y)}
    if kind == "dataset":
        return {"x": Rows(X, Y), "batch_size": 16, "shuffle": True, "validation_data": Rows(x, y)}
    if kind == "loader":
        order = torch.Generator().manual_seed(11)
        loader = torch.utils.data.DataLoader(Rows(X, Y), batch_size=16, shuffle=True, generator=order)
        return {"x": loader, "validation_data": torch.utils.data.DataLoader(Rows(x, y), batch_size=16, shuffle=True)}
    if kind == "generator":
        return {
            "x": generator(X, Y),
            "steps_per_epoch": 5,
            "validation_data": generator(x, y),
            "validation_steps": 2,
        }
    if kind == "numpy-generator":
        return {"x": drawing_generator(), "steps_per_epoch": 5, "validation_data": (x, y)}
    if kind == "pydataset":
        return {"x": Shuffled(), "validation_data": (x, y), "shuffle": True}
    # an epoch ends within a pass over the data
    return {"x": X[:66], "y": Y[:66], "batch_size": 11, "steps_per_epoch": 3, "validation_data": (x, y)}


def train(folder, save_freq, kind, killer=None, with_backup=True):
    """One life of the training; leaves its results in the folder if it lives to the end."""
    model = network()
    stop = ks.callbacks.EarlyStopping("val_loss", patience=3, restore_best_weights=True)
    reduce = ks.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=1, min_delta=0.01)
    schedule = ks.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.97)
    save = ks.callbacks.ModelCheckpoint(
        folder / "best.safetensors", monitor="val_loss", save_best_only=True, save_weights_only=True
    )
    counter, table = Counter(), ks.callbacks.CSVLogger(folder / "log.csv")
    callbacks = [schedule, stop, reduce, save, counter, table]
    if with_backup:
        callbacks.insert(0, ks.callbacks.BackupAndRestore(folder / "backup", save_freq=save_freq))
    if killer is not None:
        callbacks.append(killer)
    history = model.fit(epochs=12, callbacks=callbacks, verbose=0, **data(kind))
    results = {
        "weights": {name: tensor.numpy().tobytes().hex() for name, tensor in model.state_dict().items()},
        "optimizer": [
            np.asarray(torch.as_tensor(getattr(v, "value", v))).tobytes().hex() for v in model.optimizer.variables
        ],
        "history": history.history,
        "epochs": history.epoch,
        "counter": [counter.epochs, counter.means.tolist()],
        "best": [stop.best, stop.best_epoch, stop.wait, reduce.best, reduce.wait, save.best],
        "table": (folder / "log.csv").read_text(),
        "checkpoint": (folder / "best.safetensors").read_bytes().hex(),
        "random": [torch.rand(3).tolist(), np.random.rand(3).tolist()],
        "calls": next(layer.calls for layer in model.layers if isinstance(layer, Noise)),
        "left": sorted(path.name for path in folder.iterdir()),
    }
    (folder / "results.json").write_text(json.dumps(results))


KILLS = {
    "epoch": [
        lambda: Killer("epoch_begin", 1),
        lambda: Killer("batch_end", 2, 2),
        lambda: Killer("test_batch_end", 3, 0),
        lambda: die_while_writing(2),
        lambda: Killer("epoch_end", 5),
        lambda: Killer("train_end", None),
    ],
    2: [
        lambda: Killer("batch_end", 0, 2),
        lambda: die_while_writing(2),
        lambda: Killer("batch_end", 2, 0),
        lambda: Killer("epoch_end", 2),
        lambda: Killer("batch_end", 3, 2),
        lambda: Killer("test_batch_end", 3, 0),
        lambda: Killer("batch_end", 5, 1),
        lambda: Killer("train_end", None),
    ],
}


def life(folder, save_freq, kind, kill=None, with_backup=True):
    """Runs `train` in a process of its own; whether a SIGKILL ended it."""
    process = os.fork()
    if process == 0:
        try:
            train(folder, save_freq, kind, kill and kill(), with_backup)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(process, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit("the training failed")
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def lives(folder, save_freq, kind):
    """Three trainings: never killed and without a backup, never killed, and killed at all or half of the `KILLS`."""
    names = ("plain", "whole", "killed")
    folders = {name: folder / name for name in names}
    for each in folders.values():
        each.mkdir(parents=True)
    life(folders["plain"], save_freq, kind, with_backup=False)
    life(folders["whole"], save_freq, kind)
    deaths = 0
    for kill in KILLS[save_freq] if kind in ("arrays", "loader") else KILLS[save_freq][::2]:
        deaths += life(folders["killed"], save_freq, kind, kill)
    life(folders["killed"], save_freq, kind)
    return deaths


if __name__ == "__main__":
    root, freq = pathlib.Path(sys.argv[1]), sys.argv[2]
    for kind in sys.argv[3:]:
        print(kind, int(lives(root / kind, freq if freq == "epoch" else int(freq), kind)))
