"""A process killed at any step of a save leaves the old model or the new one, never a mixture."""

import itertools
import os
import warnings

import numpy as np
import pytest

import kstyle_torch as ks
from kstyle_torch import layers, saving
from tests.choice import parameters

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a copy of the process")
STEPS = (
    "open",
    "replace",
    "rename",
    "fsync",
    "unlink",
    "mkdir",
    "rmdir",
)  # of the module os; files are changed in no other way


def network(value, activation="linear"):
    """A model all of whose weights are one number."""
    model = ks.Sequential([ks.Input((3,)), layers.Dense(4, activation=activation), layers.Dense(2)])
    model.set_weights([np.full_like(weight, value) for weight in model.get_weights()])
    return model


OLD, NEW = network(1.0), network(-2.0, "relu")
X = np.array([[1.0, 2.0, 3.0]], dtype="float32")


def killed_at(step, action):
    """Runs an action in a copy of the process that dies before its n-th step; returns whether it came so far."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Pythons warn of threads, which the copy does not have
        child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    try:
        left = itertools.count(step, -1)
        for name in STEPS:
            original = getattr(os, name)

            def dying(*args, original=original, **kwargs):
                if next(left) == 0:
                    os._exit(9)
                return original(*args, **kwargs)

            setattr(os, name, dying)
        action()
        os._exit(0)
    finally:
        os._exit(1)


def weights_like(load, path):
    """The number that all weights of a file are."""
    model = network(0.0)
    load(model, path)
    values = {float(value) for weight in model.get_weights() for value in weight.flat}
    assert len(values) == 1, "a mixture"
    return values.pop()


def output_like(load, path):
    """The number of the model in a file that gives the same output."""
    output = load(path).predict(X, verbose=0)
    fitting = [value for value, model in ((1.0, OLD), (-2.0, NEW)) if np.allclose(model.predict(X, verbose=0), output)]
    assert len(fitting) == 1, "a mixture"
    return fitting[0]


def sharded(model, path):
    model.save_weights(path, max_shard_size=6e-8)


WRITERS = {
    "m.weights.json": (sharded, lambda path: weights_like(ks.Model.load_weights, path)),
    "m.weights.h5": (ks.Model.save_weights, lambda path: weights_like(ks.Model.load_weights, path)),
    "m.safetensors": (ks.Model.save_weights, lambda path: weights_like(ks.Model.load_weights, path)),
    "m.pt": (ks.Model.save_weights, lambda path: weights_like(ks.Model.load_weights, path)),
    "m.keras": (ks.Model.save, lambda path: output_like(saving.load_model, path)),
    "m.h5": (ks.Model.save, lambda path: output_like(saving.load_model, path)),
    "hub": (ks.Model.save_pretrained, lambda path: output_like(ks.Model.from_pretrained, path)),
}


@pytest.mark.parametrize("name", parameters(WRITERS, lambda name: None))
def test_a_kill_at_every_step(name, tmp_path):
    save, number_in = WRITERS[name]
    path = tmp_path / name
    save(OLD, path)
    found = []
    for step in itertools.count():
        if not killed_at(step, lambda: save(NEW, path)):
            break
        found.append(number_in(path))
        if found[-1] != 1.0:
            save(OLD, path)
    assert number_in(path) == -2.0  # the last came to its end
    assert step >= 4
    assert found == sorted(found, reverse=True), "the new one came and went"
    assert 1.0 in found


def visible(folder):
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


def test_one_set_of_shards_is_left(tmp_path):
    path = tmp_path / "m.weights.json"
    sharded(OLD, path)
    first = visible(tmp_path)
    other = tmp_path / "m_2.weights.json"
    sharded(OLD, other)
    for step in range(0, 20, 5):
        killed_at(step, lambda: sharded(NEW, path))
    sharded(NEW, path)
    sharded(NEW, path)  # shards newer than the table before might have been another process's
    ours = [name for name in visible(tmp_path) if not name.startswith("m_2")]
    assert len(ours) == len(first)
    assert weights_like(ks.Model.load_weights, path) == -2.0
    assert weights_like(ks.Model.load_weights, other) == 1.0


def test_shards_under_the_names_of_keras_are_replaced(tmp_path, monkeypatch):
    path = tmp_path / "m.weights.json"
    sharded(OLD, path)
    text = path.read_text()
    for shard in visible(tmp_path):
        if "-" in shard:
            plain = shard.partition("-")[0] + ".weights.h5"
            (tmp_path / shard).replace(tmp_path / plain)
            text = text.replace(shard, plain)
    path.write_text(text)
    assert weights_like(ks.Model.load_weights, path) == 1.0
    sharded(NEW, path)
    assert weights_like(ks.Model.load_weights, path) == -2.0
    assert [name for name in visible(tmp_path) if "-" not in name] == ["m.weights.json", "m_00000.weights.h5"]
