"""Freezing: what `trainable` means for a layer, for what is in it, and for BatchNormalization."""

import copy
import pickle

import keras
import pytest
import torch
from torch import nn

from kstyle_torch.layers import BatchNormalization, Dense, Layer
from tests.oracle import assert_close, uniform


class Tower(Layer):
    """Two layers and a bare module."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first, self.second, self.head = Dense(3), Dense(3), nn.Linear(3, 1)

    def call(self, x):
        return self.head(self.second(self.first(x)))


def built_tower(**kwargs):
    tower = Tower(**kwargs)
    tower(uniform(2, 3))
    return tower


def flags(layer):
    return [parameter.requires_grad for parameter in layer.parameters()]


def test_frozen_layer():
    layer = Dense(2)
    layer(uniform(2, 3))
    layer.trainable = False
    assert flags(layer) == [False, False]
    assert layer.trainable_weights == [] and len(layer.non_trainable_weights) == 2
    assert not layer(uniform(2, 3)).requires_grad
    layer.trainable = True
    assert flags(layer) == [True, True] and len(layer.trainable_weights) == 2


@pytest.mark.parametrize("make", [lambda: Dense(2, trainable=False), lambda: frozen(Dense(2))], ids=["argument", "set"])
def test_frozen_before_it_is_built(make):
    layer = make()
    layer(uniform(2, 3))
    assert flags(layer) == [False, False] and layer.trainable_weights == []


def frozen(layer):
    layer.trainable = False
    return layer


def test_frozen_parent_freezes_all_below():
    tower = frozen(built_tower())
    assert not any(flags(tower)) and tower.trainable_weights == []
    assert not tower.first.trainable and tower.first.trainable_weights == []
    tower.trainable = True
    assert all(flags(tower)) and len(tower.trainable_weights) == 6


def test_frozen_parent_freezes_children_that_are_built_later():
    tower = frozen(Tower())
    tower(uniform(2, 3))
    assert not any(flags(tower))


def test_thawing_leaves_frozen_what_was_frozen_below():
    tower = built_tower()
    tower.first.trainable = False
    tower.head.weight.requires_grad_(False)
    tower.trainable = False
    tower.trainable = True
    assert not any(flags(tower.first)) and not tower.first.trainable
    assert all(flags(tower.second)) and tower.head.bias.requires_grad
    assert not tower.head.weight.requires_grad
    assert len(tower.trainable_weights) == 3


def test_frozen_child_of_a_trainable_parent():
    tower = built_tower()
    tower.second.trainable = False
    assert len(tower.trainable_weights) == 4 and len(tower.non_trainable_weights) == 2


def test_weights_are_listed_as_in_keras():
    class KerasTower(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.first, self.second = keras.layers.Dense(3), keras.layers.BatchNormalization()

        def call(self, x):
            return self.second(self.first(x))

    class OurTower(Layer):
        def __init__(self):
            super().__init__()
            self.first, self.second = Dense(3), BatchNormalization()

        def call(self, x):
            return self.second(self.first(x))

    ours, theirs = OurTower(), KerasTower()
    for tower in (ours, theirs):
        tower(uniform(2, 3))
    for freeze in (lambda t: None, lambda t: frozen(t.first), lambda t: frozen(t)):
        freeze(ours), freeze(theirs)
        assert [w.name for w in ours.weights] == [w.name for w in theirs.weights]
        assert [w.name for w in ours.trainable_weights] == [w.name for w in theirs.trainable_weights]
        assert [w.name for w in ours.non_trainable_weights] == [w.name for w in theirs.non_trainable_weights]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_copies_keep_what_is_frozen(copied):
    tower = built_tower()
    tower.first.trainable = False
    twin = copied(tower)
    assert flags(twin) == flags(tower)
    twin.trainable = False
    twin.trainable = True
    assert flags(twin) == flags(tower)


def test_frozen_batch_norm_is_in_inference_mode():
    ours, theirs = BatchNormalization(momentum=0.5), keras.layers.BatchNormalization(momentum=0.5)
    x = uniform(8, 3, high=4.0)
    for layer in (ours, theirs):
        layer(x, training=True)
        layer.trainable = False
    before = ours.get_weights()
    assert_close(ours(x, training=True), theirs(x, training=True))
    assert all((a == b).all() for a, b in zip(before, ours.get_weights(), strict=True))
    for layer in (ours, theirs):
        layer.trainable = True
    assert_close(ours(x, training=True), theirs(x, training=True))
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        assert_close(mine, other)


def test_batch_norm_under_a_frozen_parent_is_in_inference_mode():
    class Wrap(Layer):
        def __init__(self):
            super().__init__()
            self.norm = BatchNormalization()

        def call(self, x):
            return self.norm(x)

    layer = Wrap()
    layer(uniform(8, 3))
    layer.trainable = False
    before = layer.get_weights()
    layer(uniform(8, 3), training=True)
    assert all((a == b).all() for a, b in zip(before, layer.get_weights(), strict=True))


def test_many_training_steps_of_batch_norm_equal_keras():
    ours, theirs = BatchNormalization(momentum=0.9), keras.layers.BatchNormalization(momentum=0.9)
    for step, rows in enumerate((8, 8, 3, 1)):
        x = uniform(rows, 3, low=-4.0, high=9.0, seed=step)
        # torch's kernel takes the mean off after scaling: where there is no variance, 32 times the rounding of x is left
        assert_close(ours(x, training=True), theirs(x, training=True), atol=1e-5)
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        assert_close(mine, other)
    assert_close(ours(x), theirs(x))


def test_half_precision_statistics_stay_float32():
    layer = BatchNormalization()
    layer(uniform(8, 3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layer(uniform(8, 3), training=True)
    assert layer.running_mean.dtype is torch.float32
