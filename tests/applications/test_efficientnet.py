"""EfficientNet and EfficientNetV2."""

import h5py
import keras
import numpy as np
import pytest
from keras.src.applications import efficientnet as theirs
from keras.src.applications import efficientnet_v2 as theirs_v2
from keras.src.legacy.saving import legacy_h5_format
from keras.src.utils import file_utils

import kstyle_torch as ks
from kstyle_torch.applications import _weights_file, efficientnet, efficientnet_v2
from tests.applications.smaller import assert_same_network, assert_same_published, randomize
from tests.choice import parameters


@pytest.mark.full
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_small_network(data_format, tmp_path, monkeypatch):
    ks.config.set_image_data_format(data_format)
    monkeypatch.setattr(keras.src.backend.config, "_IMAGE_DATA_FORMAT", data_format)
    scale = efficientnet.SCALES["b0"]._replace(width=0.3, depth=0.4)
    monkeypatch.setitem(efficientnet.SCALES, "b0", scale)
    shape = (33, 48, 3) if data_format == "channels_last" else (3, 33, 48)
    arguments = {"weights": None, "input_shape": shape, "classes": 5, "classifier_activation": None, "name": "small"}
    assert_same_network(
        tmp_path,
        lambda: efficientnet._variant("b0")(**arguments),
        lambda: theirs.EfficientNet(0.3, 0.4, 224, **arguments),
    )


@pytest.mark.full
def test_published_file(tmp_path, monkeypatch):
    """A file as Keras 2 wrote it, with weights alone; the network has a layer more than without it."""
    scale = efficientnet.SCALES["b0"]._replace(width=0.3, depth=0.4, image_size=40)
    monkeypatch.setitem(efficientnet.SCALES, "b0", scale)
    monkeypatch.setattr(_weights_file, "get_file", lambda *_, **__: path)
    monkeypatch.setattr(file_utils, "get_file", lambda *_, **__: path)
    path = str(tmp_path / "weights.h5")
    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "load_weights", lambda *_: None)
        network = theirs.EfficientNet(0.3, 0.4, 40, weights_name="b0")
    randomize(network)
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, network)
    images = np.random.default_rng(1).uniform(0, 255, (2, 40, 40, 3)).astype("float32")
    found, wanted = efficientnet._variant("b0")().predict(images, verbose=0), network.predict(images, verbose=0)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.full
@pytest.mark.parametrize(("key", "shape"), [("b0", (48, 33, 3)), ("b0", (3, 33, 48)), ("s", (48, 33, 1))])
def test_small_network_v2(key, shape, tmp_path, monkeypatch):
    if shape[0] == 3:
        ks.config.set_image_data_format("channels_first")
        monkeypatch.setattr(keras.src.backend.config, "_IMAGE_DATA_FORMAT", "channels_first")
    variant = efficientnet_v2.VARIANTS[key]._replace(width=0.3, depth=0.2)
    monkeypatch.setitem(efficientnet_v2.VARIANTS, key, variant)
    name = f"efficientnetv2-{key}"  # from which Keras takes the blocks
    arguments = {"weights": None, "input_shape": shape, "include_top": False, "pooling": "avg", "name": name}
    assert_same_network(
        tmp_path,
        lambda: efficientnet_v2._variant(key)(**arguments),
        lambda: theirs_v2.EfficientNetV2(0.3, 0.2, 224, **arguments),
    )


@pytest.mark.parametrize("name", parameters(efficientnet.__all__[:8], kind=lambda _: "any"))
def test_variants(name, monkeypatch):
    """Without their blocks, the arguments of which are compared."""
    blocks = {ks: [], keras: []}

    def record(x, activation, drop_rate, name, filters_in, filters_out, kernel_size, strides, expand_ratio, **rest):
        assert (activation, rest) == ("swish", {"id_skip": True, "se_ratio": 0.25})
        block = (name, filters_in, filters_out, expand_ratio, kernel_size, strides, 0.25, drop_rate, 0.99)
        blocks[keras].append(block)
        return x

    monkeypatch.setattr(theirs, "block", record)
    monkeypatch.setattr(efficientnet, "_apply", lambda x, block: blocks[ks].append(tuple(block)) or x)
    assert_same_published(monkeypatch, name)
    assert blocks[ks] == blocks[keras]
    assert len(blocks[ks]) >= 2 * 16  # with the top and without


@pytest.mark.parametrize("name", parameters(efficientnet_v2.__all__[:7], kind=lambda _: "any"))
def test_variants_v2(name, monkeypatch):
    """Without their blocks, the arguments of which are compared."""
    blocks = {ks: [], keras: []}

    def recorder(is_fused):
        def make(name, input_filters, output_filters, survival_probability, activation, bn_momentum, **rest):
            others = [rest[key] for key in ("expand_ratio", "kernel_size", "strides", "se_ratio")]
            block = (name, input_filters, output_filters, *others, survival_probability, bn_momentum)
            assert activation == "swish"
            blocks[keras].append((is_fused, *block))
            return lambda x: x

        return make

    for kind, is_fused in (("MBConvBlock", False), ("FusedMBConvBlock", True)):
        monkeypatch.setattr(theirs_v2, kind, recorder(is_fused))
    for kind, is_fused in (("_apply", False), ("_apply_fused", True)):
        record = lambda x, block, is_fused=is_fused: blocks[ks].append((is_fused, *block)) or x  # noqa: E731
        monkeypatch.setattr(efficientnet_v2, kind, record)
    assert_same_published(monkeypatch, name)
    assert blocks[ks] == blocks[keras]
    assert len(blocks[ks]) >= 2 * 21  # with the top and without


@pytest.mark.full
def test_any_name_of_the_model():
    """Keras finds the blocks by it."""
    model = ks.applications.EfficientNetV2B0(weights=None, include_top=False, include_preprocessing=False, name="mine")
    assert model.name == "mine"
    assert model.layers[1].name == "stem_conv"
