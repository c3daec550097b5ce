"""ConvNeXt."""

import keras
import numpy as np
import pytest
import torch
from keras.src.applications import convnext as theirs

import kstyle_torch as ks
from kstyle_torch.applications import convnext
from tests.applications.smaller import assert_same_network, assert_same_published, forget, randomize

DEPTHS, FILTERS = (1, 2, 1, 1), (8, 12, 16, 24)
ROWS = {
    "top": {"classes": 5},
    "pooled": {"include_top": False, "pooling": "avg", "include_preprocessing": False},
    "one channel": {"include_top": False, "input_shape": (64, 33, 1)},
}


@pytest.mark.parametrize("row", [pytest.param(row, marks=() if row == "top" else pytest.mark.full) for row in ROWS])
def test_small_network(row, tmp_path, monkeypatch):
    small = convnext.VARIANTS["Tiny"]._replace(depths=DEPTHS, filters=FILTERS)
    monkeypatch.setitem(convnext.VARIANTS, "Tiny", small)
    arguments = {"weights": None, "input_shape": (64, 33, 3), "name": "small", **ROWS[row]}
    assert_same_network(
        tmp_path,
        lambda: convnext._variant("Tiny")(**arguments),
        lambda: theirs.ConvNeXt([*DEPTHS], [*FILTERS], **arguments),
        suffix=".h5" if row == "top" else ".weights.h5",
    )


@pytest.mark.full
def test_whole_file(tmp_path):
    """Their additions are operations, not layers."""
    arguments = {"weights": None, "input_shape": (32, 32, 3), "classes": 5}
    network = theirs.ConvNeXt([1, 1, 1, 1], [*FILTERS], drop_path_rate=0.1, **arguments)
    randomize(network)
    network.save(tmp_path / "theirs.keras")
    found = ks.saving.load_model(tmp_path / "theirs.keras")
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    wanted = network.predict(images, verbose=0)
    np.testing.assert_allclose(found.predict(images, verbose=0), wanted, rtol=1e-5, atol=1e-6)
    found.save(tmp_path / "ours.keras")
    again = keras.saving.load_model(tmp_path / "ours.keras")
    np.testing.assert_allclose(again.predict(images, verbose=0), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.full
@pytest.mark.parametrize("name", convnext.__all__[:5])
def test_variants(name, monkeypatch):
    """With a layer in place of each block."""

    def make(projection_dim, drop_path_rate, layer_scale_init_value, name):
        assert (drop_path_rate, layer_scale_init_value) == (0, convnext.SCALE)
        return keras.layers.Conv2D(projection_dim, 1, name=name)

    monkeypatch.setattr(theirs, "ConvNeXtBlock", make)
    monkeypatch.setattr(convnext, "_block", lambda x, filters, name: ks.layers.Conv2D(filters, 1, name=name)(x))
    assert_same_published(monkeypatch, name)


def test_layers_of_a_file(tmp_path, monkeypatch):
    inputs = keras.Input((4,))
    x = theirs.StochasticDepth(0.5)(theirs.LayerScale(0.25, 4)(inputs))
    keras.Model(inputs, x).save(tmp_path / "theirs.keras")
    forget(monkeypatch, "convnext")
    found = ks.saving.load_model(tmp_path / "theirs.keras")
    x = np.ones((200, 4), "float32")
    assert torch.equal(found(x), torch.full((200, 4), 0.25))
    found.save(tmp_path / "ours.keras")
    assert keras.saving.load_model(tmp_path / "ours.keras").layers[-1].drop_path_rate == 0.5
    rows = found(x, training=True)
    assert {*rows.flatten().tolist()} == {0.0, 0.5}
    assert torch.equal(rows, rows[:, :1].expand_as(rows))  # whole samples
    assert 50 < torch.count_nonzero(rows[:, 0]) < 150


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_rates_at_the_ends(rate):
    layer = convnext.StochasticDepth(rate)
    assert torch.equal(layer(torch.ones(3, 2), training=True), torch.full((3, 2), 1 - rate))


def test_a_rate_that_is_none():
    with pytest.raises(ValueError, match="drop_path_rate must be from 0 to 1; got 2"):
        convnext.StochasticDepth(2)


def test_channels_first():
    ks.config.set_image_data_format("channels_first")
    with pytest.raises(ValueError, match="ConvNeXt needs channels last"):
        ks.applications.ConvNeXtTiny(weights=None)
