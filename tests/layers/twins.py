"""The same layer or model here and in Keras."""

import keras

import kstyle_torch
from tests.oracle import array, assert_close, uniform


def twins(make, *args, **kwargs):
    """`make(library)` here and in Keras, called once and given equal weights."""
    ours, theirs = make(kstyle_torch), make(keras)
    ours(*args, **kwargs)
    theirs(*args, **kwargs)
    weights = [array(uniform(*w.shape, low=-0.8, high=0.8, seed=i)) for i, w in enumerate(theirs.get_weights())]
    ours.set_weights(weights)
    theirs.set_weights(weights)
    return ours, theirs


def assert_equal_outputs(ours, theirs):
    ours, theirs = (list(y) if isinstance(y, (list, tuple)) else [y] for y in (ours, theirs))
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert_close(mine, other)
