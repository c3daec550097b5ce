"""ImageDataGenerator against Keras' own: the same random state gives the same batches."""

import numpy as np
import pytest
import torch
from oracle import assert_close
from PIL import Image

import kstyle_torch as ks
from kstyle_torch import preprocessing

RNG = np.random.default_rng(0)
X = RNG.uniform(0, 255, (10, 8, 6, 3)).astype("float32")
Y = np.arange(10) % 2


@pytest.fixture
def theirs(keras):
    from keras.src.legacy.preprocessing import image

    return image


def flow(generator, x=X, **kwargs):
    if generator.featurewise_center or generator.zca_whitening:
        generator.fit(x, seed=5)
    np.random.seed(1)
    return generator.flow(x, Y, batch_size=4, seed=3, **kwargs)


OPTIONS = {
    "nothing": {},
    "rescale": {"rescale": 1 / 255},
    "rotation": {"rotation_range": 40},
    "shifts": {"width_shift_range": 0.2, "height_shift_range": 0.3},
    "pixels": {"width_shift_range": 3, "height_shift_range": [1, 2]},
    "shear and zoom": {"shear_range": 20, "zoom_range": 0.3},
    "zoom": {"zoom_range": [0.5, 1.5], "fill_mode": "reflect"},
    "constant": {"rotation_range": 90, "fill_mode": "constant", "cval": 7.0},
    "wrap": {"width_shift_range": 0.9, "fill_mode": "wrap", "interpolation_order": 0},
    "flips": {"horizontal_flip": True, "vertical_flip": True},
    "channels": {"channel_shift_range": 30.0},
    "brightness": {"brightness_range": (0.5, 1.5)},
    "sample": {"samplewise_center": True, "samplewise_std_normalization": True},
    "feature": {"featurewise_center": True, "featurewise_std_normalization": True, "rescale": 1 / 255},
    "whitening": {"zca_whitening": True, "featurewise_center": True, "rescale": 1 / 255},
    "function": {"preprocessing_function": lambda image: image / 2 - 1},
    "all": {
        "rotation_range": 20,
        "width_shift_range": 0.2,
        "height_shift_range": 0.2,
        "shear_range": 0.2,
        "zoom_range": 0.2,
        "channel_shift_range": 5.0,
        "brightness_range": [0.8, 1.2],
        "horizontal_flip": True,
        "rescale": 1 / 255,
    },
}


@pytest.mark.parametrize("options", OPTIONS)
def test_batches_agree(theirs, options):
    generators = [module.ImageDataGenerator(**OPTIONS[options]) for module in (preprocessing.image, theirs)]
    ours, expected = map(flow, generators)
    for _ in range(4):  # over the end of the data
        (x, y), (their_x, their_y) = next(ours), next(expected)
        assert x.dtype == np.float32
        np.testing.assert_array_equal(y, their_y)
        np.testing.assert_allclose(x, their_x, rtol=1e-4, atol=2e-3)


def test_channels_first_agree(theirs):
    options = {**OPTIONS["all"], "data_format": "channels_first", "brightness_range": None}
    x = X.transpose(0, 3, 1, 2)
    ours, expected = (flow(module.ImageDataGenerator(**options), x) for module in (preprocessing.image, theirs))
    np.testing.assert_allclose(next(ours)[0], next(expected)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("subset", ["training", "validation"])
def test_parts_and_weights_agree(theirs, subset):
    results = []
    for module in (preprocessing.image, theirs):
        generator = module.ImageDataGenerator(validation_split=0.4)
        results.append(next(flow(generator, subset=subset, shuffle=False)))
        np.random.seed(0)
        results.append(next(generator.flow((X, Y * 2), Y, 4, sample_weight=Y + 0.5, seed=1))[2])
        results.append(next(generator.flow(X, batch_size=4, shuffle=False)))
    np.testing.assert_array_equal(results[0][0], results[3][0])
    np.testing.assert_array_equal(results[0][1], results[3][1])
    np.testing.assert_array_equal(results[1], results[4])
    np.testing.assert_array_equal(results[2], results[5])


def test_more_inputs_come_along():
    (images, numbers), y = next(preprocessing.image.ImageDataGenerator().flow((X, Y * 2), Y, 4))
    assert images.shape == (4, 8, 6, 3)
    np.testing.assert_array_equal(numbers, y * 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    for name, number in (("cats", 5), ("dogs", 4)):
        (root / name / "more").mkdir(parents=True)
        for count in range(number):
            place = root / name / ("more" if count == 3 else "")
            Image.fromarray(RNG.integers(0, 256, (9, 12, 3), dtype="uint8")).save(place / f"{count}.png")
    (root / "cats" / "notes.txt").write_text("no image")
    return root


MODES = {
    "categorical": {},
    "binary": {"class_mode": "binary", "color_mode": "grayscale"},
    "sparse": {"class_mode": "sparse", "interpolation": "bilinear", "keep_aspect_ratio": True},
    "input": {"class_mode": "input", "subset": "training"},
    "none": {"class_mode": None, "subset": "validation", "classes": ["dogs", "cats"]},
}


@pytest.mark.parametrize("mode", MODES)
def test_folders_agree(theirs, folder, mode, capsys):
    iterators = []
    for module in (preprocessing.image, theirs):
        generator = module.ImageDataGenerator(rescale=1 / 255, horizontal_flip=True, validation_split=0.4)
        np.random.seed(0)
        iterators.append(
            generator.flow_from_directory(str(folder), target_size=(6, 5), batch_size=2, seed=2, **MODES[mode])
        )
    ours, expected = iterators
    assert "images belonging to 2 classes" in capsys.readouterr().out
    for name in ("class_indices", "filenames", "filepaths", "samples", "num_classes", "image_shape", "n"):
        assert getattr(ours, name) == getattr(expected, name), name
    np.testing.assert_array_equal(ours.classes, expected.classes)
    for _ in range(3):
        batch, their_batch = next(ours), next(expected)
        pairs = zip(batch, their_batch, strict=True) if isinstance(batch, tuple) else [(batch, their_batch)]
        for part, their_part in pairs:
            assert part.dtype == their_part.dtype
            np.testing.assert_allclose(part, their_part, rtol=1e-5, atol=1e-6)


def model_of(units, activation):
    model = ks.Sequential([ks.Input((6, 5, 3)), ks.layers.Flatten(), ks.layers.Dense(units, activation=activation)])
    model.compile("sgd", "categorical_crossentropy", metrics=["accuracy"])
    return model


def test_a_program_of_older_keras(folder):
    generator = preprocessing.image.ImageDataGenerator(rescale=1 / 255, shear_range=0.2, zoom_range=0.2)
    train = generator.flow_from_directory(folder, target_size=(6, 5), batch_size=4)
    test = preprocessing.image.ImageDataGenerator(rescale=1 / 255).flow_from_directory(
        folder, target_size=(6, 5), batch_size=4, shuffle=False
    )
    model = model_of(2, "softmax")
    history = model.fit(train, epochs=2, validation_data=test, verbose=0)
    assert np.isfinite(history["val_loss"]).all()
    model.fit(train, steps_per_epoch=len(train), epochs=2, verbose=0)
    predicted = model.predict(test, verbose=0)
    assert predicted.shape == (9, 2)
    accuracy = (predicted.argmax(1) == test.classes).mean()
    assert model.evaluate(test, verbose=0)[1] == pytest.approx(accuracy)


def test_saving_what_was_changed(tmp_path):
    next(preprocessing.image.ImageDataGenerator().flow(X, batch_size=3, save_to_dir=tmp_path, save_prefix="cat"))
    assert len([*tmp_path.glob("cat_*.png")]) == 3


Generator = preprocessing.image.ImageDataGenerator
MISTAKES = {
    "lengths": (lambda: Generator().flow(X, Y[:-1]), "the same number of samples; got 10, 9"),
    "no images": (lambda: Generator().flow(X[0]), "images of 4 axes"),
    "zoom": (lambda: Generator(zoom_range=[1, 2, 3]), "zoom_range must be two numbers"),
    "brightness": (lambda: Generator(brightness_range=0.5), "brightness_range must be two numbers"),
    "format": (lambda: Generator(data_format="first"), "data_format must be"),
    "split": (lambda: Generator(validation_split=1.5), "between 0 and 1"),
    "subset": (lambda: Generator().flow(X, Y, subset="test"), "'training' or 'validation'; got 'test'"),
    "classes": (
        lambda: Generator(validation_split=0.5).flow(X, np.arange(10) // 5, subset="training"),
        "contain different classes",
    ),
    "mode": (lambda: Generator().flow_from_directory(".", class_mode="raw"), "class_mode must be one of"),
    "color": (lambda: Generator().flow_from_directory(".", color_mode="bgr"), "color_mode must be one of"),
    "fit": (lambda: Generator().fit(X[0]), "images channels_last with 1, 3 or 4"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake):
    function, message = MISTAKES[mistake]
    with pytest.raises(ValueError, match=message):
        function()


def test_statistics_that_are_missing():
    with pytest.warns(UserWarning, match=r"featurewise_center needs.*call fit\(x\) first"):
        next(Generator(featurewise_center=True).flow(X))
    with pytest.raises(IndexError):
        Generator().flow(X)[1]


@pytest.mark.parametrize("kind", ["array", "tensor"])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("size", [(4, 4), (9, 5), (3, 12)])
def test_smart_resize_equals_keras(keras, size, interpolation, data_format, kind):
    images = np.random.default_rng(0).uniform(
        0, 255, (2, 8, 10, 3) if data_format == "channels_last" else (2, 3, 8, 10)
    )
    for x in (images.astype("float32"), images[0].astype("float32")):
        given = x if kind == "array" else torch.from_numpy(x)
        ours, theirs = (
            lib.preprocessing.image.smart_resize(given, size, interpolation, data_format) for lib in (ks, keras)
        )
        assert isinstance(ours, type(given))
        assert_close(ours, theirs, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("error", "arguments"),
    [
        (ValueError, (np.ones((4, 4, 3)), (2,))),
        (ValueError, (np.ones((4, 4)), (2, 2))),
        (TypeError, (np.ones((4, 4, 3)), (2, 2), "bilinear", "channels_last", {"more": 1})),
    ],
)
def test_smart_resize_refuses_what_keras_refuses(keras, error, arguments):
    options = arguments[4] if len(arguments) > 4 else {}
    for lib in (ks, keras):
        with pytest.raises(error):
            lib.preprocessing.image.smart_resize(*arguments[:4], **options)
