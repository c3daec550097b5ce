"""InceptionV3 and InceptionResNetV2."""

import inspect
import re

import numpy as np
import pytest
import torch
from keras.src import applications as theirs

import kstyle_torch as ks
from kstyle_torch.applications import inception_resnet_v2, inception_v3
from tests.applications.smaller import assert_same_network, forget

MODULES = {"inception_v3": inception_v3, "inception_resnet_v2": inception_resnet_v2}


@pytest.mark.parametrize("name", MODULES)
def test_files(name):
    source = re.sub(r'"\s+"', "", inspect.getsource(getattr(theirs, name)))  # joins the parts of long strings
    files = MODULES[name].FILES
    assert re.findall(r'file_hash="(\w+)"', source) == [files[True].digest, files[False].digest]
    for file in files.values():
        folder, _, base = f"{file.origin}{file.path}".rpartition("/")
        assert f"{folder}/" in source and f'"{base}"' in source


@pytest.mark.full
def test_inception_v3(tmp_path, keras):
    arguments = {"weights": None, "input_shape": (75, 80, 3), "classes": 5, "classifier_activation": None}
    assert_same_network(
        tmp_path,
        lambda: ks.applications.InceptionV3(**arguments),
        lambda: keras.applications.InceptionV3(**arguments),
    )


@pytest.mark.full
def test_inception_resnet_v2(tmp_path, keras, monkeypatch):
    ks.config.set_image_data_format("channels_first")
    monkeypatch.setattr(keras.src.backend.config, "_IMAGE_DATA_FORMAT", "channels_first")
    arguments = {"weights": None, "input_shape": (3, 75, 75), "include_top": False, "pooling": "avg"}
    assert_same_network(
        tmp_path,
        lambda: ks.applications.InceptionResNetV2(**arguments),
        lambda: keras.applications.InceptionResNetV2(**arguments),
    )


def test_scale_layer_of_a_file(tmp_path, keras, monkeypatch):
    inputs = [keras.Input((2,)), keras.Input((2,))]
    layer = theirs.inception_resnet_v2.CustomScaleLayer(0.25)
    keras.Model(inputs, layer(inputs)).save(tmp_path / "theirs.keras")
    forget(monkeypatch, "inception_resnet_v2")
    found = ks.saving.load_model(tmp_path / "theirs.keras")
    x = np.ones((1, 2), "float32")
    assert torch.equal(found([x, x]), torch.full((1, 2), 1.25))
    found.save(tmp_path / "ours.keras")
    assert keras.saving.load_model(tmp_path / "ours.keras").layers[-1].scale == 0.25
