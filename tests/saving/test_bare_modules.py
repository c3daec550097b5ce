"""Torch modules in `.keras` files: their weights, and the name of a class that the reader has. No pickle."""

import zipfile

import numpy as np
import pytest
import torch
from torch import nn

import kstyle_torch as ks

X = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")


class Scaled(nn.Module):
    """A module with arguments, and with a buffer."""

    def __init__(self, units, scale=1.0):
        super().__init__()
        self.linear, self.norm, self.units, self.scale = nn.Linear(3, units), nn.BatchNorm1d(units), units, scale

    def get_config(self):
        return {"units": self.units, "scale": self.scale}

    def forward(self, x):
        return self.norm(self.linear(x)) * self.scale


class Plain(nn.Module):
    """A module without arguments."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x):
        return self.linear(x)


class Unsaid(nn.Module):
    """A module that does not say its arguments."""

    def __init__(self, units=2):
        super().__init__()
        self.linear = nn.Linear(3, units)

    def forward(self, x):
        return self.linear(x)


def sequential(module):
    return ks.Sequential([ks.Input((3,)), module, ks.layers.Dense(1)])


def functional(module):
    inputs = ks.Input((3,))
    return ks.Model(inputs, ks.layers.Dense(1)(ks.layers.TorchModule(module, name="body")(inputs)))


MODELS = {
    "sequential": sequential,
    "layer": lambda module: sequential(ks.layers.TorchModule(module)),
    "functional": functional,
    "from_torch": ks.from_torch,
}


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("module", [lambda: Scaled(4, scale=0.5), Plain], ids=["arguments", "plain"])
@pytest.mark.parametrize("registered", [False, True], ids=["custom_objects", "registered"])
def test_round_trip(make, module, registered, tmp_path, monkeypatch):
    module = module()
    cls = type(module)
    if registered:
        monkeypatch.setattr("kstyle_torch.serialization.CUSTOM_OBJECTS", table := {})
        monkeypatch.setattr("kstyle_torch.registry.CUSTOM_OBJECTS", table)
        monkeypatch.setattr("kstyle_torch.serialization.CUSTOM_NAMES", {})
        ks.saving.register_keras_serializable("tests")(cls)
    model = MODELS[make](module)
    model.compile("adam", "mse")
    model.fit(X, np.ones((8, *model(X).shape[1:])), verbose=0)
    model.save(path := tmp_path / "m.keras")
    assert not any(name.endswith((".pkl", ".pt", ".bin")) for name in zipfile.ZipFile(path).namelist())
    loaded = ks.saving.load_model(path, custom_objects=None if registered else {cls.__name__: cls})
    assert type(loaded) is type(model) and [*loaded.state_dict()] == [*model.state_dict()]
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))
    for ours, theirs in zip(loaded.state_dict().values(), model.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("make", MODELS)
def test_a_module_that_does_not_say_its_arguments(make, tmp_path):
    model = MODELS[make](Unsaid())
    with pytest.raises(TypeError, match=r"Unsaid cannot be part of a config.*get_config\(\)"):
        model.save(tmp_path / "m.keras")
    assert not [*tmp_path.iterdir()]
    with pytest.raises(ValueError, match="Cannot register Unsaid: a class needs a get_config"):
        ks.saving.register_keras_serializable("tests")(Unsaid)


def test_a_class_that_the_reader_does_not_have(tmp_path):
    sequential(Scaled(2)).save(path := tmp_path / "m.keras")
    with pytest.raises(ValueError, match=r"Unknown class 'Scaled'.*custom_objects=\{'Scaled': Scaled\}"):
        ks.saving.load_model(path)
    with pytest.raises(ValueError, match="a class of torch modules; got <function"):
        ks.saving.load_model(path, custom_objects={"Scaled": lambda **arguments: None})
