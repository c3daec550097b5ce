"""DenseNet121, DenseNet169 and DenseNet201."""

import inspect
import re

import pytest
from keras.src.applications import densenet as theirs

import kstyle_torch as ks
from kstyle_torch.applications import densenet
from tests.applications.smaller import assert_same_network

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


@pytest.mark.parametrize("variant", densenet.BLOCKS)
def test_variants(variant, monkeypatch):
    blocks = []
    monkeypatch.setattr(theirs, "DenseNet", lambda numbers, *_, name: blocks.append((tuple(numbers), name)))
    getattr(theirs, variant.replace("densenet", "DenseNet"))()
    assert blocks == [(densenet.BLOCKS[variant], variant)]
    for is_top, suffix in ((True, ""), (False, "_NO_TOP")):
        file = densenet.FILES[variant][is_top]
        assert file.origin + file.path == getattr(theirs, f"{variant.upper()}_WEIGHT_PATH{suffix}")


def test_digests():
    wanted = re.findall(r'file_hash="(\w+)"', inspect.getsource(theirs.DenseNet))
    assert wanted == [pair[is_top].digest for is_top in (True, False) for pair in densenet.FILES.values()]


def test_channels_first():
    ks.config.set_image_data_format("channels_first")
    with pytest.raises(ValueError, match="DenseNet needs channels last"):
        ks.applications.DenseNet121(weights=None)
