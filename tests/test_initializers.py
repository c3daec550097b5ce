"""Initializers: Keras' names and arguments; equal numbers where nothing is drawn, equal distributions elsewhere."""

import copy
import math
import pickle

import keras
import numpy as np
import pytest
import torch

from kstyle_torch import initializers
from tests.oracle import array, assert_close

NAMES = sorted(name for name in dir(keras.initializers) if name[0] != "_")
SHAPE = (200, 300)

DETERMINISTIC = [
    ("Zeros", {}, (3, 4)),
    ("Ones", {}, (3, 4)),
    ("Constant", {"value": 2.5}, (3, 4)),
    ("Identity", {}, (4, 4)),
    ("Identity", {"gain": 2.0}, (3, 5)),
    ("STFT", {"side": "real"}, (8, 1, 5)),
    ("STFT", {"side": "imag", "window": None}, (8, 1, 5)),
    ("STFT", {"side": "imag", "window": "hamming", "scaling": "spectrum", "periodic": True}, (8, 1, 5)),
    ("STFT", {"side": "real", "window": "hann", "scaling": None}, (16, 1, 9)),
]
RANDOM = [
    ("RandomNormal", {"mean": 0.3, "stddev": 0.2}, SHAPE),
    ("TruncatedNormal", {"mean": 0.3, "stddev": 0.2}, SHAPE),
    ("RandomUniform", {"minval": -0.2, "maxval": 0.7}, SHAPE),
    *[(f"{family}{kind}", {}, SHAPE) for family in ("Glorot", "He", "Lecun") for kind in ("Normal", "Uniform")],
    *[(f"{family}{kind}", {}, (3, 3, 40, 200)) for family in ("Glorot", "He") for kind in ("Normal", "Uniform")],
    ("GlorotUniform", {}, (60_000,)),
    ("VarianceScaling", {"scale": 3.0, "mode": "fan_out", "distribution": "untruncated_normal"}, SHAPE),
    ("VarianceScaling", {"scale": 3.0, "mode": "fan_avg", "distribution": "uniform"}, SHAPE),
    ("VarianceScaling", {"scale": 3.0, "mode": "fan_in", "distribution": "truncated_normal"}, SHAPE),
    ("Orthogonal", {"gain": 1.5}, SHAPE),
]
WITH_CONFIG = RANDOM + [
    row for row in DETERMINISTIC if row[0] != "Identity"
]  # Keras' config of Identity lacks the gain


def ids(rows):
    """`GlorotNormal-200x300`, with the arguments."""
    return [f"{name}-{'x'.join(map(str, shape))}-{'-'.join(map(str, kw.values()))}" for name, kw, shape in rows]


@pytest.mark.parametrize("name", NAMES)
def test_name_of_keras_exists(name):
    assert hasattr(initializers, name)


@pytest.mark.parametrize("name", [n for n in NAMES if isinstance(getattr(keras.initializers, n), type)])
def test_string_of_keras_is_known(name):
    if name not in ("Initializer", "Constant", "constant"):  # Keras fails on "constant", a KeyError in its from_config
        assert type(initializers.get(name)).__name__ == type(keras.initializers.get(name)).__name__


@pytest.mark.parametrize(("name", "arguments", "shape"), DETERMINISTIC, ids=ids(DETERMINISTIC))
def test_equals_keras(name, arguments, shape):
    ours = getattr(initializers, name)(**arguments)
    theirs = getattr(keras.initializers, name)(**arguments)
    assert_close(ours(shape), theirs(shape), atol=5e-6)  # Keras takes sines of float32 angles
    assert ours(shape, dtype="float64").dtype == torch.float64


@pytest.mark.parametrize(("name", "arguments", "shape"), RANDOM, ids=ids(RANDOM))
def test_distribution_is_that_of_keras(name, arguments, shape):
    ours = array(getattr(initializers, name)(**arguments, seed=1)(shape))
    theirs = array(getattr(keras.initializers, name)(**arguments, seed=1)(shape))
    deviation = theirs.std()
    tolerance = 6 * deviation / math.sqrt(theirs.size)  # six standard errors
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    assert abs(ours.mean() - theirs.mean()) < 2 * tolerance
    assert abs(ours.std() - deviation) < 2 * tolerance
    quantiles = np.linspace(0.01, 0.99, 21)
    np.testing.assert_allclose(np.quantile(ours, quantiles), np.quantile(theirs, quantiles), atol=0.04 * deviation)
    if "Uniform" in name or "Truncated" in name or arguments.get("distribution", "untruncated") != "untruncated_normal":
        assert abs(ours.max() - theirs.max()) < 0.6 * deviation


@pytest.mark.parametrize(("name", "arguments", "shape"), RANDOM, ids=ids(RANDOM))
def test_seed_repeats_and_none_does_not(name, arguments, shape):
    cls = getattr(initializers, name)
    seeded, free = cls(**arguments, seed=5), cls(**arguments)
    assert torch.equal(seeded(shape), seeded(shape))
    assert torch.equal(seeded(shape), cls(**arguments, seed=5)(shape))
    assert not torch.equal(free(shape), free(shape))


@pytest.mark.parametrize(("name", "arguments", "shape"), WITH_CONFIG, ids=ids(WITH_CONFIG))
def test_config_goes_both_ways(name, arguments, shape):
    ours = getattr(initializers, name)(**arguments)
    theirs = keras.initializers.deserialize(initializers.serialize(ours))
    assert type(theirs).__name__ == name
    again = initializers.deserialize(keras.initializers.serialize(theirs))
    assert again.get_config() == ours.get_config()
    assert again.clone().get_config() == ours.get_config()


def test_torch_seed_makes_weights_repeatable():
    torch.manual_seed(3)
    first = initializers.GlorotUniform()((4, 4))
    torch.manual_seed(3)
    assert torch.equal(first, initializers.GlorotUniform()((4, 4)))


def test_orthogonal_is_orthogonal():
    for shape in ((6, 4), (4, 6), (3, 2, 4)):
        matrix = initializers.Orthogonal(gain=2.0)(shape).reshape(-1, shape[-1])
        small = matrix.T @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.T
        assert_close(small, 4 * torch.eye(len(small)), atol=1e-5)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_copies(copied):
    initializer = initializers.HeNormal(seed=4)
    assert torch.equal(copied(initializer)((3, 3)), initializer((3, 3)))


def test_array_is_its_own_initializer():
    values = np.arange(6.0).reshape(2, 3)
    assert_close(initializers.get(values)((2, 3)), values)


def test_unknown_name_suggests():
    with pytest.raises(ValueError, match="Did you mean 'glorot_uniform'"):
        initializers.get("glorot_unifrom")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: initializers.VarianceScaling(scale=-1.0), "scale must be positive"),
        (lambda: initializers.VarianceScaling(mode="fan"), "mode must be"),
        (lambda: initializers.VarianceScaling(distribution="cauchy"), "distribution must be"),
        (lambda: initializers.RandomNormal(seed="a"), "seed must be an int"),
        (lambda: initializers.Identity()((2, 3, 4)), "matrices only"),
        (lambda: initializers.Orthogonal()((2,)), "rank 2 or more"),
        (lambda: initializers.STFT(side="left"), "side must be"),
    ],
    ids=["scale", "mode", "distribution", "seed", "identity", "orthogonal", "stft"],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
