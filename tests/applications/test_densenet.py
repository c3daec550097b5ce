"""DenseNet121, DenseNet169 and DenseNet201."""

import keras
import pytest
from keras.src.applications import densenet as theirs

import kstyle_torch as ks
from kstyle_torch.applications import densenet
from tests.applications.smaller import assert_same_network, assert_same_published

SMALL = (2, 1, 3, 1)


def test_small_network(tmp_path, monkeypatch):
    monkeypatch.setitem(densenet.BLOCKS, "densenet121", SMALL)
    arguments = {"weights": None, "input_shape": (40, 32, 1), "classes": 7, "classifier_activation": None}
    assert_same_network(
        tmp_path,
        lambda: ks.applications.DenseNet121(**arguments, name="small"),
        lambda: theirs.DenseNet([*SMALL], **arguments, name="small"),
        suffix=".h5",
    )


@pytest.mark.full
@pytest.mark.parametrize("name", densenet.__all__[:3])
def test_variants(name, monkeypatch):
    """With a layer in place of each convolution of a block."""

    def grow(library):
        return lambda x, *_, name: library.layers.Conv2D(x.shape[-1] + densenet.GROWTH, 1, name=name)(x)

    monkeypatch.setattr(densenet, "_grow", lambda x, name: grow(ks)(x, name=name))
    monkeypatch.setattr(theirs, "conv_block", grow(keras))
    assert_same_published(monkeypatch, name)


def test_channels_first():
    ks.config.set_image_data_format("channels_first")
    with pytest.raises(ValueError, match="DenseNet needs channels last"):
        ks.applications.DenseNet121(weights=None)
