"""Comparisons with Keras on smaller networks: fewer and narrower blocks, or other layers in place of the blocks."""

import math
import sys

import keras
import numpy as np
from keras.src.utils import file_utils

import kstyle_torch as ks
from kstyle_torch import serialization
from kstyle_torch.applications import _weights_file

INSIDE = ("module", "registered_name", "build_config", "shared_object_id", "build", "dtype")  # of configs of objects


def plain(value):
    """Returns a config without what is of the library; a list of one is its element, and constants of 0 are zeros."""
    if isinstance(value, dict) and value.get("config") == {"value": 0.0}:
        return {"class_name": "Zeros", "config": {}}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if key not in INSIDE}
    if isinstance(value, (list, tuple)):
        return plain(value[0]) if len(value) == 1 else [plain(item) for item in value]
    return value


def assert_same_layers(ours, theirs):
    """Both have the same layers in the same order, with the same weights; Keras reads our configs as its own."""
    pairs = [*zip(ours.layers, theirs.layers, strict=True)]
    assert [(type(mine).__name__, mine.name) for mine, _ in pairs] == [
        (type(its).__name__, its.name) for _, its in pairs
    ]
    for mine, its in pairs:
        weights = [
            [(weight.path.split("/")[-2:], tuple(weight.shape), weight.trainable) for weight in layer.weights]
            for layer in (mine, its)
        ]
        assert weights[0] == weights[1], mine.name
        assert tuple(mine.output.shape) == tuple(its.output.shape), mine.name
        if isinstance(its, keras.Sequential):
            assert_same_layers(mine, its)
            continue
        configs = [plain(type(its).from_config(layer.get_config()).get_config()) for layer in (mine, its)]
        assert configs[0] == configs[1], mine.name


def randomize(model):
    """Draws weights, and the statistics of normalizations, with which inputs still tell in the outputs of deep networks."""
    random = np.random.default_rng(0)
    for weight in model.weights:
        shape = weight.shape
        # of depthwise kernels, the channels do not count
        fan_in = math.prod(shape[:2] if len(shape) == 4 and shape[3] == 1 else shape[:-1])
        if weight.name in ("gamma", "variance", "moving_variance"):
            drawn = random.uniform(0.5, 1.5, shape)
        else:
            drawn = random.normal(0, (2.5 / fan_in) ** 0.5 if len(shape) > 1 else 0.1, shape)
        weight.assign(drawn.astype(weight.dtype))


def assert_same_network(folder, make_ours, make_theirs, suffix=".weights.h5"):
    """Both have the same layers; with weights that Keras drew and wrote to a file, they give the same outputs."""
    keras.utils.clear_session()
    ks.utils.clear_session()
    ours, theirs = make_ours(), make_theirs()
    assert_same_layers(ours, theirs)
    randomize(theirs)
    path = folder / f"network{suffix}"
    theirs.save(path) if suffix == ".h5" else theirs.save_weights(path)
    ours.load_weights(path)
    images = np.random.default_rng(1).uniform(0, 255, (2, *ours.input_shape[1:])).astype("float32")
    images[1] *= 0.1  # noise alone is much the same to a network
    found, wanted = ours.predict(images, verbose=0), theirs.predict(images, verbose=0)
    scale = np.abs(wanted).max()
    assert np.abs(wanted[0] - wanted[1]).max() > 1e-3 * scale > 0  # else any weights would agree
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 * scale)


def assert_same_published(monkeypatch, name, **without_top):
    """Both ask for the same files, and have the same layers.

    Args:
        without_top: Further arguments for `include_top=False`.
    """
    asked = {ks: [], keras: []}
    monkeypatch.setattr(_weights_file, "get_file", lambda *args, **kwargs: asked[ks].append((args, kwargs)))
    monkeypatch.setattr(file_utils, "get_file", lambda *args, **kwargs: asked[keras].append((args, kwargs)))
    for library in (ks, keras):
        monkeypatch.setattr(library.Model, "load_weights", lambda *args: None)
    make_ours, make_theirs = (getattr(library.applications, name) for library in (ks, keras))
    for arguments in ({}, {"include_top": False, "pooling": "max", **without_top}):
        keras.utils.clear_session()
        ks.utils.clear_session()
        with keras.device("meta"), ks.config.device_scope("meta"):
            assert_same_layers(make_ours(**arguments), make_theirs(**arguments))
    assert len(asked[ks]) == 2
    assert asked[ks] == asked[keras]


def forget(monkeypatch, name):
    """Brings a module of `applications` into the state before it was imported."""
    monkeypatch.setattr(ks.applications, name, getattr(ks.applications, name))  # to be put back
    monkeypatch.delitem(sys.modules, f"kstyle_torch.applications.{name}")
    monkeypatch.delitem(serialization.REGISTRIES, f"keras.src.applications.{name}")
