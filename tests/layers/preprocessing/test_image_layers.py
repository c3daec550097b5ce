"""Random layers on images: given a transformation, they do what Keras does; what they draw is spread as Keras' is."""

import copy

import keras
import numpy as np
import pytest
import torch

from kstyle_torch import layers
from tests.oracle import array, assert_close, integers, uniform

IMAGES, FIRST_IMAGES = (5, 8, 8, 3), (5, 3, 8, 8)
UNIT = {"value_range": (0, 1)}
FIRST = {"data_format": "channels_first"}

GIVEN = [  # layer, arguments
    ("RandomFlip", {}),
    ("RandomFlip", {"mode": "horizontal"}),
    ("RandomFlip", {"mode": "vertical", **FIRST}),
    ("RandomRotation", {"factor": 0.3}),
    ("RandomRotation", {"factor": (0.1, 0.3), "fill_mode": "constant", "fill_value": 0.5, **FIRST}),
    ("RandomRotation", {"factor": 0.3, "fill_mode": "nearest", "interpolation": "nearest"}),
    ("RandomTranslation", {"height_factor": 0.4, "width_factor": (-0.2, 0.5)}),
    ("RandomTranslation", {"height_factor": 0.4, "width_factor": 0.4, "fill_mode": "wrap", **FIRST}),
    ("RandomZoom", {"height_factor": 0.5}),
    ("RandomZoom", {"height_factor": (0.2, 0.5), "width_factor": -0.3, "fill_mode": "constant", **FIRST}),
    ("RandomShear", {"x_factor": 0.4, "y_factor": (0.1, 0.3)}),
    ("RandomShear", {"x_factor": 0.4, "fill_mode": "wrap", **FIRST}),
    ("RandomPerspective", {"factor": (0.7, 0.7), "scale": 0.6}),
    ("RandomPerspective", {"scale": 0.6, "fill_value": 0.5, **FIRST}),
    ("RandomBrightness", {"factor": 0.4, **UNIT}),
    ("RandomBrightness", {"factor": (0.1, 0.4)}),
    ("RandomContrast", {"factor": 0.4, **UNIT}),
    ("RandomContrast", {"factor": (0.5, 0.9), **UNIT, **FIRST}),
    ("RandomHue", {"factor": 0.4, **UNIT}),
    ("RandomHue", {"factor": (0.3, 0.9), **UNIT, **FIRST}),
    ("RandomSaturation", {"factor": 0.4, **UNIT}),
    ("RandomSaturation", {"factor": (0.3, 0.9), **UNIT, **FIRST}),
    ("RandomColorDegeneration", {"factor": 0.4, **UNIT}),
    ("RandomColorDegeneration", {"factor": (0.3, 0.9), **UNIT, **FIRST}),
    ("RandomSharpness", {"factor": 0.9, **UNIT}),
    ("RandomSharpness", {"factor": (0.3, 0.9), **UNIT, **FIRST}),
    ("RandomGrayscale", {}),
    ("RandomGrayscale", {"factor": 0.7, **FIRST}),
    ("RandomInvert", {"factor": (0.5, 0.5), **UNIT}),
    ("RandomPosterization", {"factor": 5, **UNIT}),
    ("RandomPosterization", {"factor": (3, 3), **UNIT, **FIRST}),
    ("Solarization", {"addition_factor": 0.4, "threshold_factor": (0.2, 0.9), **UNIT}),
    ("Solarization", {}),
    ("RandomGaussianBlur", {"factor": (0.5, 0.5), "kernel_size": 5, **UNIT}),
    ("RandomGaussianBlur", {"sigma": (0.5, 0.9), **UNIT, **FIRST}),
    ("RandomErasing", {"scale": (0.2, 0.6), **UNIT}),
    ("RandomErasing", {"factor": (0.5, 0.5), "fill_value": 0.5, **UNIT, **FIRST}),
    ("RandomErasing", {"fill_value": (0.1, 0.5, 0.9), "scale": (0.3, 0.6), **UNIT}),
    ("CutMix", {}),
    ("CutMix", {"factor": (0.5, 1.0), **FIRST}),
    ("MixUp", {"alpha": 0.7}),
    ("RandAugment", {**UNIT}),
    ("RandAugment", {"num_ops": 4, "factor": 0.3, "interpolation": "nearest", **UNIT}),
    ("AugMix", {**UNIT}),
    ("AugMix", {"num_chains": 2, "chain_depth": 4, "all_ops": False, **UNIT}),
]
every_layer = pytest.mark.parametrize(
    ("name", "arguments"), GIVEN, ids=[f"{name}-{row}" for row, (name, _) in enumerate(GIVEN)]
)
LAYERS = sorted({name for name, _ in GIVEN} | {"RandomElasticTransform", "RandomCrop", "RandomColorJitter"})
ARGUMENTS = {
    "RandomElasticTransform": {**UNIT},
    "RandomCrop": {"height": 5, "width": 6},
    "RandomColorJitter": {
        "brightness_factor": 0.2,
        "contrast_factor": 0.2,
        "saturation_factor": 0.3,
        "hue_factor": 0.2,
        **UNIT,
    },
    **{name: arguments for name, arguments in reversed(GIVEN) if "data_format" not in arguments},
}
every_random_layer = pytest.mark.parametrize("name", LAYERS)


def every_random_layer_but(*left_out):
    return pytest.mark.parametrize("name", [name for name in LAYERS if name not in left_out])


def twins(name, arguments):
    arguments = copy.deepcopy(arguments)
    return getattr(layers, name)(**arguments), getattr(keras.layers, name)(**arguments)


def made(name, **more):
    return getattr(layers, name)(**{**copy.deepcopy(ARGUMENTS[name]), **more})


def images_for(arguments, low=0.0):
    return uniform(*(FIRST_IMAGES if "data_format" in arguments else IMAGES), low=low)


def drawn(layer, x):
    return {} if (got := layer.get_random_transformation(x, training=True)) is None else got


@every_layer
def test_keras_transformation_gives_keras_images(name, arguments):
    ours, theirs = twins(name, arguments)
    for seed in range(3):
        keras.utils.set_random_seed(seed)
        x = images_for(arguments)
        how = theirs.get_random_transformation(x, training=True)
        if name == "RandomRotation":
            assert_close(
                torch.stack([torch.as_tensor(n) for n in matrix_of(ours, how)], 1), how["rotation_matrix"][:, :6]
            )
        expected = keras_images(theirs, x.clone(), copy.deepcopy(how))
        assert_close(ours.transform_images(x, how, training=True), expected, rtol=1e-4, atol=2e-5)


def keras_images(layer, images, how):
    if not isinstance(layer, keras.layers.RandAugment):
        return layer.transform_images(images, how, training=True)
    for index in how[
        "layer_idxes"
    ]:  # as its code means; Keras' RandomBrightness changes its input in place, chosen or not
        name = list(how["transforms"])[index]
        images = getattr(layer, name).transform_images(images, how["transforms"][name])
    return images


def matrix_of(layer, how):
    return torch.broadcast_tensors(*map(torch.as_tensor, layer._matrix(how, 8, 8)))


@every_layer
def test_the_transformation_looks_like_keras(name, arguments):
    """The same keys and shapes, so that subclasses written for Keras find what they look for."""
    ours, theirs = twins(name, arguments)
    x = images_for(arguments)
    mine, other = drawn(ours, x), theirs.get_random_transformation(x, training=True)
    if not isinstance(other, dict):
        assert mine.shape == other.shape
        return
    assert mine.keys() >= other.keys() - {"rotation_matrix", "image_height", "image_width", "batch_size"}
    for key, value in other.items():
        if isinstance(value, torch.Tensor) and key in mine and key not in ("batch_masks", "fill_value"):
            assert tuple(mine[key].shape) == tuple(value.shape)
            assert mine[key].dtype.is_floating_point == value.dtype.is_floating_point


SPREAD = [  # layer, arguments, the number drawn
    ("RandomFlip", {}, "flips"),
    ("RandomRotation", {"factor": (-0.1, 0.3)}, "angle"),
    ("RandomTranslation", {"height_factor": 0.4, "width_factor": (-0.2, 0.5)}, "translations"),
    ("RandomZoom", {"height_factor": (-0.2, 0.5)}, "height_zoom"),
    ("RandomShear", {"x_factor": 0.4, "y_factor": (0.1, 0.3)}, "shear_factor"),
    ("RandomPerspective", {"factor": 0.8, "scale": 0.5}, "apply_perspective"),
    ("RandomPerspective", {"scale": 0.5}, "end_points"),
    ("RandomBrightness", {"factor": (-0.1, 0.4)}, "rgb_delta"),
    ("RandomContrast", {"factor": 0.4}, "contrast_factor"),
    ("RandomContrast", {"factor": (0.5, 0.9)}, "contrast_factor"),
    ("RandomHue", {"factor": 0.4}, "factor"),
    ("RandomSaturation", {"factor": 0.4}, "factor"),
    ("RandomColorDegeneration", {"factor": 0.4}, "factor"),
    ("RandomSharpness", {"factor": 0.4}, "factor"),
    ("RandomInvert", {"factor": 0.5}, "apply_inversion"),
    ("RandomPosterization", {"factor": 6}, "shift_factor"),
    ("RandomPosterization", {"factor": (3, 3)}, "shift_factor"),
    ("Solarization", {"addition_factor": 0.5, "threshold_factor": (0.2, 0.4)}, "thresholds"),
    ("Solarization", {"addition_factor": 0.5}, "additions"),
    ("RandomGaussianBlur", {"factor": (0.2, 0.4)}, "should_apply_blur"),
    ("RandomErasing", {"scale": (0.2, 0.6)}, "batch_masks"),
    ("RandomErasing", {"factor": 0.6}, "apply_erasing"),
    ("RandomElasticTransform", {"factor": 0.6}, "apply_transform"),
    ("MixUp", {"alpha": 0.4}, "mix_weight"),
    ("CutMix", {"factor": (0.9, 0.9)}, "mix_weight"),
]


@pytest.mark.parametrize(("name", "arguments", "key"), SPREAD, ids=[f"{name}-{key}" for name, _, key in SPREAD])
def test_spread_is_that_of_keras(name, arguments, key):
    ours, theirs = twins(name, arguments)
    x = torch.zeros(4000, 5, 5, 1)
    torch.manual_seed(1)
    mine = array(ours.get_random_transformation(x, training=True)[key]).astype("float64").reshape(len(x), -1)
    other = array(theirs.get_random_transformation(x, training=True)[key]).astype("float64").reshape(len(x), -1)
    width = max(float(np.ptp(other)), 1e-9)
    assert np.abs(mine.mean(0) - other.mean(0)).max() < 0.04 * width
    assert np.abs(mine.std(0) - other.std(0)).max() < 0.04 * width
    for share in (0.05, 0.25, 0.75, 0.95):
        if len(np.unique(other)) > 20:
            distance = np.abs(np.quantile(mine[:, 0], share) - np.quantile(other[:, 0], share))
            assert distance < 0.05 * width


def test_grayscale_is_as_frequent_as_asked():
    gray = layers.RandomGrayscale(0.3).get_random_transformation(torch.zeros(4000, 1, 1, 3), training=True)
    assert abs(float(gray.float().mean()) - 0.3) < 0.03


# of these there is one draw for the batch, or few, as in Keras
@every_random_layer_but("RandomCrop", "RandAugment", "AugMix", "RandomGaussianBlur")
def test_images_of_a_batch_differ(name):
    layer = made(name)
    x = images_for({})[:1].repeat(40, 1, 1, 1) + (
        0.01 * torch.arange(40.0)[:, None, None, None] if "Mix" in name else 0
    )
    torch.manual_seed(2)
    y = layer(x, training=True)
    assert not torch.allclose(y, y[:1], atol=0.05)


@every_random_layer
def test_nothing_happens_in_inference(name):
    x = images_for({})
    layer = made(name) if name != "RandomCrop" else layers.RandomCrop(8, 8)
    assert torch.equal(layer(x, training=False), x)
    assert torch.equal(layer.eval()(x), x)


@every_random_layer
def test_seed_repeats_the_run_and_not_the_step(name):
    x = uniform(5, 12, 12, 3, low=0.0)
    first, second = made(name, seed=3), made(name, seed=3)
    runs = [[layer(x, training=True) for _ in range(6)] for layer in (first, second)]
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    assert not all(torch.equal(runs[0][0], other) for other in runs[0][1:])
    twin = copy.deepcopy(first)
    assert torch.equal(first(x, training=True), twin(x, training=True))


@every_random_layer
def test_global_seed_repeats(name):
    x, layer = images_for({}), made(name)
    results = []
    for _ in range(2):
        torch.manual_seed(5)
        results.append(layer(x, training=True))
    assert torch.equal(*results)


@every_random_layer
def test_seed_of_one_transformation(name):
    x, layer = images_for({}), made(name)
    first, second = (layer.get_random_transformation(x, training=True, seed=7) for _ in range(2))
    if name != "RandomElasticTransform":
        assert torch.equal(layer.transform_images(x, first), layer.transform_images(x, second))
    state = torch.get_rng_state()
    layer.get_random_transformation(x, training=True, seed=7)
    assert torch.equal(torch.get_rng_state(), state)


@every_random_layer
@pytest.mark.parametrize("training", [True, False])
def test_single_image(name, training):
    x, layer = images_for({})[0], made(name)
    y = layer(x, training=training)
    if name == "RandomCrop":
        assert y.shape == (5, 6, 3)
    else:
        assert y.shape == x.shape


@every_random_layer
def test_whole_numbers_become_floats_in_both_modes(name):
    x = integers(*IMAGES, high=256).to(torch.uint8)
    arguments = {key: value for key, value in ARGUMENTS[name].items() if key != "value_range"}
    layer = getattr(layers, name)(**arguments)
    assert layer(x, training=True).dtype == layer(x).dtype == torch.float32
    assert not layer(x, training=True).isnan().any()


@every_random_layer
def test_dtypes(name):
    x = images_for({})
    assert made(name).to(torch.float64)(x.double(), training=True).dtype == torch.float64
    for dtype in ("float64", "bfloat16"):
        y = made(name, dtype=dtype)(x, training=True)
        assert y.dtype == getattr(torch, dtype) and not y.isnan().any()
    assert made(name, dtype="mixed_bfloat16")(x, training=True).dtype == torch.bfloat16


def test_half_precision_reads_the_right_pixels():
    """In float16, 1501.5 and 1502 are the same number."""
    x = torch.arange(2048.0).repeat(1, 2, 1).unsqueeze(-1)
    shift = (2.5 / 2048, 2.5 / 2048)
    moved = layers.RandomTranslation(0.0, shift, dtype="float16")(x, training=True)
    assert_close(moved[:, :, 3:1000].float(), x[:, :, 3:1000] - 2.5)


@every_random_layer
def test_the_input_is_left_alone(name):
    x = images_for({})
    made(name)(x, training=True)
    assert torch.equal(x, images_for({}))


@pytest.mark.full  # one after the other; the layer cases have one that the quick set compiles
@pytest.mark.parametrize(
    "name", ["RandomTranslation", "RandomHue", "MixUp", "RandAugment"]
)  # a row of each way to draw
def test_training_compiles_to_one_graph(name):
    x, layer = images_for({}), made(name).train()
    layer(x)
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    torch.manual_seed(1)
    y = compiled(x)
    torch.manual_seed(1)
    expected = layer(x)
    assert y.shape == expected.shape and y.dtype == expected.dtype
    if name != "RandAugment":  # which draws all transformations there, not only the chosen ones
        assert_close(y, expected, rtol=1e-4, atol=1e-5)


def test_elastic_transform_given_the_same_noise():
    ours, theirs = twins("RandomElasticTransform", {"factor": (0.6, 0.6), "scale": (0.8, 0.8), **UNIT})
    x = images_for({})
    keras.utils.set_random_seed(3)
    how = theirs.get_random_transformation(x, training=True)
    torch.manual_seed(9)
    expected = theirs.transform_images(x, how, training=True)
    torch.manual_seed(9)
    noise = torch.stack([torch.randn(5, 8, 8) for _ in range(2)])
    result = ours.transform_images(x, {**how, "noise": noise}, training=True)
    assert_close(result, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(result, x, atol=1e-2)


def test_elastic_transform_moves_masks_with_the_images():
    x = uniform(2, 64, 64, 3, low=0.0).round()
    data = layers.RandomElasticTransform((1, 1), (1, 1), "nearest", **UNIT)(
        {"images": x, "segmentation_masks": x}, training=True
    )
    assert torch.equal(data["images"], data["segmentation_masks"])
    assert not torch.equal(data["images"], x)


def test_color_jitter_is_its_four_layers():
    ours, theirs = twins("RandomColorJitter", ARGUMENTS["RandomColorJitter"])
    x = images_for({})
    parts = ["random_brightness", "random_contrast", "random_saturation", "random_hue"]
    how = {part: getattr(theirs, part).get_random_transformation(x, training=True) for part in parts}
    expected = x.clone()
    for part in parts:
        expected = getattr(theirs, part).transform_images(expected, how[part], training=True)
    assert_close(ours.transform_images(x, how), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("arguments", [{}, FIRST], ids=str)
def test_random_crop_given_its_start(arguments):
    ours, theirs = twins("RandomCrop", {"height": 5, "width": 6, **arguments})
    x = images_for(arguments)
    start = theirs.get_random_transformation(x, training=True)
    expected = theirs.transform_images(x, tuple(map(int, start)), training=True)
    assert torch.equal(ours.transform_images(x, {"start": start, "input_shape": x.shape}), expected)


def test_random_crop_takes_every_window():
    x = torch.arange(16.0).reshape(4, 4, 1)
    layer = layers.RandomCrop(3, 2, seed=1)
    corners = {float(layer(x, training=True)[0, 0, 0]) for _ in range(100)}
    assert corners == {0.0, 1.0, 2.0, 4.0, 5.0, 6.0}


@pytest.mark.parametrize("size", [(5, 6), (5, 12), (12, 5), (20, 20), (8, 8)], ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_random_crop_always_gives_its_size(size, training):
    x = images_for({})
    y = layers.RandomCrop(*size)(x, training=training)
    assert y.shape == (5, *size, 3)
    if not training or max(size) > 8:
        assert_close(y, keras.ops.image.resize(x, size, crop_to_aspect_ratio=True))


def test_blur_of_another_height_than_width():
    assert layers.RandomGaussianBlur(kernel_size=(1, 5), **UNIT)(images_for({}), training=True).shape == IMAGES


def test_auto_contrast_leaves_flat_channels_alone():
    x = torch.full((2, 4, 4, 3), 7.0)
    assert torch.equal(layers.AutoContrast()(x), x)


def test_auto_contrast_channels_first():
    x = images_for({})
    first = layers.AutoContrast(data_format="channels_first", **UNIT)(x.movedim(-1, 1))
    assert_close(first.movedim(1, -1), layers.AutoContrast(**UNIT)(x))


def test_a_model_of_them_trains_and_predicts():
    augment = [layers.RandomFlip(), layers.RandomRotation(0.1), layers.RandomZoom(0.1), layers.RandomCrop(6, 6)]
    inputs = layers.Input((8, 8, 3))
    x = inputs
    for layer in augment:
        x = layer(x)
    assert x.shape == (None, 6, 6, 3)
