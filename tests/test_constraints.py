"""Constraints equal Keras'."""

import keras
import pytest

from kstyle_torch import constraints
from tests.oracle import assert_close, uniform

CASES = [
    ("MaxNorm", {}, (5, 4)),
    ("MaxNorm", {"max_value": 0.5, "axis": 1}, (5, 4)),
    ("MaxNorm", {"max_value": 0.5, "axis": [0, 1, 2]}, (3, 3, 2, 4)),
    ("NonNeg", {}, (5, 4)),
    ("UnitNorm", {}, (5, 4)),
    ("UnitNorm", {"axis": [0, 1, 2]}, (3, 3, 2, 4)),
    ("MinMaxNorm", {}, (5, 4)),
    ("MinMaxNorm", {"min_value": 0.5, "max_value": 0.9, "rate": 0.4, "axis": 1}, (5, 4)),
]


@pytest.mark.parametrize(("name", "arguments", "shape"), CASES, ids=str)
def test_equals_keras(name, arguments, shape):
    w = uniform(*shape, low=-2.0, high=2.0)
    assert_close(getattr(constraints, name)(**arguments)(w), getattr(keras.constraints, name)(**arguments)(w))


@pytest.mark.parametrize(("name", "arguments", "shape"), CASES, ids=str)
def test_config_goes_both_ways(name, arguments, shape):
    ours = getattr(constraints, name)(**arguments)
    theirs = keras.constraints.deserialize(constraints.serialize(ours))
    again = constraints.deserialize(keras.constraints.serialize(theirs))
    assert_close(again(uniform(*shape)), ours(uniform(*shape)))


@pytest.mark.parametrize("name", sorted(n for n in dir(keras.constraints) if n[0] != "_"))
def test_name_of_keras_exists(name):
    assert hasattr(constraints, name)


@pytest.mark.parametrize("name", ["max_norm", "non_neg", "unit_norm", "min_max_norm", "MaxNorm", "NonNeg"])
def test_string_of_keras_is_known(name):
    w = uniform(5, 4)
    assert_close(constraints.get(name)(w), keras.constraints.get(name)(w))


def test_unknown_name_suggests():
    with pytest.raises(ValueError, match="Did you mean .*'max_norm'"):
        constraints.get("max_nrom")
