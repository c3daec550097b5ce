"""Images for ImageNet's networks, and the names of its classes, against Keras."""

import importlib
import json

import keras
import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch.applications import imagenet_utils
from tests.oracle import assert_close

SHAPES = {"channels_last": [(2, 4, 5, 3), (4, 5, 3)], "channels_first": [(2, 3, 4, 5), (3, 4, 5)]}
CASES = [
    (mode, data_format, shape)
    for mode in ("caffe", "tf", "torch")
    for data_format in SHAPES
    for shape in SHAPES[data_format]
]


def pixels(shape, dtype="float32"):
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


@pytest.mark.parametrize(("mode", "data_format", "shape"), CASES)
def test_preprocess_input(mode, data_format, shape):
    theirs, ours = (library.applications.imagenet_utils.preprocess_input for library in (keras, ks))
    for dtype in ("float32", "float64", "uint8"):
        wanted = theirs(pixels(shape, dtype), data_format, mode)
        given = pixels(shape, dtype)
        found = ours(given, data_format, mode)
        assert found.dtype == wanted.dtype and found.flags.c_contiguous
        assert_close(found, wanted)
        assert (found is given) is (dtype != "uint8")  # overwritten, as documented
        tensor = torch.from_numpy(pixels(shape, dtype))
        assert_close(ours(tensor, data_format, mode), wanted)
        assert torch.equal(tensor, torch.from_numpy(pixels(shape, dtype)))
    images = ks.Input(shape[1:] if len(shape) == 4 else shape, dtype="uint8")
    if len(shape) == 4:
        model = ks.Model(images, ours(images, data_format, mode))
        assert_close(model.predict(pixels(shape, "uint8"), verbose=0), wanted)


def test_global_data_format():
    wanted = imagenet_utils.preprocess_input(pixels((2, 3, 4, 5)), "channels_first")
    ks.config.set_image_data_format("channels_first")
    assert_close(imagenet_utils.preprocess_input(pixels((2, 3, 4, 5))), wanted)


def test_read_only_images_are_copied():
    images = pixels((4, 5, 3))
    images.flags.writeable = False
    assert_close(imagenet_utils.preprocess_input(images), imagenet_utils.preprocess_input(pixels((4, 5, 3))))


def test_gradients_pass():
    images = torch.rand(2, 4, 5, 3, requires_grad=True)
    imagenet_utils.preprocess_input(images, mode="torch").sum().backward()
    assert_close(images.grad[0, 0, 0], 1 / 255 / np.array([0.229, 0.224, 0.225]))


MODULES = "mobilenet mobilenet_v2 mobilenet_v3 resnet resnet50 resnet_v2 vgg16 vgg19 xception".split()


@pytest.mark.parametrize("module", MODULES)
def test_each_module_has_its_own(module):
    theirs, ours = (getattr(library.applications, module) for library in (keras, ks))
    assert {name for name in dir(theirs) if not name.startswith("_")} == {*ours.__all__}
    assert importlib.import_module(f"kstyle_torch.applications.{module}") is ours
    for data_format in SHAPES:
        shape = SHAPES[data_format][0]
        wanted = theirs.preprocess_input(pixels(shape), data_format=data_format)
        assert_close(ours.preprocess_input(pixels(shape), data_format=data_format), wanted)


MISTAKES = {
    "mode": ({"mode": "keras"}, "mode must be 'caffe', 'tf' or 'torch'; got 'keras'"),
    "format": ({"data_format": "NHWC"}, "data_format must be 'channels_first' or 'channels_last'; got 'NHWC'"),
    "channels": ({"data_format": "channels_first"}, r"three channels, channels_first; got the shape \(2, 4, 5, 3\)"),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(arguments, message):
    images = pixels((2, 4, 5, 3))
    with pytest.raises(ValueError, match=message):
        imagenet_utils.preprocess_input(images, **arguments)
    assert_close(images, pixels((2, 4, 5, 3)))


@pytest.fixture
def class_index(tmp_path, monkeypatch):
    """Names in place of ImageNet's, for both libraries."""
    index = {str(number): [f"n{number:08}", f"name_{number}"] for number in range(1000)}
    (tmp_path / "index.json").write_text(json.dumps(index))
    asked = []
    monkeypatch.setattr(
        imagenet_utils, "get_file", lambda *args, **kwargs: asked.append(kwargs) or tmp_path / "index.json"
    )
    monkeypatch.setattr("keras.src.applications.imagenet_utils.CLASS_INDEX", index)
    imagenet_utils._class_names.cache_clear()
    yield asked
    imagenet_utils._class_names.cache_clear()


def test_decode_predictions(class_index):
    scores = np.random.default_rng(0).dirichlet(np.ones(1000), 3).astype("float32")
    scores[0, 10:20] = 0.5  # a tie
    for top in (1, 5, 1000):
        wanted = keras.applications.vgg16.decode_predictions(scores, top=top)
        assert ks.applications.vgg16.decode_predictions(scores, top=top) == wanted
        assert imagenet_utils.decode_predictions(torch.from_numpy(scores).requires_grad_(), top) == wanted
    assert class_index == [{"cache_subdir": "models", "file_hash": imagenet_utils.DIGEST}]


def test_decode_predictions_refuses_other_shapes():
    for shape in ((1000,), (2, 999), (1, 1, 1000)):
        with pytest.raises(ValueError, match=r"predictions of a batch, \(batch, 1000\); got the shape"):
            imagenet_utils.decode_predictions(np.zeros(shape))
    with pytest.raises(ValueError, match="top must be from 1 to 1000; got 0"):
        imagenet_utils.decode_predictions(np.zeros((1, 1000)), top=0)
