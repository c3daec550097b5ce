"""Questions for output shapes of layers and models that are not built: answered as Keras does, and nothing is built."""

import random

import keras
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import layers
from tests.oracle import uniform


def chain(library):
    return library.Sequential([library.layers.Dense(3), library.layers.Dropout(0.5), library.layers.Dense(2)])


SHAPES = {
    "dense": (lambda library: library.layers.Dense(3), (None, 5)),
    "convolution": (lambda library: library.layers.Conv2D(4, 3, strides=2), (None, 9, None, 3)),
    "recurrent": (lambda library: library.layers.LSTM(4, return_sequences=True), (None, None, 3)),
    "normalization": (lambda library: library.layers.BatchNormalization(), (None, 4)),
    "wrapper": (lambda library: library.layers.TimeDistributed(library.layers.Dense(2)), (None, 7, 3)),
    "sequential": (chain, (None, 5)),
}


@pytest.mark.parametrize(("make", "shape"), SHAPES.values(), ids=SHAPES)
def test_shapes_are_keras_and_nothing_is_built(make, shape):
    def answer(library):
        layer = make(library)
        found = layer.compute_output_shape(shape), layer.compute_output_spec(library.KerasTensor(shape)).shape
        return [*map(tuple, found)], layer.built, len(layer.weights)

    assert answer(ks) == answer(keras)


def test_names_and_random_numbers_are_left_alone():
    layer, before = layers.MultiHeadAttention(2, 3), (torch.get_rng_state(), random.getstate())
    name = layers.Dense(1).name
    spec = layer.compute_output_spec(layers.Input((4, 5)), layers.Input((4, 5)))
    assert spec.shape == (None, 4, 5) and not layer.built
    assert torch.equal(before[0], torch.get_rng_state()) and before[1] == random.getstate()
    assert int(layers.Dense(1).name.rpartition("_")[2]) == int(name.rpartition("_")[2] if "_" in name else 0) + 1


def test_a_layer_that_was_asked_is_built_later():
    layer = layers.Dense(3)
    layer.compute_output_shape((None, 7))
    assert layer(uniform(2, 5)).shape == (2, 3)


def test_a_layer_that_cannot_be_copied_is_built():
    class Own(layers.Layer):
        def __init__(self):
            super().__init__()
            self.rows = (row for row in range(3))  # which cannot be copied
            self.dense = layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    layer = Own()
    assert layer.compute_output_shape((None, 4)) == (None, 2)
    assert layer.built
