"""The public names: all of Keras', but those of other frameworks; and names of layers, inputs and outputs of any kind."""

import copy
import functools
import pickle

import keras
import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import layers
from tests.choice import parameters
from tests.oracle import assert_close, uniform

OTHER_FRAMEWORKS = {"TFSMLayer", "JaxLayer", "FlaxLayer"}


def test_every_layer_of_keras_is_here():
    theirs = {name for name in dir(keras.layers) if not name.startswith("_")} - OTHER_FRAMEWORKS
    assert theirs - {*layers.__all__} == set()


NAMES = ["x; import os", "output", "input", "training", "class", "a.b", "层", "weights", "forward"]


@pytest.mark.parametrize("name", parameters(NAMES, lambda name: None))
def test_names_of_any_kind(name, tmp_path):
    def network():
        x = ks.Input((3,), name=name)
        hidden = layers.Dense(4, name=f"{name}_1")(x)
        return ks.Model(x, {name: layers.Dense(2, name=f"{name}_2")(hidden)}, name=name)

    def chain():
        return ks.Sequential([ks.Input((3,)), layers.Dense(4, name=name)], name=name)

    for make, target in ((network, {name: uniform(2, 2)}), (chain, uniform(2, 4))):
        model, x = make(), uniform(2, 3)
        model.compile("sgd", "mse")
        model.fit(x, target, verbose=0)
        expected = model(x)
        again = make()
        model.save_weights(tmp_path / "w.safetensors")
        again.load_weights(tmp_path / "w.safetensors")
        rebuilt = type(model).from_config(model.get_config())
        rebuilt.set_weights(model.get_weights())
        copies = [again, rebuilt, copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
        copies.append(torch.export.export(model, (x,)).module())
        torch.compiler.reset()
        copies.append(torch.compile(model, fullgraph=True, backend="eager"))
        for other in copies:
            output = other(x)
            pairs = [(output, expected)] if make is chain else [(output[name], expected[name])]
            for mine, theirs in pairs:
                assert_close(mine, theirs)


def test_a_name_in_a_dict_of_data():
    a, b = ks.Input((3,), name="class"), ks.Input((3,), name="a.b")
    model = ks.Model([a, b], layers.Dense(1, name="return")(layers.Add()([a, b])))
    model.compile("sgd", {"return": "mse"})
    history = model.fit({"class": uniform(4, 3), "a.b": uniform(4, 3)}, {"return": uniform(4, 1)}, verbose=0)
    assert list(history.history) == ["loss"]


def paths(library):
    """Of the weights of models that are built in every way."""
    dense = functools.partial(library.layers.Dense, 2)

    class Own(library.Model):
        def __init__(self):
            super().__init__(name="own")
            self.first, self.rest = dense(name="first"), library.Sequential([dense(name="last")], name="rest")

        def call(self, x):
            return self.rest(self.first(x))

    class Block(library.layers.Layer):
        def __init__(self):
            super().__init__(name="block")
            self.inner, self.late = dense(name="inner"), dense(name="late")

        def build(self, input_shape):
            self.inner.build(input_shape)

        def call(self, x):
            return self.late(self.inner(x))

    inner = library.Sequential([library.Input((3,)), dense(name="a")], name="inner")
    later = library.Sequential([library.Sequential([dense(name="b")], name="within"), dense(name="c")], name="later")
    later.build((None, 3))
    x = library.Input((3,))
    graph = library.Model(x, Block()(dense(name="d")(inner(x))), name="graph")
    own = Own()
    own(np.ones((1, 3), "float32"))
    return [weight.path for model in (inner, later, graph, own) for weight in model.weights]


def test_paths_of_weights_are_keras():
    assert paths(ks) == paths(keras)
