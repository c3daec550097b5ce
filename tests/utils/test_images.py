"""Image files, PIL images and arrays."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

import kstyle_torch as ks
from kstyle_torch import utils

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for mode, channels in (("L", ()), ("RGB", (3,)), ("RGBA", (4,))):
        Image.fromarray(RNG.integers(0, 256, (20, 30, *channels), dtype="uint8")).save(folder / f"{mode}.png")
    Image.fromarray(RNG.integers(0, 60000, (20, 30)).astype("uint16")).save(folder / "I.png")
    return folder


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I"])
@pytest.mark.parametrize("color_mode", ["grayscale", "rgb", "rgba"])
def test_loading_agrees_with_keras(keras, files, mode, color_mode):
    for options in (
        {},
        {"target_size": (8, 9)},
        {"target_size": (9, 4), "interpolation": "bilinear", "keep_aspect_ratio": True},
    ):
        got, expected = (module.utils.load_img(files / f"{mode}.png", color_mode, **options) for module in (ks, keras))
        assert got.mode == expected.mode
        for data_format in ("channels_last", "channels_first"):
            arrays = [module.utils.img_to_array(got, data_format) for module in (ks, keras)]
            assert arrays[0].dtype == np.float32
            np.testing.assert_array_equal(*arrays)
        np.testing.assert_array_equal(np.asarray(got), np.asarray(expected))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "hamming", "box", "lanczos"])
def test_interpolations_agree_with_keras(keras, files, interpolation):
    got, expected = (
        module.utils.load_img(str(files / "RGB.png"), target_size=(7, 11), interpolation=interpolation)
        for module in (ks, keras)
    )
    np.testing.assert_array_equal(np.asarray(got), np.asarray(expected))


def test_files_in_memory(files):
    data = io.BytesIO((files / "RGB.png").read_bytes())
    np.testing.assert_array_equal(np.asarray(utils.load_img(data)), np.asarray(Image.open(files / "RGB.png")))


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("scale", [True, False])
def test_arrays_become_the_images_of_keras(keras, channels, scale):
    for array in (
        RNG.uniform(0, 255, (6, 5, channels)),
        np.full((6, 5, channels), 7.0),
        RNG.normal(size=(6, 5, channels)) + 9,
    ):
        got, expected = (module.utils.array_to_img(array, scale=scale) for module in (ks, keras))
        assert got.mode == expected.mode
        np.testing.assert_allclose(np.asarray(got, int), np.asarray(expected, int), atol=1)
    first = utils.array_to_img(torch.tensor(array).permute(2, 0, 1), "channels_first", scale)
    np.testing.assert_array_equal(np.asarray(first), np.asarray(got))


def test_deep_gray_images():
    array = np.array([[[0.0], [1000.0]]])
    assert utils.array_to_img(array, scale=False).mode == "I"


def test_saving_and_loading(tmp_path, files):
    array = utils.img_to_array(utils.load_img(files / "RGB.png"))
    utils.save_img(tmp_path / "x.png", array, scale=False)
    np.testing.assert_array_equal(utils.img_to_array(utils.load_img(tmp_path / "x.png")), array)
    with pytest.warns(UserWarning, match="no alpha channel"):
        utils.save_img(str(tmp_path / "x.jpg"), np.ones((4, 4, 4)))
    assert utils.load_img(tmp_path / "x.jpg").size == (4, 4)


MISTAKES = {
    "mode": (
        lambda path: utils.load_img(path, color_mode="gray"),
        ValueError,
        "one of grayscale, rgb, rgba; got 'gray'",
    ),
    "interpolation": (
        lambda path: utils.load_img(path, target_size=(2, 2), interpolation="bilinar"),
        ValueError,
        "Did you mean 'bilinear'",
    ),
    "path": (lambda path: utils.load_img(3), TypeError, "must be a path or io.BytesIO; got a int"),
    "batch": (lambda path: utils.array_to_img(np.ones((2, 4, 4, 3))), ValueError, r"one image.*\(2, 4, 4, 3\)"),
    "channels": (lambda path: utils.array_to_img(np.ones((4, 4, 2))), ValueError, "1, 3 or 4 channels; got 2"),
    "no image": (lambda path: utils.img_to_array(np.ones(4)), ValueError, "Expected an image"),
    "format": (lambda path: utils.img_to_array(np.ones((4, 4)), "first"), ValueError, "data_format must be"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake, files):
    function, error, message = MISTAKES[mistake]
    with pytest.raises(error, match=message):
        function(files / "RGB.png")


def test_without_pillow_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install kstyle-torch\[images\]"):
        utils.array_to_img(np.ones((4, 4, 3)))
