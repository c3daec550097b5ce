"""Keys of `state_dict()`: clones, copies and loaded models have those of their source."""

import copy

import keras
import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import layers
from kstyle_torch.models import clone_model
from kstyle_torch.saving import load_model, register_keras_serializable


@register_keras_serializable("keys")
class Block(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first, self.others = layers.Dense(4), [layers.Dense(4, name="dense_90"), layers.Dense(4)]

    def call(self, x):
        x = self.first(x)
        for other in self.others:
            x = other(x)
        return x


def functional():
    x = ks.Input((4,))
    named, alike = layers.Dense(3, name="named")(x), layers.Dense(3, name="dense_70")(x)
    y = layers.BatchNormalization()(layers.add([named, alike, layers.Dense(3)(x)]))
    return ks.Model(x, layers.Dense(2)(y))


def sequential():
    inside = [layers.Dense(4), layers.Dense(4, name="dense"), layers.Dense(4, name="x"), Block()]
    return ks.Sequential([ks.Input((4,)), *inside, functional()])


def nested():
    x = ks.Input((4,))
    return ks.Model(x, layers.Dense(2)(layers.concatenate([functional()(x), sequential()(x)])))


def from_file(suffix):
    def load(model, path):
        model.save(path / f"model{suffix}")
        return load_model(path / f"model{suffix}")

    return load


WAYS = {
    "clone": lambda model, path: clone_model(model),
    "clone of a clone": lambda model, path: clone_model(clone_model(model)),
    "clone_function": lambda model, path: clone_model(
        model, clone_function=lambda layer: type(layer).from_config(layer.get_config())
    ),
    "from_config": lambda model, path: type(model).from_config(model.get_config()),
    "json": lambda model, path: ks.models.model_from_json(model.to_json()),
    ".keras": from_file(".keras"),
    ".h5": from_file(".h5"),
    "deepcopy": lambda model, path: copy.deepcopy(model),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", [functional, sequential, nested])
def test_copies_have_the_keys_of_their_source(make, way, tmp_path):
    for _ in range(3):
        layers.Dense(1)  # so that the automatic names of the model are numbered
    model = make()
    other = WAYS[way](model, tmp_path)
    assert [*other.state_dict()] == [*model.state_dict()]
    other.load_state_dict(model.state_dict())
    x = torch.ones(2, 4)
    torch.testing.assert_close(other(x), model(x))


def test_keras_opens_files_with_names_like_its_own(tmp_path):
    model = ks.Sequential([ks.Input((4,)), layers.Dense(3, name="dense_5"), layers.Dense(2, name="dense")])
    model.save(tmp_path / "model.keras")
    x = np.ones((2, 4), "float32")
    theirs = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(theirs.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5)
