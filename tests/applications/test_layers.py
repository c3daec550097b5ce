"""Layers, configs, names and files of the architectures, against Keras; no weights are drawn."""

import pytest

from kstyle_torch import config
from tests.applications.networks import assert_same_structure

SQUARE = (96, 96, 3)
ROWS = {
    "VGG16": ("VGG16", {"include_top": False, "pooling": "avg"}),
    "VGG19": ("VGG19", {"include_top": False, "input_shape": (32, 40, 3)}),
    "VGG19, gray": ("VGG19", {"weights": None, "input_shape": (32, 40, 1), "classes": 3, "name": "mine"}),
    "ResNet50": ("ResNet50", {"classifier_activation": None}),
    "ResNet152": ("ResNet152", {}),
    "ResNet50V2": ("ResNet50V2", {"include_top": False, "pooling": "max"}),
    "ResNet152V2": ("ResNet152V2", {"include_top": False, "input_shape": (33, 64, 3)}),
    "Xception": ("Xception", {}),
    "Xception, no top": ("Xception", {"include_top": False, "pooling": "max", "input_shape": (71, 75, 3)}),
    "MobileNet": ("MobileNet", {"alpha": 0.25, "include_top": False, "input_shape": (128, 128, 3)}),
    "MobileNet with top": ("MobileNet", {"alpha": 0.75, "dropout": 0.3}),
    "MobileNetV2": ("MobileNetV2", {"alpha": 0.35}),
    "MobileNetV2, no top": ("MobileNetV2", {"alpha": 1.4, "include_top": False, "input_shape": SQUARE}),
    "MobileNetV2, any size": ("MobileNetV2", {"include_top": False, "pooling": "avg"}),
    "MobileNetV3Small": ("MobileNetV3Small", {"input_shape": (224, 224, 3)}),
    "MobileNetV3Small, minimalistic": (
        "MobileNetV3Small",
        {"minimalistic": True, "include_top": False, "input_shape": (224, 224, 3), "include_preprocessing": False},
    ),
    "MobileNetV3Large": ("MobileNetV3Large", {"alpha": 0.75, "include_top": False, "input_shape": (224, 224, 3)}),
    "MobileNetV3Large, wide": ("MobileNetV3Large", {"weights": None, "alpha": 1.25, "dropout_rate": 0}),
}


@pytest.mark.filterwarnings("ignore:.*224:UserWarning")  # of images of any size
@pytest.mark.parametrize(
    ("architecture", "arguments"),
    [pytest.param(*row, id=name, marks=pytest.mark.full if name != "VGG16" else ()) for name, row in ROWS.items()],
)
def test_same_layers(architecture, arguments):
    assert_same_structure(architecture, **arguments)


@pytest.mark.full
@pytest.mark.parametrize("architecture", ["ResNet50V2", "MobileNetV2", "MobileNetV3Small"])
def test_same_layers_with_channels_first(architecture, keras):
    config.set_image_data_format("channels_first")
    keras.config.set_image_data_format("channels_first")
    try:
        assert_same_structure(architecture, weights=None, input_shape=(3, 47, 96), include_top=False, pooling="avg")
    finally:
        keras.config.set_image_data_format("channels_last")


@pytest.mark.full
def test_input_tensor():
    """The model begins where the tensor does, and has the layers in front of it; its size picks the file."""

    def colours(library):
        return library.layers.Conv2D(3, 1, name="colours")(library.Input((96, 96, 1), name="gray"))

    ours = assert_same_structure("MobileNetV2", input_tensor=colours)
    assert [layer.name for layer in ours.layers[:3]] == ["gray", "colours", "Conv1"]
