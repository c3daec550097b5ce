"""Arguments of the architectures: mistakes are told before anything is built."""

from unittest import mock

import pytest

import kstyle_torch as ks
from kstyle_torch.applications import _shapes
from tests.oracle import raised

FLAT = (40, 40, 2)
MISTAKES = {
    "no such file": ("VGG16", {"weights": "nowhere.h5"}, "path of a file that exists; got 'nowhere.h5'"),
    "classes": ("ResNet50", {"classes": 10}, "has classes=1000; got 10. Pass include_top=False"),
    "activation": ("Xception", {"classifier_activation": "relu"}, "must be 'softmax' or None where weights are loaded"),
    "shape with top": ("VGG19", {"input_shape": (32, 32, 3)}, r"needs input_shape=\(224, 224, 3\); got \(32, 32, 3\)"),
    "channels": ("VGG16", {"include_top": False, "input_shape": (64, 64, 1)}, "needs three channels"),
    "too small": ("Xception", {"weights": None, "input_shape": (70, 90, 3)}, r"at least 71 x 71; got .*\(70, 90, 3\)"),
    "two sizes": ("VGG16", {"include_top": False, "input_shape": (64, 64)}, r"three sizes, such as \(224, 224, 3\)"),
    "no size": ("ResNet50V2", {"weights": None, "input_shape": (None, None, 3)}, "needs an input_shape without None"),
    "alpha": ("MobileNet", {"alpha": 0.3}, "needs an alpha of 0.25, 0.5, 0.75, 1.0; got 0.3"),
    "alpha, V2": ("MobileNetV2", {"alpha": 0.25}, "needs an alpha of 0.35, "),
    "alpha, V3": ("MobileNetV3Small", {"alpha": 0.5}, "minimalistic=False needs alpha=0.75 or 1.0; got 0.5"),
    "minimalistic": ("MobileNetV3Large", {"alpha": 0.75, "minimalistic": True}, "needs alpha=1.0; got 0.75"),
    "small, V3": ("MobileNetV3Large", {"weights": None, "input_shape": (31, 40, 3)}, "at least 32 x 32"),
    "multiplier": ("MobileNet", {"depth_multiplier": 2}, "needs depth_multiplier=1; got 2"),
}


@pytest.mark.parametrize(("architecture", "arguments", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(architecture, arguments, message, keras):
    built = mock.patch("kstyle_torch.models.functional.Functional.__init__", side_effect=AssertionError)
    with built, pytest.raises(ValueError, match=message):
        getattr(ks.applications, architecture)(**arguments)


@pytest.mark.full
@pytest.mark.parametrize(("architecture", "arguments", "message"), MISTAKES.values(), ids=MISTAKES)
def test_keras_refuses_the_same(architecture, arguments, message, keras):
    assert raised(lambda: getattr(keras.applications, architecture)(**arguments)) == "ValueError"


def test_pooling_that_there_is_not():
    """Keras would take it for None."""
    with pytest.raises(ValueError, match="pooling must be None, 'avg' or 'max'; got 'mean'"):
        ks.applications.VGG16(include_top=False, pooling="mean", weights=None)


def test_two_inputs_that_differ():
    image = ks.Input((96, 96, 3))
    for architecture in (ks.applications.MobileNetV2, ks.applications.MobileNetV3Small):
        with pytest.raises(ValueError, match=r"input_tensor is of images \(96, 96, 3\), and input_shape=\(64, 64, 3\)"):
            architecture(input_tensor=image, input_shape=(64, 64, 3), weights=None)
    with pytest.raises(ValueError, match="tensor must be symbolic"):
        ks.applications.VGG16(input_tensor=3, weights=None)


def test_unusual_channels_warn():
    arguments = {"weights": None, "include_top": False, "input_shape": FLAT}
    with pytest.warns(
        UserWarning, match=r"usually has 1 or 3 input channels; input_shape=\(40, 40, 2\) has 2"
    ) as caught:
        assert ks.applications.VGG16(**arguments).input_shape == (None, *FLAT)
    assert caught[0].filename == __file__


def test_every_argument_is_documented():
    for name in ks.applications.__all__:
        value = getattr(ks.applications, name)
        if callable(value) and not hasattr(value, "__all__"):
            text = value.__doc__
            assert [each for each in _parameters(value) if f"\n    {each}: " not in text] == [], name


def _parameters(function):
    return function.__wrapped__.__code__.co_varnames[: function.__wrapped__.__code__.co_argcount]


def test_divisible(keras):
    from keras.src.applications.mobilenet_v2 import _make_divisible

    assert [_shapes.divisible(n / 4) for n in range(600)] == [_make_divisible(n / 4, 8) for n in range(600)]


@pytest.mark.parametrize("architecture", ["MobileNet", "MobileNetV2", "MobileNetV3Large"])
def test_images_of_any_size_warn(architecture):
    """The published weights are for some sizes."""
    stopped = mock.patch("kstyle_torch.layers.Conv2D", side_effect=StopIteration)
    with (
        pytest.warns(UserWarning, match="trained on images of 224 x 224") as caught,
        stopped,
        pytest.raises(StopIteration),
    ):
        getattr(ks.applications, architecture)(include_top=False)
    assert caught[0].filename == __file__
