"""Regularizers equal Keras': values and gradients."""

import keras
import pytest

from kstyle_torch import regularizers
from tests.oracle import assert_close, uniform, value_and_grad

CASES = [
    ("L1", {}),
    ("L1", {"l1": 0.3}),
    ("L2", {}),
    ("L2", {"l2": 0.3}),
    ("L1L2", {}),
    ("L1L2", {"l1": 0.1, "l2": 0.3}),
    ("OrthogonalRegularizer", {}),
    ("OrthogonalRegularizer", {"factor": 0.5, "mode": "columns"}),
]


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=str)
def test_equals_keras(name, arguments):
    x = uniform(5, 4)
    ours = value_and_grad(getattr(regularizers, name)(**arguments), x)
    theirs = value_and_grad(getattr(keras.regularizers, name)(**arguments), x)
    assert_close(ours[0], theirs[0])
    assert_close(ours[1], theirs[1])


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=str)
def test_config_goes_both_ways(name, arguments):
    ours = getattr(regularizers, name)(**arguments)
    theirs = keras.regularizers.deserialize(regularizers.serialize(ours))
    again = regularizers.deserialize(keras.regularizers.serialize(theirs))
    assert_close(again(uniform(5, 4)), ours(uniform(5, 4)))


@pytest.mark.parametrize("name", sorted(n for n in dir(keras.regularizers) if n[0] != "_"))
def test_name_of_keras_exists(name):
    assert hasattr(regularizers, name)


@pytest.mark.parametrize("name", ["l1", "l2", "L1", "L2", "L1L2", "orthogonal_regularizer"])
def test_string_of_keras_is_known(name):
    x = uniform(5, 4)
    assert_close(regularizers.get(name)(x), keras.regularizers.get(name)(x))


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="l2 must be a finite number that is not negative; got -1"):
        regularizers.L2(-1)
    with pytest.raises(ValueError, match="mode must be"):
        regularizers.OrthogonalRegularizer(mode="diagonals")
    with pytest.raises(ValueError, match="needs a matrix"):
        regularizers.OrthogonalRegularizer()(uniform(2, 3, 4))
    with pytest.raises(ValueError, match="Did you mean 'l2'"):
        regularizers.get("l2_")
