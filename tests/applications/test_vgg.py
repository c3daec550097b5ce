"""VGG16 and VGG19."""

import pytest

from tests.applications.networks import assert_same_outputs, assert_same_structure

ROWS = [
    pytest.param("VGG16", {"include_top": False, "pooling": "avg"}, id="16"),
    pytest.param("VGG16", {}, id="16 with top", marks=pytest.mark.full),
    pytest.param("VGG19", {"input_shape": (32, 40, 1), "classes": 3}, id="19", marks=pytest.mark.full),
]


@pytest.mark.parametrize(("architecture", "arguments"), ROWS)
def test_layers(architecture, arguments):
    assert_same_structure(architecture, **arguments)


@pytest.mark.full
def test_outputs(tmp_path):
    assert_same_outputs(tmp_path / "vgg.h5", "VGG16", (32, 32, 3), include_top=False, pooling="max")
