"""Operations on images against Keras: a row a case."""

import keras
import numpy as np
import pytest
import torch

from kstyle_torch.layers import Input
from kstyle_torch.ops import image as ours
from tests.choice import first_of_each, parameters
from tests.oracle import GraphModule, assert_close, integers, uniform, value_and_grad

theirs = keras.ops.image
BATCH, ONE, FIRST, VOLUMES = (3, 8, 7, 3), (8, 7, 3), (3, 3, 8, 7), (2, 6, 7, 8, 2)
CHANNELS_FIRST = {"data_format": "channels_first"}
LAST = {"data_format": "channels_last"}  # Keras' gaussian_blur takes None for channels_first
SHIFT = [1.0, 0.1, -1.3, -0.2, 0.9, 0.7, 0.0, 0.0]
SHIFTS = np.array([SHIFT, [1, 0, 2, 0, 1, -9, 0, 0], [0.5, 0.3, 0, 0.3, -0.5, 20.5, 0, 0]], "float32")
TENSORS = ("transform", "start_points", "end_points", "scale", "translation")  # what a compiled call gives as such
CORNERS = np.array([[0, 0], [6, 0], [0, 7], [6, 7]], "float32")
MOVED = np.array([[1, 0.5], [5, 1], [0.5, 7], [6.5, 5]], "float32")

CASES = [  # name, shape of the images, arguments
    ("rgb_to_grayscale", BATCH, {}),
    ("rgb_to_grayscale", ONE, {}),
    ("rgb_to_grayscale", FIRST, CHANNELS_FIRST),
    ("rgb_to_grayscale", (3, 8, 7, 1), {}),
    ("rgb_to_hsv", BATCH, {}),
    ("rgb_to_hsv", ONE, {}),
    ("rgb_to_hsv", FIRST, CHANNELS_FIRST),
    ("hsv_to_rgb", BATCH, {}),
    ("hsv_to_rgb", ONE, {}),
    ("hsv_to_rgb", FIRST, CHANNELS_FIRST),
    *[
        ("resize", BATCH, {"size": size, "interpolation": interpolation, "antialias": antialias})
        for interpolation in ("nearest", "bilinear", "bicubic")
        for antialias in (False, True)
        for size in ((4, 3), (11, 15), (3, 12))
    ],
    ("resize", ONE, {"size": (5, 9)}),
    ("resize", FIRST, {"size": (5, 9), **CHANNELS_FIRST}),
    *[
        ("resize", BATCH, {"size": size, f"{way}_to_aspect_ratio": True, "fill_value": 0.5})
        for way in ("crop", "pad")
        for size in ((4, 3), (12, 3), (3, 12), (1, 9))
    ],
    *[
        ("affine_transform", BATCH, {"transform": SHIFTS, "interpolation": interpolation, "fill_mode": mode})
        for interpolation in ("nearest", "bilinear")
        for mode in ("constant", "nearest", "wrap", "mirror", "reflect")
    ],
    ("affine_transform", BATCH, {"transform": SHIFTS, "fill_value": 0.7}),
    ("affine_transform", ONE, {"transform": SHIFT}),
    ("affine_transform", FIRST, {"transform": SHIFTS, **CHANNELS_FIRST}),
    (
        "perspective_transform",
        BATCH,
        {"start_points": np.stack([CORNERS] * 3), "end_points": np.stack([MOVED, MOVED + 1, CORNERS])},
    ),
    ("perspective_transform", BATCH, {"start_points": CORNERS, "end_points": MOVED, "fill_value": 0.5}),
    ("perspective_transform", ONE, {"start_points": CORNERS, "end_points": MOVED, "interpolation": "nearest"}),
    ("perspective_transform", FIRST, {"start_points": CORNERS, "end_points": MOVED, **CHANNELS_FIRST}),
    ("gaussian_blur", BATCH, LAST),
    ("gaussian_blur", BATCH, {"kernel_size": (5, 5), "sigma": (0.7, 2.0), **LAST}),
    ("gaussian_blur", ONE, LAST),
    ("gaussian_blur", FIRST, CHANNELS_FIRST),
    ("sobel_edges", BATCH, {}),
    ("sobel_edges", FIRST, CHANNELS_FIRST),
    ("crop_images", BATCH, {"top_cropping": 1, "bottom_cropping": 2, "left_cropping": 3, "target_width": 2}),
    ("crop_images", BATCH, {"target_height": 3, "bottom_cropping": 2, "target_width": 4, "right_cropping": 0}),
    ("crop_images", ONE, {"top_cropping": 0, "target_height": 2, "left_cropping": 3, "right_cropping": 2}),
    (
        "crop_images",
        FIRST,
        {"top_cropping": 1, "target_height": 2, "left_cropping": 3, "target_width": 2, **CHANNELS_FIRST},
    ),
    ("pad_images", BATCH, {"top_padding": 1, "bottom_padding": 2, "left_padding": 3, "target_width": 11}),
    ("pad_images", BATCH, {"target_height": 13, "bottom_padding": 2, "target_width": 14, "right_padding": 0}),
    ("pad_images", ONE, {"top_padding": 0, "target_height": 9, "left_padding": 3, "right_padding": 2}),
    (
        "pad_images",
        FIRST,
        {"top_padding": 1, "target_height": 10, "left_padding": 3, "target_width": 12, **CHANNELS_FIRST},
    ),
    ("extract_patches", BATCH, {"size": 2}),
    ("extract_patches", BATCH, {"size": (3, 2), "strides": (1, 2)}),
    ("extract_patches", BATCH, {"size": (3, 2), "strides": 2, "padding": "same"}),
    ("extract_patches", BATCH, {"size": 3, "strides": 1, "dilation_rate": 2, "padding": "same"}),
    ("extract_patches", ONE, {"size": 3}),
    ("extract_patches", FIRST, {"size": 3, "strides": 2, **CHANNELS_FIRST}),
    ("extract_patches", VOLUMES, {"size": (2, 3, 2)}),
    ("extract_patches_3d", VOLUMES, {"size": 2}),
    ("extract_patches_3d", VOLUMES, {"size": (3, 2, 2), "strides": (1, 2, 3), "padding": "same"}),
    ("extract_patches_3d", VOLUMES[1:], {"size": 2, "strides": 1, "dilation_rate": 2}),
    *[
        (
            "scale_and_translate",
            BATCH,
            {
                "output_shape": (3, *size, 3),
                "scale": np.array([0.6, 1.7], "float32"),
                "translation": np.array([0.3, -1.2], "float32"),
                "spatial_dims": (1, 2),
                "method": method,
                "antialias": antialias,
            },
        )
        for method in ("linear", "bicubic", "lanczos3", "lanczos5")
        for antialias in (False, True)
        for size in ((5, 9),)
    ],
]
IDS = {id(case): f"{case[0]}-{row}" for row, case in enumerate(CASES)}


def cases(rows, kind):
    """The mark that runs a test for the rows; the quick set has the first of each kind."""
    return pytest.mark.parametrize(("name", "shape", "arguments"), parameters(rows, kind, lambda case: IDS[id(case)]))


def name_of(case):
    return case[0]


def name_and_rank(case):
    return case[0], len(case[1])


every_case = cases(CASES, name_of)


@every_case
def test_values_and_gradients(name, shape, arguments):
    x = uniform(*shape, low=0.0)
    mine = value_and_grad(lambda x: getattr(ours, name)(x, **arguments), x)
    other = value_and_grad(lambda x: getattr(theirs, name)(x, **arguments), x)
    for one, two in zip(mine, other, strict=True):
        assert_close(one, two, rtol=1e-4, atol=1e-5)


@every_case
def test_float64(name, shape, arguments):
    x = uniform(*shape, low=0.0)
    result = getattr(ours, name)(x.double(), **arguments)
    assert result.dtype == torch.float64
    assert_close(result.float(), getattr(ours, name)(x, **arguments), rtol=1e-4, atol=1e-4)


@cases([case for case in CASES if len(case[1]) > 3 and case[1] != VOLUMES[1:]], name_of)  # symbolic inputs are batches
def test_symbolic(name, shape, arguments):
    single = {"transform": SHIFT, "start_points": CORNERS, "end_points": MOVED}  # for any number of images
    arguments = {key: single.get(key, value) for key, value in arguments.items()}
    x = uniform(*shape, low=0.0)
    symbol = Input(shape[1:])
    output = getattr(ours, name)(symbol, **arguments)
    assert_close(GraphModule([symbol], output)([x]), getattr(ours, name)(x, **arguments))


@cases(first_of_each(CASES, name_and_rank), lambda case: len(case[1]))
def test_compiles_to_one_graph(name, shape, arguments):
    x = uniform(*shape, low=0.0)
    function = getattr(ours, name)
    arguments = {key: torch.as_tensor(v) if key in TENSORS else v for key, v in arguments.items()}
    torch.compiler.reset()
    compiled = torch.compile(lambda x: function(x, **arguments), fullgraph=True, backend="eager")
    assert_close(compiled(x), function(x, **arguments))


@every_case
def test_the_arguments_are_left_alone(name, shape, arguments):
    x = uniform(*shape, low=0.0)
    tensors = {key: torch.as_tensor(v) for key, v in arguments.items() if isinstance(v, np.ndarray)}
    before = {key: v.clone() for key, v in tensors.items()}
    getattr(ours, name)(x, **{**arguments, **tensors})
    assert torch.equal(x, uniform(*shape, low=0.0))
    assert all(torch.equal(v, before[key]) for key, v in tensors.items())


WHOLE = [
    ("rgb_to_grayscale", {}),
    ("resize", {"size": (11, 5)}),
    ("resize", {"size": (11, 5), "interpolation": "bicubic"}),
    ("resize", {"size": (11, 5), "interpolation": "nearest"}),
    ("affine_transform", {"transform": SHIFTS}),
    ("affine_transform", {"transform": SHIFTS, "interpolation": "nearest", "fill_value": 9.7}),
    ("crop_images", {"top_cropping": 1, "bottom_cropping": 2, "left_cropping": 3, "target_width": 2}),
    ("pad_images", {"top_padding": 1, "bottom_padding": 2, "left_padding": 3, "target_width": 11}),
]


@pytest.mark.parametrize(("name", "arguments"), WHOLE, ids=[name for name, _ in WHOLE])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32], ids=str)
def test_whole_numbers_stay_whole(name, arguments, dtype):
    x = integers(*BATCH, high=256).to(dtype)
    mine, other = getattr(ours, name)(x, **arguments), getattr(theirs, name)(x, **arguments)
    assert mine.dtype == other.dtype == dtype
    assert int((mine.long() - other.long()).abs().max()) <= 1  # a half may be rounded either way
    assert (mine != other).float().mean() < 0.02


@pytest.mark.parametrize("mode", ["constant", "nearest", "wrap", "mirror", "reflect"])
@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("shape", [(9,), (5, 4), (3, 4, 5)], ids=str)
def test_map_coordinates(shape, order, mode):
    x = uniform(*shape)
    points = [uniform(6, 2, low=-1.5 * size, high=2.5 * size, seed=axis) for axis, size in enumerate(shape)]
    mine = value_and_grad(lambda x: ours.map_coordinates(x, points, order, mode, 0.3), x)
    other = value_and_grad(lambda x: theirs.map_coordinates(x, points, order, mode, 0.3), x)
    for one, two in zip(mine, other, strict=True):
        assert_close(one, two, atol=1e-5)


def test_map_coordinates_of_whole_numbers():
    x, points = integers(5, 4, high=100), np.array([[0.4, 1.7, 9.0], [1.2, 2.2, 0.0]], "float32")
    assert_close(ours.map_coordinates(x, points, 1), theirs.map_coordinates(x, points, 1))


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("arguments", [{}, {"alpha": 3.0, "sigma": 1.0, "fill_mode": "constant"}], ids=str)
def test_elastic_transform_draws_what_keras_draws(data_format, arguments):
    x = uniform(*(BATCH if data_format == "channels_last" else FIRST))
    results = []
    for library in (ours, theirs):
        torch.manual_seed(4)
        results.append(library.elastic_transform(x, data_format=data_format, **arguments))
    assert_close(*results, rtol=1e-4, atol=1e-4)


def test_elastic_transform_repeats_with_its_seed():
    x = uniform(*BATCH)
    first = ours.elastic_transform(x, seed=3)
    assert torch.equal(first, ours.elastic_transform(x, seed=3))
    assert not torch.equal(first, ours.elastic_transform(x, seed=4))
    assert ours.elastic_transform(x[0], seed=3).shape == ONE


def test_elastic_transform_of_nothing_is_nothing():
    x = uniform(*BATCH)
    assert_close(ours.elastic_transform(x, alpha=0.0), x)


@pytest.mark.parametrize("shape", [(2, 16, 13, 3), (16, 13, 3)], ids=str)
@pytest.mark.parametrize("arguments", [{}, {"filter_size": 5, "filter_sigma": 0.8, "max_val": 2.0}], ids=str)
def test_ssim(shape, arguments):
    x, y = uniform(*shape, low=0.0), uniform(*shape, low=0.0, seed=1)
    assert_close(ours.ssim(x, y, **arguments), theirs.ssim(x, y, **arguments), atol=1e-5)
    assert_close(ours.ssim(x, x, **arguments), torch.ones(shape[:-3]))


def test_ssim_channels_first():
    x, y = uniform(2, 3, 12, 14, low=0.0), uniform(2, 3, 12, 14, low=0.0, seed=1)
    assert_close(ours.ssim(x, y, **CHANNELS_FIRST), theirs.ssim(x, y, **CHANNELS_FIRST), atol=1e-5)


@pytest.mark.parametrize("interpolation", ["lanczos3", "lanczos5"])
@pytest.mark.parametrize("antialias", [True, False])
def test_resize_lanczos_is_a_scaling(interpolation, antialias):
    """Keras on torch refuses it; on its other backends, it is this."""
    x = uniform(*BATCH)
    resized = ours.resize(x, (5, 11), interpolation, antialias=antialias)
    scale = np.array([5 / 8, 11 / 7], "float32")
    scaled = theirs.scale_and_translate(
        x, (3, 5, 11, 3), scale, np.zeros(2, "float32"), (1, 2), interpolation, antialias
    )
    assert_close(resized, scaled, atol=1e-5)


def test_resize_lanczos_stays_in_bytes():
    x = 255 * (integers(1, 6, 6, 1, high=2)).to(torch.uint8)
    resized = ours.resize(x, (13, 13), "lanczos3")
    assert resized.dtype == torch.uint8 and resized.float().mean() > 50


def test_one_transform_for_a_whole_batch():
    x = uniform(*BATCH)
    assert_close(ours.affine_transform(x, SHIFT), ours.affine_transform(x, np.array([SHIFT] * 3, "float32")))


def test_blur_of_another_height_than_width():
    """Height and width of the kernel, but sigma along x and y, as Keras' documentation says."""
    x = torch.zeros(9, 9, 1)
    x[4, 4] = 1.0
    blurred = ours.gaussian_blur(x, kernel_size=(1, 5), sigma=(2.0, 1.0), data_format="channels_last")
    assert blurred.shape == x.shape
    assert (blurred[..., 0] > 0).nonzero()[:, 0].unique().tolist() == [4]
    assert int((blurred > 0).sum()) == 5


def test_arrays_are_taken():
    x = np.random.default_rng(0).uniform(size=BATCH)
    assert ours.resize(x, (4, 4)).shape == (3, 4, 4, 3)


MISTAKES = [
    ("rgb_to_grayscale", (4, 4), {}, "axes"),
    ("rgb_to_grayscale", (4, 4, 2), {}, "3 channels"),
    ("rgb_to_hsv", BATCH, {"data_format": "nchw"}, "data_format"),
    ("resize", BATCH, {"size": (4,)}, "height and width"),
    ("resize", BATCH, {"size": (4, 0)}, "positive"),
    ("resize", BATCH, {"size": (4, 4), "interpolation": "area"}, "bilinear"),
    ("resize", BATCH, {"size": (4, 4), "fill_mode": "wrap"}, "constant"),
    ("resize", BATCH, {"size": (4, 4), "crop_to_aspect_ratio": True, "pad_to_aspect_ratio": True}, "both"),
    ("affine_transform", BATCH, {"transform": [1.0, 0, 0]}, "8 numbers"),
    ("affine_transform", BATCH, {"transform": SHIFT, "interpolation": "bicubic"}, "nearest"),
    ("affine_transform", BATCH, {"transform": SHIFT, "fill_mode": "edge"}, "wrap"),
    ("perspective_transform", BATCH, {"start_points": CORNERS[:3], "end_points": CORNERS[:3]}, "4, 2"),
    ("perspective_transform", BATCH, {"start_points": CORNERS, "end_points": [CORNERS]}, "both"),
    ("map_coordinates", (5, 4), {"coordinates": [uniform(3)], "order": 1}, "2 coordinates"),
    ("map_coordinates", (5,), {"coordinates": [uniform(3)], "order": 2}, "order"),
    ("map_coordinates", (5,), {"coordinates": [torch.tensor(1.0)], "order": 1}, "1 axis"),
    ("crop_images", BATCH, {"top_cropping": 1, "left_cropping": 1, "target_width": 2}, "exactly two"),
    ("crop_images", BATCH, {"top_cropping": 1, "target_height": 9, "left_cropping": 1, "target_width": 2}, "negative"),
    ("pad_images", BATCH, {"top_padding": 1, "target_height": 2, "left_padding": 1, "target_width": 9}, "negative"),
    ("extract_patches", BATCH, {"size": (2, 2, 2, 2)}, "size"),
    ("extract_patches", BATCH, {"size": 2, "padding": "full"}, "padding"),
    ("extract_patches", BATCH, {"size": 2, "strides": (1, 2, 3)}, "strides"),
    (
        "scale_and_translate",
        (4,),
        {"output_shape": (2,), "scale": [1.0], "translation": [0.0], "spatial_dims": (0,), "method": "area"},
        "method",
    ),
]


@pytest.mark.parametrize(("name", "shape", "arguments", "message"), MISTAKES)
def test_mistakes_say_what_is_wrong(name, shape, arguments, message):
    with pytest.raises(ValueError, match=message):
        getattr(ours, name)(uniform(*shape), **arguments)


def test_hsv_of_whole_numbers_is_refused():
    with pytest.raises(ValueError, match="255"):
        ours.rgb_to_hsv(integers(4, 4, 3))


def test_all_of_keras_is_there():
    assert {name for name in dir(theirs) if name[0] != "_"} == {*ours.__all__}
