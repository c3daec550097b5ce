"""NASNetMobile and NASNetLarge."""

from types import SimpleNamespace

import keras
import pytest
from keras.src.applications import nasnet as theirs

import kstyle_torch as ks
from kstyle_torch.applications import nasnet
from tests.applications.smaller import assert_same_network, assert_same_published


@pytest.fixture
def on_any_backend(monkeypatch):
    """Keras refuses NASNetMobile on torch, where it runs as well."""
    backend = {**vars(theirs.backend), "backend": lambda: "numpy"}
    monkeypatch.setattr(theirs, "backend", SimpleNamespace(**backend))


@pytest.mark.full
def test_small_network(tmp_path, monkeypatch):
    monkeypatch.setattr(nasnet, "MOBILE", nasnet.MOBILE._replace(stem_filters=6, filters=8, repeats=1))
    arguments = {"weights": None, "input_shape": (32, 49, 3), "classes": 5, "classifier_activation": None}
    assert_same_network(
        tmp_path,
        lambda: ks.applications.NASNetMobile(**arguments),
        lambda: theirs.NASNet(
            penultimate_filters=24 * 8, num_blocks=1, stem_block_filters=6, skip_reduction=False, **arguments
        ),
    )


@pytest.mark.full
@pytest.mark.parametrize("name", ["NASNetMobile", "NASNetLarge"])
@pytest.mark.usefixtures("on_any_backend")
def test_variants(name, monkeypatch):
    """With a layer in place of each cell."""
    for kind in ("normal", "reduction"):
        _replace_cell(monkeypatch, kind)
    monkeypatch.setattr(nasnet, "_halve", lambda x, *_: x)
    monkeypatch.setattr(nasnet, "_project", lambda x, *_: x)
    assert_same_published(monkeypatch, name, input_shape=(64, 64, 3))


def _replace_cell(monkeypatch, kind):
    """Puts one layer in place of a cell: its name is the cell's, and its channels are the cell's filters."""

    def make_ours(x, before, filters, cell):
        return ks.layers.Conv2D(filters, 1, name=f"{kind}_{cell}_{before.shape[-1]}")(x)

    def make_theirs(x, before, filters, block_id):
        before = x if before is None else before
        return keras.layers.Conv2D(filters, 1, name=f"{kind}_{block_id}_{before.shape[-1]}")(x), x

    monkeypatch.setattr(nasnet, f"_{kind}_cell", make_ours)
    monkeypatch.setattr(theirs, f"_{kind}_a_cell", make_theirs)


@pytest.mark.full
def test_images_of_any_size(monkeypatch):
    """Half of the sizes go through, which Keras' do not."""
    size = {"stem_filters": 6, "filters": 8, "repeats": 1}
    monkeypatch.setattr(nasnet, "LARGE", nasnet.LARGE._replace(**size))
    model = ks.applications.NASNetLarge(weights=None, input_shape=(None, None, 3), include_top=False)
    assert model.output_shape == (None, None, None, 6 * 4 * 8)
    assert model(ks.ops.ones((1, 33, 65, 3))).shape == (1, 1, 2, 192)


def test_channels_first():
    ks.config.set_image_data_format("channels_first")
    with pytest.raises(ValueError, match="NASNet needs channels last"):
        ks.applications.NASNetMobile(weights=None)
