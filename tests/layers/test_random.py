"""Noise by distribution, seeds, and the masks' shapes."""

import copy
import pickle

import keras
import pytest
import torch

from kstyle_torch.layers import (
    AlphaDropout,
    Dropout,
    GaussianDropout,
    GaussianNoise,
    SpatialDropout1D,
    SpatialDropout2D,
    SpatialDropout3D,
)
from tests.choice import parameters
from tests.oracle import assert_close


@pytest.mark.parametrize("arguments", [{}, {"seed": 3}, {"noise_shape": (None, 100)}], ids=str)
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_share_and_scale(rate, arguments):
    x = torch.ones(500, 100)
    y = Dropout(rate, **arguments)(x, training=True)
    dropped = float((y == 0).float().mean())
    assert abs(dropped - rate) < 0.01
    assert y.unique().tolist() == pytest.approx([0.0, 1 / (1 - rate)], rel=1e-6)


def test_rate_of_one_drops_all():
    assert not Dropout(1)(torch.ones(5, 5), training=True).any()


def test_inference_changes_nothing():
    x = torch.ones(5, 5)
    assert Dropout(0.5)(x) is x


def test_noise_shape_is_shared_along_ones():
    y = Dropout(0.5, noise_shape=(None, 1, 4))(torch.ones(20, 6, 4), training=True)
    assert (y == y[:, :1]).all() and not (y == y[:1]).all()


def test_seed_repeats_the_run_and_not_the_step():
    x = torch.ones(50, 20)
    first, second = Dropout(0.5, seed=3), Dropout(0.5, seed=3)
    a, b = first(x, training=True), first(x, training=True)
    assert torch.equal(a, second(x, training=True)) and torch.equal(b, second(x, training=True))
    assert not torch.equal(a, b)


def test_global_seed_repeats():
    x, layer = torch.ones(50, 20), Dropout(0.5)
    torch.manual_seed(5)
    first = layer(x, training=True)
    torch.manual_seed(5)
    assert torch.equal(first, layer(x, training=True))


def test_copy_draws_what_the_original_would():
    x, layer = torch.ones(50, 20), Dropout(0.5, seed=3)
    layer(x, training=True)
    twin = copy.deepcopy(layer)
    assert torch.equal(layer(x, training=True), twin(x, training=True))


# -------------------------------------------------------------------------------------------- the other noisy layers

SEEDED = {
    "dropout": lambda seed: Dropout(0.5, seed=seed),
    "spatial-1d": lambda seed: SpatialDropout1D(0.5, seed=seed),
    "gaussian-dropout": lambda seed: GaussianDropout(0.5, seed=seed),
    "gaussian-noise": lambda seed: GaussianNoise(0.5, seed=seed),
    "alpha": lambda seed: AlphaDropout(0.5, seed=seed),
}
seeded = pytest.mark.parametrize("make", SEEDED.values(), ids=SEEDED)
one_of_them = parameters(SEEDED.items(), lambda item: None, lambda item: item[0])  # the quick set compiles the first
X = torch.ones(40, 30, 20)


@seeded
def test_seeds_repeat_and_differ(make):
    layer, same, other = make(3), make(3), make(4)
    a, b = layer(X, training=True), layer(X, training=True)
    assert torch.equal(a, same(X, training=True)) and torch.equal(b, same(X, training=True))
    assert not torch.equal(a, b) and not torch.equal(a, other(X, training=True))
    torch.manual_seed(0)
    before = torch.get_rng_state()
    layer(X, training=True)
    assert torch.equal(torch.get_rng_state(), before)  # a seed leaves torch's own state alone


@seeded
@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))], ids=["copy", "pickle"]
)
def test_a_copy_goes_on_where_the_original_was(make, again):
    layer = make(3)
    layer(X, training=True)
    twin = again(layer)
    assert torch.equal(layer(X, training=True), twin(X, training=True))


@pytest.mark.parametrize(("name", "make"), one_of_them)
def test_seeded_compiled_equals_eager(name, make):
    layer = make(3)
    layer.build(X.shape)
    layer.train()
    twin = copy.deepcopy(layer)
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for _ in range(2):
        torch.testing.assert_close(compiled(X), twin(X))


@pytest.mark.parametrize(("name", "make"), one_of_them)
def test_unseeded_compiles_to_one_graph(name, make):
    layer = make(None)
    layer.build(X.shape)
    layer.train()
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert not torch.equal(compiled(X), compiled(X))


@seeded
def test_seeded_has_no_weights(make):
    layer = make(3)
    layer(X, training=True)
    assert layer.weights == [] and layer.state_dict() == {}


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_gaussian_dropout_has_mean_one(rate, seed):
    y = GaussianDropout(rate, seed=seed)(torch.full((500, 500), 2.0), training=True)
    stddev = 2 * (rate / (1 - rate)) ** 0.5
    assert float(y.mean()) == pytest.approx(2, abs=5 * stddev / 500)
    assert float(y.std()) == pytest.approx(stddev, rel=0.02)


@pytest.mark.parametrize("seed", [None, 3])
def test_gaussian_noise_is_normal(seed):
    y = GaussianNoise(0.5, seed=seed)(torch.zeros(500, 500), training=True) / 0.5
    for bound, share in [(0.0, 0.5), (1.0, 0.8413), (2.0, 0.9772), (-1.0, 0.1587)]:
        assert float((y < bound).float().mean()) == pytest.approx(share, abs=0.005)


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_alpha_dropout_keeps_mean_and_variance(rate, seed):
    torch.manual_seed(0)
    x = torch.randn(700, 700)
    y = AlphaDropout(rate, seed=seed)(x, training=True)
    assert float(y.mean()) == pytest.approx(float(x.mean()), abs=0.01)
    assert float(y.std()) == pytest.approx(1, abs=0.01)
    values, counts = y.unique(return_counts=True)
    assert float(counts.max()) / y.numel() == pytest.approx(rate, abs=0.005)  # what was dropped is one value
    assert_close(values[counts.argmax()], keras_dropped(rate))


def keras_dropped(rate):
    """The value that Keras' AlphaDropout gives to what it drops: the same whatever the input."""
    y = keras.layers.AlphaDropout(rate, seed=0)(torch.arange(1.0, 101.0), training=True)
    values, counts = y.unique(return_counts=True)
    return values[counts.argmax()]


def test_seeded_bits_are_even():
    drawn = torch.stack([Dropout(0.5, seed=seed)(torch.ones(64, 512), training=True) != 0 for seed in range(20)])
    share = drawn.float()
    assert float(share.mean()) == pytest.approx(0.5, abs=0.003)
    pairs = [(0, 1), (1, 1), (2, 1)]  # neighbours among seeds, rows and columns do not know of each other
    for axis, step in pairs:
        count = share.shape[axis] - step
        both = share.narrow(axis, 0, count) * share.narrow(axis, step, count)
        assert float(both.mean()) == pytest.approx(0.25, abs=0.004)


@pytest.mark.parametrize(
    ("layer", "shape", "axes"),
    [
        (SpatialDropout1D(0.5), (50, 6, 20), (1,)),
        (SpatialDropout2D(0.5), (50, 6, 5, 20), (1, 2)),
        (SpatialDropout2D(0.5, data_format="channels_first"), (50, 20, 6, 5), (2, 3)),
        (SpatialDropout3D(0.5, seed=3), (50, 3, 4, 5, 20), (1, 2, 3)),
    ],
    ids=["1d", "2d", "2d-first", "3d"],
)
def test_spatial_dropout_drops_whole_channels(layer, shape, axes):
    y = layer(torch.ones(shape), training=True)
    assert torch.equal(y.amax(axes), y.amin(axes))
    assert y.amax(axes).unique().tolist() == [0.0, 2.0]
    assert float((y == 0).float().mean()) == pytest.approx(0.5, abs=0.08)


def test_dropout_on_floats_of_half_the_size():
    y = Dropout(0.5, dtype="bfloat16")(torch.ones(50, 20, dtype=torch.bfloat16), training=True)
    assert y.dtype == torch.bfloat16 and y.unique().tolist() == [0.0, 2.0]
