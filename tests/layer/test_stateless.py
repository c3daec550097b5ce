"""Calls with other values in the place of the variables, and the state of random numbers among these."""

import keras
import numpy as np
import pytest
import torch

import kstyle_torch as ks
from tests.choice import parameters
from tests.layers.layer_cases import CASES
from tests.oracle import array, uniform


def own_generator(library):
    class Drops(library.layers.Layer):
        def __init__(self):
            super().__init__()
            self.dense = library.layers.Dense(40)
            self.source = library.random.SeedGenerator(3)
            self.more = {"a": [library.random.SeedGenerator(4)]}

        def build(self, shape):
            self.scale = self.add_weight(shape=(40,), initializer="ones", trainable=False, name="scale")
            self.dense.build(shape)

        def call(self, x, training=False):
            if not training:
                return x
            x = library.random.dropout(x * self.scale, 0.5, seed=self.source)
            return library.random.dropout(x, 0.5, seed=self.more["a"][0])

    return Drops()


def nested(library):
    layers = library.layers
    return library.Sequential(
        [own_generator(library), layers.Dropout(0.5, seed=1), layers.Dropout(0.0), layers.BatchNormalization()]
    )


# Keras' torch backend draws dropout without a seed from torch's random state, so that its calls are not pure.
LAYERS = {
    "own-generator": own_generator,
    "nested": nested,
    "dropout-seed": lambda library: library.layers.Dropout(0.5, seed=1),
    "gaussian-dropout": lambda library: library.layers.GaussianDropout(0.5),
    "alpha-dropout": lambda library: library.layers.AlphaDropout(0.5),
    "noise": lambda library: library.layers.GaussianNoise(1.0),
    "no-noise": lambda library: library.layers.GaussianNoise(0.0),
    "no-dropout": lambda library: library.layers.Dropout(0.0),
}


def facts(library, make, x=None):
    """Returns what can be observed of repeated calls: names of variables, and what changes and what does not."""
    layer, x = make(library), uniform(2, 40) if x is None else x
    layer(x)
    given = [[v.value for v in kind] for kind in (layer.trainable_variables, layer.non_trainable_variables)]
    kept = [array(variable).copy() for variable in layer.variables]
    first, second = (layer.stateless_call(*given, x, training=True) for _ in range(2))
    later = layer.stateless_call(given[0], first[1], x, training=True)
    quiet = layer.stateless_call(*given, x, training=False)
    return {
        "names": [[v.name for v in kind] for kind in (layer.weights, layer.variables, layer.non_trainable_variables)],
        "same": np.array_equal(array(first[0]), array(second[0])),
        "later differs": not np.array_equal(array(first[0]), array(later[0])),
        "moved": [not np.array_equal(array(old), array(new)) for old, new in zip(given[1], first[1], strict=True)],
        "moved in inference": [
            not np.array_equal(array(old), array(new)) for old, new in zip(given[1], quiet[1], strict=True)
        ],
        "kept": all(np.array_equal(old, array(new)) for old, new in zip(kept, layer.variables, strict=True)),
    }


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_stateless_calls_equal_keras(make):
    assert facts(ks, make) == facts(keras, make)


@pytest.mark.parametrize(
    "make", [*LAYERS.values(), lambda library: library.layers.Dropout(0.5)], ids=[*LAYERS, "dropout"]
)
def test_stateless_calls_are_pure(make):
    found = facts(ks, make)
    assert found["same"] and found["kept"]


def test_a_stateless_call_leaves_hidden_state_and_torchs_random_numbers_alone():
    class Counts(ks.layers.Layer):
        def __init__(self):
            super().__init__()
            self.drop, self.mean = ks.layers.Dropout(0.5), ks.metrics.Mean()
            self.register_buffer("calls", torch.zeros(()), persistent=False)

        def call(self, x):
            self.calls.add_(1)
            self.mean.update_state(x)
            return self.drop(x, training=True)

    layer, x = Counts(), uniform(2, 40)
    layer(x)
    before = torch.get_rng_state(), float(layer.calls), array(layer.mean.variables[0])
    layer.stateless_call([], layer.non_trainable_variables, x)
    after = torch.get_rng_state(), float(layer.calls), array(layer.mean.variables[0])
    assert torch.equal(before[0], after[0]) and before[1:] == after[1:]


def test_seed_states_are_variables_but_no_weights():
    layer = ks.Sequential([ks.Input((40,)), own_generator(ks), ks.layers.Dropout(0.5), ks.layers.Dropout(0.5, seed=1)])
    state = torch.get_rng_state()
    assert len(layer.variables) == len(layer.weights) + 4
    assert len(layer.get_weights()) == len(layer.state_dict()) == len(layer.weights)
    assert torch.equal(state, torch.get_rng_state())
    assert len({variable.path for variable in layer.variables}) == len(layer.variables)
    layer.set_state_tree(layer.get_state_tree())


# ------------------------------------------------------------------------------------- all layers that draw from torch

SEQUENCES, IMAGES = uniform(2, 6, 8), uniform(3, 12, 12, 3, low=0.0, high=255.0)


def made(name, *args, **kwargs):
    return lambda library: getattr(library.layers, name)(*args, **kwargs)


def around(name, **kwargs):
    """A layer that goes over sequences with a cell."""
    return lambda library: library.layers.RNN([getattr(library.layers, name)(4, **kwargs) for _ in range(2)])


def both_ways(library):
    return library.layers.Bidirectional(library.layers.LSTM(4, dropout=0.5, recurrent_dropout=0.5, seed=1))


RECURRENT = {
    "lstm": made("LSTM", 8, dropout=0.5),
    "lstm-seed": made("LSTM", 8, dropout=0.5, recurrent_dropout=0.5, seed=1),
    "gru": made("GRU", 8, recurrent_dropout=0.5),
    "gru-seed": made("GRU", 8, dropout=0.5, seed=1),
    "simple": made("SimpleRNN", 8, dropout=0.5),
    "no-dropout": made("LSTM", 8),
    "cells": around("GRUCell", dropout=0.5, seed=1),
    "both-ways": both_ways,
}
ARGUMENTS = {
    "RandomBrightness": {"factor": 0.5},
    "RandomColorDegeneration": {"factor": 0.5},
    "RandomColorJitter": {"brightness_factor": 0.5, "contrast_factor": 0.5},
    "RandomContrast": {"factor": 0.5},
    "RandomCrop": {"height": 4, "width": 4},
    "RandomElasticTransform": {"factor": 1.0},
    "RandomErasing": {"factor": 1.0},
    "RandomGaussianBlur": {"factor": 1.0},
    "RandomGrayscale": {"factor": 0.5},
    "RandomHue": {"factor": 0.5},
    "RandomInvert": {"factor": 0.5},
    "RandomPerspective": {"factor": 1.0},
    "RandomPosterization": {"factor": 4},
    "RandomRotation": {"factor": 0.5},
    "RandomSaturation": {"factor": 0.5},
    "RandomSharpness": {"factor": 0.5},
    "RandomShear": {"x_factor": 0.5, "y_factor": 0.5},
    "RandomTranslation": {"height_factor": 0.3, "width_factor": 0.3},
    "RandomZoom": {"height_factor": 0.5},
    "Solarization": {"addition_factor": 0.5},
}
IMAGE_LAYERS = [*ARGUMENTS, "RandomFlip", "CutMix", "MixUp", "RandAugment", "AugMix"]
DRAWING = [
    *((f"recurrent-{name}", make, SEQUENCES) for name, make in RECURRENT.items()),
    *(
        (f"image-{name}-{seed}", made(name, seed=seed, **ARGUMENTS.get(name, {})), IMAGES)
        for name in IMAGE_LAYERS
        for seed in (None, 1)
    ),
]
DRAWS_NOTHING_NEW = ("recurrent-no-dropout",)
per_drawing = pytest.mark.parametrize(
    ("name", "make", "x"), parameters(DRAWING, lambda row: row[0].split("-")[0], lambda row: row[0])
)


@per_drawing
def test_layers_that_draw_from_torch_have_keras_variables_and_are_pure(name, make, x):
    wanted = facts(keras, make, x)
    torch.manual_seed(0)  # which unseeded layers start from
    found = facts(ks, make, x)
    assert found["names"] == wanted["names"]
    assert found["same"] and found["kept"]
    assert found["later differs"] is (name not in DRAWS_NOTHING_NEW)
    assert any(found["moved"]) is (name not in DRAWS_NOTHING_NEW)


def test_every_random_image_layer_is_there():
    image = {case.layer for case in CASES if hasattr(getattr(ks.layers, case.layer), "get_random_transformation")}
    seeded = {name for name in image if "seed" in ks.layers.__dict__[name].__init__.__code__.co_varnames}
    assert seeded == {*IMAGE_LAYERS}


def test_a_stateless_call_leaves_generators_and_kept_masks_alone():
    cell = ks.layers.LSTMCell(4, dropout=0.5, seed=1)
    x, states = uniform(2, 3), [torch.zeros(2, 4)] * 2
    kept, _ = cell(x, states, training=True)
    before = cell._generator.get_state()
    given = [variable.value for variable in cell.trainable_variables], [v.value for v in cell.non_trainable_variables]
    (other, _), _ = cell.stateless_call(*given, x, states, training=True)
    assert not torch.equal(other, kept)
    assert torch.equal(before, cell._generator.get_state())
    assert torch.equal(cell(x, states, training=True)[0], kept)
