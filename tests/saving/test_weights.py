"""Weights alone: shards, what does not fit, subclassed models, by path."""

import json
import os

import keras
import numpy as np
import pytest

import kstyle_torch as ks
from tests.oracle import assert_close, uniform

X = uniform(4, 5)


def towers(library):
    """A subclassed model with layers in attributes, lists, dicts and in one another, as Keras walks them."""

    class Block(library.layers.Layer):
        def __init__(self, units, **kwargs):
            super().__init__(**kwargs)
            self.inner = library.layers.Dense(units)
            self.norms = [library.layers.LayerNormalization(), library.layers.BatchNormalization()]

        def build(self, input_shape):
            self.scale = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="scale")
            self.inner.build(input_shape)
            for norm in self.norms:
                norm.build((input_shape[0], self.inner.units))

        def call(self, x):
            x = self.inner(x * self.scale)
            for norm in self.norms:
                x = norm(x)
            return x

    class Towers(library.Model):
        def __init__(self):
            super().__init__()
            self.first = library.layers.Dense(6)
            self.blocks = [Block(6), Block(7)]
            self.heads = {"a": library.layers.Dense(2), "b": library.layers.Dense(3)}
            self._last = library.layers.Dense(1)

        def call(self, x):
            x = self.first(x)
            for block in self.blocks:
                x = block(x)
            return self.heads["a"](x), self._last(self.heads["b"](x))

    model = Towers()
    model(X)
    return model


@pytest.mark.parametrize(
    ("theirs", "ours"), [pytest.param(keras, ks, id="to-ours"), pytest.param(ks, keras, id="to-keras")]
)
@pytest.mark.parametrize("shards", [None, 3e-7])
def test_subclassed_models_load_by_path(theirs, ours, shards, tmp_path):
    model, again = towers(theirs), towers(ours)
    path = tmp_path / ("m.weights.h5" if shards is None else "m.weights.json")
    model.save_weights(path, max_shard_size=shards)
    if shards:
        assert len(os.listdir(tmp_path)) > 2
    again.load_weights(path)
    for mine, other in zip(again(X), model(X), strict=True):
        assert_close(mine, other)


def test_shards_must_lie_beside_the_table(tmp_path):
    model = towers(ks)
    model.save_weights(tmp_path / "m.weights.json", max_shard_size=1)
    table = json.loads((tmp_path / "m.weights.json").read_text())
    for name in ("../m_00000.weights.h5", "/etc/passwd", "missing.weights.h5"):
        hostile = {**table, "weight_map": {"/vars": [name]}}
        (tmp_path / "m.weights.json").write_text(json.dumps(hostile))
        with pytest.raises(ValueError, match="is not in its folder"):
            model.load_weights(tmp_path / "m.weights.json")
    with pytest.raises(ValueError, match="go together"):
        model.save_weights(tmp_path / "m.weights.h5", max_shard_size=1)


@pytest.mark.parametrize("suffix", [".weights.h5", ".safetensors", ".pt", ".keras"])
def test_what_does_not_fit(suffix, tmp_path):
    def network(units):
        layers = [ks.layers.Dense(4, name="same"), ks.layers.Dense(units, name="other")]
        return ks.Sequential([ks.Input((3,)), *layers])

    model, other = network(2), network(5)
    (model.save if suffix == ".keras" else model.save_weights)(tmp_path / f"m{suffix}")
    before = other.get_weights()
    with pytest.raises(ValueError, match="fit"):
        other.load_weights(tmp_path / f"m{suffix}")
    assert all(np.array_equal(a, b) for a, b in zip(before, other.get_weights(), strict=True))
    with pytest.warns(UserWarning, match="are not loaded"):
        other.load_weights(tmp_path / f"m{suffix}", skip_mismatch=True)
    assert np.array_equal(other.get_weights()[0], model.get_weights()[0])
    assert np.array_equal(other.get_weights()[2], before[2])


def test_a_model_that_is_not_built(tmp_path):
    with pytest.raises(ValueError, match="no weights yet"):
        ks.Sequential([ks.layers.Dense(2)]).save_weights(tmp_path / "m.weights.h5")


def test_weights_of_a_layer_that_is_not_built_are_refused(tmp_path):
    """The layer has no variables at either of its two paths, and the file has some at one of them alone."""
    model = ks.Sequential([ks.Input((3,)), ks.layers.Dense(2), ks.layers.Dense(1)])
    model.save_weights(tmp_path / "w.weights.h5")
    other = ks.Sequential([ks.layers.Dense(2), ks.layers.Dense(1)])
    other.layers[0].build((None, 3))
    other.built = True
    with pytest.raises(ValueError, match=r"0 variables \[\], but the file has 2"):
        other.load_weights(tmp_path / "w.weights.h5")
