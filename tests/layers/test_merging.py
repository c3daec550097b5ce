"""Masks through merging layers, and the functions of the same names."""

import keras
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import layers
from tests.oracle import array, assert_close, integers, uniform

NAMES = ["Add", "Average", "Maximum", "Minimum", "Multiply", "Subtract", "Concatenate"]


def merged(lib, name, masked, count=2):
    """A model that merges embeddings, masked or not; and those."""
    ids = [lib.Input((6,), dtype="int64") for _ in range(count)]
    tables = [
        lib.layers.Embedding(4, 3, mask_zero=mask, weights=array(uniform(4, 3, seed=seed)))
        for seed, mask in enumerate(masked)
    ]
    vectors = [table(x) for table, x in zip(tables, ids, strict=True)]
    return lib.Model(ids, getattr(lib.layers, name)()(vectors)), tables


@pytest.mark.parametrize("masked", [(True, True), (True, False), (False, True)], ids=["both", "first", "second"])
@pytest.mark.parametrize("name", NAMES)
def test_masked_values_and_mask_equal_keras(name, masked):
    (ours, tables), (theirs, _) = merged(ks, name, masked), merged(keras, name, masked)
    ids = [integers(5, 6, high=4, seed=seed) for seed in range(2)]
    mine, other = ours(ids), theirs(ids)
    assert_close(mine, other)
    masks = [getattr(y, "_keras_mask", None) for y in (mine, other)]
    assert (masks[0] is None) == (masks[1] is None)
    assert masks[0] is None or torch.equal(*masks)
    eager = getattr(layers, name)()([layer(x) for layer, x in zip(tables, ids, strict=True)])
    assert_close(eager, other)


@pytest.mark.parametrize("name", ["Maximum", "Multiply"])
def test_three_masks_equal_keras(name):
    masked = (True, False, True)
    (ours, _), (theirs, _) = merged(ks, name, masked, 3), merged(keras, name, masked, 3)
    ids = [integers(5, 6, high=4, seed=seed) for seed in range(3)]
    assert_close(ours(ids), theirs(ids))


@pytest.mark.parametrize("name", NAMES)
def test_function_equals_layer(name):
    xs = [uniform(2, 3, seed=seed) for seed in range(2)]
    assert_close(getattr(layers, name.lower())(xs), getattr(layers, name)()(xs))


def test_dot_function_equals_keras():
    xs = [uniform(2, 5, 3), uniform(2, 3, 7)]
    assert_close(layers.dot(xs, axes=(2, 1), normalize=True), keras.layers.dot(xs, axes=(2, 1), normalize=True))
    assert_close(layers.dot([xs[0]] * 2), keras.layers.dot([xs[0]] * 2))


@pytest.mark.parametrize("name", ["Add", "Multiply", "Average", "Maximum"])
def test_one_tensor_stays_as_it_is(name):
    x = uniform(2, 3)
    assert_close(getattr(layers, name)()([x]), getattr(keras.layers, name)()([x]))
