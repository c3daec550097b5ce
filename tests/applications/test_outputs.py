"""Outputs of the architectures with weights that Keras wrote to files."""

import numpy as np
import pytest
from keras.src.applications import resnet as their_resnet

import kstyle_torch as ks
from kstyle_torch import config
from kstyle_torch.applications import _resnet
from tests.applications.networks import assert_same_outputs

# File, architecture, images, arguments.
ROWS = {
    "MobileNet": ("m.weights.h5", "MobileNet", (32, 32, 3), {"alpha": 0.25, "include_top": False, "pooling": "avg"}),
    "MobileNet, older": (
        "m.h5",
        "MobileNet",
        (33, 47, 3),
        {"alpha": 0.25, "classes": 7, "classifier_activation": None},
    ),
    "VGG16": ("m.h5", "VGG16", (32, 32, 3), {"include_top": False, "pooling": "max", "dtype": "float32"}),
    "MobileNetV2": ("m.h5", "MobileNetV2", (45, 32, 3), {"alpha": 0.35, "include_top": False}),
    "MobileNetV3Small": ("m.h5", "MobileNetV3Small", (32, 45, 3), {"classes": 9, "classifier_activation": None}),
    "MobileNetV3Large": ("m.weights.h5", "MobileNetV3Large", (32, 32, 3), {"minimalistic": True, "include_top": False}),
    "Xception": ("m.h5", "Xception", (71, 71, 3), {"include_top": False, "pooling": "avg", "dtype": "float32"}),
}


@pytest.mark.parametrize(
    ("file", "architecture", "shape", "arguments"),
    [pytest.param(*row, id=name, marks=pytest.mark.full if name != "MobileNet" else ()) for name, row in ROWS.items()],
)
def test_same_outputs(file, architecture, shape, arguments, tmp_path):
    assert_same_outputs(tmp_path / file, architecture, shape, **arguments)


@pytest.mark.full
@pytest.mark.parametrize("version", ["", "v2"])
def test_same_outputs_of_small_residual_networks(version, monkeypatch, tmp_path):
    """The usual blocks, two a stage, and an eighth of the filters."""
    filters, depths = (8, 16, 32, 64), (2, 2, 2, 2)
    monkeypatch.setattr(_resnet, "FILTERS", filters)

    def stages(x):
        stack = their_resnet.stack_residual_blocks_v2 if version else their_resnet.stack_residual_blocks_v1
        without = 5 if version else 2  # a stage without a stride
        for stage, (each, depth) in enumerate(zip(filters, depths), 2):
            x = stack(x, each, depth, stride1=1 if stage == without else 2, name=f"conv{stage}")
        return x

    def theirs(name="small", **arguments):
        return their_resnet.ResNet(stages, bool(version), True, name=name, weights_name="resnet50", **arguments)

    def ours(**arguments):
        monkeypatch.setattr(module, "DEPTHS", {50: depths})
        return architecture(**arguments)

    module = ks.applications.resnet_v2 if version else ks.applications.resnet
    architecture = ks.applications.ResNet50V2 if version else ks.applications.ResNet50
    monkeypatch.setattr(f"keras.applications.{architecture.__name__}", theirs)
    monkeypatch.setattr(ks.applications, architecture.__name__, ours)
    arguments = {"include_top": False, "pooling": "avg"}
    assert_same_outputs(tmp_path / "m.h5", architecture.__name__, (37, 64, 3), **arguments)


@pytest.mark.full
def test_same_outputs_with_channels_first(keras, tmp_path):
    config.set_image_data_format("channels_first")
    keras.config.set_image_data_format("channels_first")
    try:
        arguments = {"alpha": 0.5, "include_top": False, "pooling": "max"}
        assert_same_outputs(tmp_path / "m.h5", "MobileNetV3Small", (3, 40, 32), **arguments)
    finally:
        keras.config.set_image_data_format("channels_last")


@pytest.mark.full
def test_files_go_back_to_keras(keras, tmp_path):
    """MobileNetV3 has operations between its layers, which are in the file too."""
    ours, _, images = assert_same_outputs(tmp_path / "m.h5", "MobileNetV3Small", (32, 32, 3), include_top=False)
    ours.save(tmp_path / "m.keras")
    wanted = ours.predict(images, verbose=0)
    for library in (keras, ks):
        found = library.models.load_model(tmp_path / "m.keras").predict(images, verbose=0)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())
