"""Models of every kind in files: classes of the user's, names of any kind, settings of other versions, killed saves."""

import json
import os
import random
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import layers, saving
from tests.oracle import array, assert_close, uniform

X = uniform(4, 5)


def classes(library):
    """A layer and a model of the user's, registered under one name in both libraries."""

    @library.saving.register_keras_serializable("tests")
    class Scaled(library.layers.Layer):
        def __init__(self, factor, **kwargs):
            super().__init__(**kwargs)
            self.factor, self.inner = factor, library.layers.Dense(3)

        def build(self, input_shape):
            self.inner.build(input_shape)
            self.shift = self.add_weight(shape=(3,), initializer="ones", name="shift")

        def call(self, x):
            return self.inner(x) * self.factor + self.shift

        def get_config(self):
            return {**super().get_config(), "factor": self.factor}

    @library.saving.register_keras_serializable("tests")
    class Pair(library.Model):
        def __init__(self, units, **kwargs):
            super().__init__(**kwargs)
            self.units = units
            self.first, self.second = library.layers.Dense(units, activation="relu"), Scaled(2.0)

        def call(self, x):
            return self.second(self.first(x))

        def get_config(self):
            return {**super().get_config(), "units": self.units}

    return Scaled, Pair


OURS, THEIRS = classes(ks), classes(keras)
BOTH_WAYS = [
    pytest.param(keras, ks, id="to-ours"),
    pytest.param(ks, keras, id="to-keras"),
    pytest.param(ks, ks, id="here"),
]


def assert_equal_outputs(model, other, x=X):
    with torch.no_grad():
        assert_close(array(model(x)), array(other(x)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("theirs", "ours"), BOTH_WAYS)
def test_classes_of_the_user(theirs, ours, tmp_path):
    scaled, pair = OURS if theirs is ks else THEIRS
    graph = theirs.Sequential([theirs.Input((5,)), scaled(3.0)])
    model = pair(7)
    model(X)
    model.compile("adam", "mse")
    model.train_on_batch(X.numpy(), np.ones((4, 3), "float32"))
    for each in (graph, model):
        each.save(tmp_path / "m.keras")
        again = ours.saving.load_model(tmp_path / "m.keras")
        assert_equal_outputs(again, each)
    assert int(again.optimizer.iterations) == 1


def test_a_class_that_is_not_known(tmp_path):
    class Mine(layers.Layer):
        def call(self, x):
            return x + 1

    model = ks.Sequential([ks.Input((5,)), Mine()])
    model.save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match=r"Unknown class 'Mine'.*custom_objects=\{'Mine': Mine\}.*register_keras_ser"):
        saving.load_model(tmp_path / "m.keras")
    assert_equal_outputs(saving.load_model(tmp_path / "m.keras", custom_objects={"Mine": Mine}), model)
    with saving.custom_object_scope({"Mine": Mine}):
        assert_equal_outputs(saving.load_model(tmp_path / "m.keras"), model)


NAMES = [
    "output",
    "input",
    "training",
    "class",
    "a.b",
    "x; import os",
    "层",
    "weights",
    "forward_",
    "0",
    "a b",
    "é{}'\"",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_any_kind(name, tmp_path):
    x = ks.Input((5,), name=f"{name}_in")
    y = layers.Dense(3, name=name)(x)
    model = ks.Model({f"{name}/key": x}, {f"{name}/a": layers.Dense(2, name=f"{name} 2")(y), "b": y * 2}, name=name)
    model.save(tmp_path / "m.keras")
    data = {f"{name}/key": X}
    for library in (ks,) if "." in name else (keras, ks):  # which Keras on torch refuses
        again = library.saving.load_model(tmp_path / "m.keras")
        assert again.name == name
        assert [layer.name for layer in again.layers] == [f"{name}_in", name, f"{name} 2"]
        with torch.no_grad():
            ours, theirs = model(data), again(data)
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert_close(array(theirs[key]), array(ours[key]), rtol=1e-6, atol=1e-6)
    assert again.get_layer(name) is not None


def edited(path, **settings):
    """Adds settings to the config of the file's Dense layer."""
    with zipfile.ZipFile(path) as file:
        members = {member: file.read(member) for member in file.namelist()}
    config = json.loads(members["config.json"])
    config["config"]["layers"][1]["config"].update(settings)
    with zipfile.ZipFile(path, "w") as file:
        for member, content in {**members, "config.json": json.dumps(config)}.items():
            file.writestr(member, content)


def test_settings_of_another_version(tmp_path, recwarn):
    path = tmp_path / "m.keras"
    model = ks.Sequential([ks.Input((5,)), layers.Dense(3)])
    model.save(path)
    edited(path, new_setting=None, another=False)
    assert_equal_outputs(saving.load_model(path), model)
    assert not recwarn
    edited(
        path,
        third={"a": 1},
        kernel_initializer={"module": "keras.initializers", "class_name": "HeNormal", "config": {"x": 2}},
    )
    with pytest.warns(UserWarning, match="Dense: the setting third") as noted:
        assert_equal_outputs(saving.load_model(path), model)
    assert any("HeNormal: the setting x=2" in str(each.message) for each in noted)
    with pytest.raises(ValueError, match="no argument 'third'"):
        layers.Dense.from_config({"units": 2, "third": 3})


def test_vocabularies(tmp_path):
    @saving.register_keras_serializable("tests")
    class Texts(ks.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.text, self.lookup = layers.TextVectorization(output_mode="tf_idf"), layers.StringLookup()
            self.dense = layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    model = Texts()
    model(X)
    model.text.adapt(["a b c", "a b", "中 文"])
    model.lookup.adapt(["x", "y", "x"])
    model.save(tmp_path / "m.keras")
    assert any(name.startswith("assets/") for name in zipfile.ZipFile(tmp_path / "m.keras").namelist())
    again = saving.load_model(tmp_path / "m.keras")
    assert again.text.get_vocabulary() == model.text.get_vocabulary()
    assert_close(array(again.text(["a 中"])), array(model.text(["a 中"])))
    assert again.lookup.get_vocabulary() == ["[UNK]", "x", "y"]


@pytest.mark.parametrize("library", [ks, keras], ids=["here", "keras"])
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "bfloat16", "float64"])
def test_policies(policy, library, tmp_path):
    ks.mixed_precision.set_global_policy(policy)
    try:
        model = ks.Sequential([ks.Input((5,)), layers.Dense(3), layers.Dense(2, dtype="float32")])
        model.save(tmp_path / "m.keras")
    finally:
        ks.mixed_precision.set_global_policy("float32")
    again = library.saving.load_model(tmp_path / "m.keras")
    assert again.layers[0].dtype_policy.name == policy
    assert_close(again.predict(X.numpy(), verbose=0), model.predict(X.numpy(), verbose=0), rtol=1e-2, atol=1e-2)


def test_a_bare_module_has_no_config(tmp_path):
    model = ks.Sequential([ks.Input((5,)), torch.nn.Linear(5, 2)])
    with pytest.raises(TypeError, match="bare torch module Linear"):
        model.save(tmp_path / "m.keras")
    assert not os.listdir(tmp_path)


# ------------------------------------------------------------------------------------------------------- killed saves

SAVES = """
import itertools, os, resource, signal, sys
import kstyle_torch as ks

OPERATIONS = {"open", "write", "truncate", "close", "chmod", "fsync", "rename", "replace", "unlink"}
model = ks.Sequential([ks.Input((100,)), ks.layers.Dense(100)])

def save(number):
    model.set_weights([w * 0 + number for w in model.get_weights()])
    model.save(sys.argv[1])

def at_operation(number):
    "Kills the process before its nth operation on files."
    count = itertools.count(1)
    def profile(frame, event, argument):
        if event == "c_call" and argument.__name__ in OPERATIONS and next(count) == number:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.setprofile(profile)

def at_size(size):
    "Kills the process when it writes beyond so many bytes."
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

def is_killed(number, moment, value):
    process = os.fork()
    if process == 0:
        moment(value)
        save(number)
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(process, 0)[1])

save(1)
sizes = [os.path.getsize(sys.argv[1]) * tenths // 10 for tenths in (0, 1, 5, 9)]
moments = [(at_size, size) for size in sizes] + [(at_operation, number) for number in range(1, 500)]
for number, moment in enumerate(moments, 2):
    killed = is_killed(number, *moment)
    model.load_weights(sys.argv[1])
    print(int(killed), number, *{float(value) for w in model.get_weights() for value in (w.min(), w.max())}, flush=True)
    if not killed:
        break
"""


@pytest.mark.full
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the saves are forked, to import torch only once")
def test_killed_at_any_moment(tmp_path):
    """Killed in the middle of the file and at each operation on files, the file is always a whole one."""
    command = [sys.executable, "-c", SAVES, str(tmp_path / "m.keras")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    saves = [[float(value) for value in line.split()] for line in run.stdout.splitlines()]
    assert [killed for killed, *_ in saves] == [1] * (len(saves) - 1) + [0]
    assert len(saves) > 20
    last = 1
    for killed, number, *values in saves:
        assert values in ([last], [number])  # the old file, or the new one
        last = values[0]
        assert killed or last == number


def test_loading_a_model_with_lora_draws_as_keras_does(tmp_path):
    """The numbers that the program draws afterwards are those of Keras."""

    def drawn_after(library):
        library.utils.set_random_seed(3)
        model = library.Sequential([library.Input((4,)), library.layers.Dense(3)])
        model.layers[0].enable_lora(2)
        model.save(tmp_path / "lora.keras")
        library.saving.load_model(tmp_path / "lora.keras")
        return random.random(), float(torch.rand(()))

    assert drawn_after(ks) == drawn_after(keras)


@pytest.mark.parametrize("functional", [False, True])
def test_layers_that_build_themselves_from_a_config(functional, tmp_path):
    """The example of Keras' guide, whose build() takes more than shapes."""

    class Built(layers.Layer):
        def __init__(self, units=3, **kwargs):
            super().__init__(**kwargs)
            self.units = units

        def build(self, input_shape, kernel):
            self.initializer = kernel
            self.kernel = self.add_weight(shape=(input_shape[-1], self.units), initializer=kernel)

        def call(self, inputs):
            return ks.ops.matmul(inputs, self.kernel)

        def get_config(self):
            return {"units": self.units, **super().get_config()}

        def get_build_config(self):
            return {"kernel": self.initializer, "input_shape": (None, 5)}

        def build_from_config(self, config):
            self.build(config["input_shape"], config["kernel"])

    layer = Built()
    layer.build((None, 5), kernel="he_normal")
    inputs = ks.Input((5,))
    model = ks.Model(inputs, layer(inputs)) if functional else ks.Sequential([inputs, layer])
    model.save(tmp_path / "m.keras")
    again = saving.load_model(tmp_path / "m.keras", custom_objects={"Built": Built})
    assert again.layers[-1].initializer == "he_normal"
    assert_equal_outputs(again, model)


def test_an_unbuilt_model_is_saved_with_a_warning(tmp_path):
    model = ks.Sequential([layers.Dense(2)])
    with pytest.warns(UserWarning, match="'sequential.*' is not built yet"):
        model.save(tmp_path / "m.keras")
    assert not saving.load_model(tmp_path / "m.keras").built
