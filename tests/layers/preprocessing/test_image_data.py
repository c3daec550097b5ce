"""Dicts of images with labels, masks and bounding boxes; mistakes; users' own layers on images."""

import copy

import keras
import numpy as np
import pytest
import torch

from kstyle_torch import layers
from kstyle_torch.layers.preprocessing.image.base import BaseImagePreprocessingLayer
from kstyle_torch.layers.preprocessing.image.boxes import FORMATS, from_xyxy, to_xyxy
from tests.oracle import assert_close, integers, uniform

SHAPE = (4, 20, 20, 3)
BOXES = np.array([[[2, 3, 8, 9], [10, 1, 19, 18]], [[0, 0, 5, 5], [7, 7, 12, 20]]] * 2, "float32")
UNIT = {"value_range": (0, 1)}


def data(box_format=None):
    parts = {
        "images": uniform(*SHAPE, low=0.0),
        "labels": torch.eye(4),
        "segmentation_masks": integers(4, 20, 20, 1, high=4).float(),
    }
    if box_format:
        boxes = keras.utils.bounding_boxes.convert_format(BOXES, "xyxy", box_format, height=20, width=20)
        parts["bounding_boxes"] = {"boxes": boxes, "labels": torch.tensor([[1, 2], [0, 3]] * 2)}
    return parts


def assert_same_data(ours, theirs):
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        if isinstance(value, dict):
            assert_same_data(ours[key], value)
        else:
            assert_close(ours[key], value, rtol=1e-4, atol=1e-4)


PARTS = [  # layer, arguments, format of the boxes (where Keras handles it)
    ("Resizing", {"height": 11, "width": 14}, "xyxy"),
    ("Resizing", {"height": 11, "width": 14}, "rel_xywh"),
    ("Resizing", {"height": 11, "width": 14, "crop_to_aspect_ratio": True}, "center_xywh"),
    ("Resizing", {"height": 14, "width": 11, "crop_to_aspect_ratio": True}, "xywh"),
    ("Resizing", {"height": 11, "width": 14, "pad_to_aspect_ratio": True}, "yxyx"),
    ("CenterCrop", {"height": 11, "width": 14}, "xyxy"),
    ("CenterCrop", {"height": 11, "width": 14}, "rel_yxyx"),
    ("AutoContrast", UNIT, "xyxy"),
    ("Equalization", UNIT, "xywh"),
    ("MaxNumBoundingBoxes", {"max_number": 1}, "xyxy"),
    ("MaxNumBoundingBoxes", {"max_number": 5, "fill_value": -2}, "xyxy"),
]


@pytest.mark.parametrize(
    ("name", "arguments", "box_format"), PARTS, ids=[f"{n}-{i}" for i, (n, _, _) in enumerate(PARTS)]
)
@pytest.mark.parametrize("single", [False, True])
def test_data_goes_through_what_is_not_random(name, arguments, box_format, single):
    parts = data(box_format)
    if single:
        parts = {k: {n: b[1] for n, b in v.items()} if isinstance(v, dict) else v[1] for k, v in parts.items()}
    made = [
        getattr(library, name)(**arguments, bounding_box_format=box_format)(copy.deepcopy(parts), training=True)
        for library in (layers, keras.layers)
    ]
    assert_same_data(*made)


def test_center_crop_of_small_images():
    parts = data("xyxy")
    ours, theirs = (
        library.CenterCrop(30, 10, bounding_box_format="xyxy")(copy.deepcopy(parts))
        for library in (layers, keras.layers)
    )
    assert_same_data(ours["bounding_boxes"], theirs["bounding_boxes"])
    assert_close(ours["images"], theirs["images"])


GIVEN = [
    ("RandomFlip", {}, "xyxy"),
    ("RandomFlip", {"mode": "horizontal"}, "rel_center_xywh"),
    ("RandomFlip", {"mode": "vertical"}, "center_yxhw"),
    ("RandomRotation", {"factor": 0.2}, "xyxy"),
    ("RandomTranslation", {"height_factor": 0.3, "width_factor": 0.4}, "xywh"),
    ("RandomZoom", {"height_factor": 0.3, "width_factor": 0.4}, "rel_xyxy"),
    ("RandomZoom", {"height_factor": 0.3}, "xyxy"),
    ("RandomShear", {"x_factor": 0.4}, "xyxy"),
    ("RandomPerspective", {"scale": 0.3}, "xyxy"),
    ("RandomErasing", {}, "xyxy"),
    ("RandomHue", {"factor": 0.2, **UNIT}, "xyxy"),
]


@pytest.mark.parametrize(
    ("name", "arguments", "box_format"), GIVEN, ids=[f"{n}-{i}" for i, (n, _, _) in enumerate(GIVEN)]
)
def test_boxes_and_masks_given_the_transformation(name, arguments, box_format):
    ours, theirs = (
        getattr(library, name)(**arguments, bounding_box_format=box_format) for library in (layers, keras.layers)
    )
    for seed in range(5):
        keras.utils.set_random_seed(seed)
        parts = data(box_format)
        how = theirs.get_random_transformation(parts["images"], training=True)
        seen = {**how, "input_shape": SHAPE}
        given = copy.deepcopy(parts["bounding_boxes"])
        mine = ours.transform_bounding_boxes(copy.deepcopy(given), seen, training=True)
        other = theirs.transform_bounding_boxes(given, how, training=True)
        assert_same_data(mine, other)
        masks = parts["segmentation_masks"]
        mine = ours.transform_segmentation_masks(masks, seen, training=True)
        assert_close(mine, theirs.transform_segmentation_masks(masks, how, training=True))


def framed(shape=(1, 24, 30, 1)):
    """An image with one bright rectangle, and the box around it."""
    images = torch.zeros(shape)
    images[:, 8:15, 10:22] = 1.0
    return images, torch.tensor([[[10.0, 8.0, 21.0, 14.0]]])


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("RandomFlip", {}),
        ("RandomRotation", {"factor": 0.2}),
        ("RandomTranslation", {"height_factor": 0.2, "width_factor": 0.2}),
        ("RandomZoom", {"height_factor": 0.3, "width_factor": 0.3}),
        ("RandomShear", {"x_factor": 0.2}),
        ("RandomShear", {"x_factor": 0.2, "y_factor": 0.15}),
        ("RandomPerspective", {"scale": 0.2}),
        ("RandomCrop", {"height": 20, "width": 26}),
    ],
)
@pytest.mark.parametrize("box_format", ["xyxy", "rel_yxyx"])
def test_boxes_stay_around_what_they_are_around(name, arguments, box_format):
    """On an image that is not square, where Keras' RandomShear and RandomCrop lose it."""
    images, boxes = framed()
    more = {} if name in ("RandomFlip", "RandomPerspective", "RandomCrop") else {"fill_mode": "constant"}
    layer = getattr(layers, name)(**arguments, **more, bounding_box_format=box_format, seed=2)
    boxes = from_xyxy(boxes, box_format, 24, 30)
    for _ in range(20):
        parts = {"images": images, "bounding_boxes": {"boxes": boxes, "labels": torch.zeros(1, 1)}}
        done = layer(parts, training=True)
        height, width = done["images"].shape[1:3]
        left, top, right, bottom = to_xyxy(done["bounding_boxes"]["boxes"], box_format, height, width)[0, 0].tolist()
        rows, columns = (done["images"][0, ..., 0] > 0.5).nonzero().T
        assert abs(float(columns.min()) - left) < 2 and abs(float(columns.max()) - right) < 2
        assert abs(float(rows.min()) - top) < 2 and abs(float(rows.max()) - bottom) < 2


def test_random_layers_move_images_and_masks_alike():
    images = uniform(4, 20, 20, 1).round()
    parts = {"images": images, "segmentation_masks": images}
    for layer in (layers.RandomFlip(), layers.RandomTranslation(0.3, 0.3, interpolation="nearest"), layers.CutMix()):
        done = layer(parts, training=True)
        assert torch.equal(done["images"], done["segmentation_masks"])


@pytest.mark.parametrize("name", ["CutMix", "MixUp"])
def test_labels_are_mixed_as_keras_does(name):
    ours, theirs = getattr(layers, name)(), getattr(keras.layers, name)()
    parts = data()
    how = theirs.get_random_transformation(parts["images"], training=True)
    labels = uniform(4, 6)
    assert_close(ours.transform_labels(labels, how), theirs.transform_labels(labels, how))
    assert_close(ours.transform_labels(labels, how, training=False), labels)


@pytest.mark.parametrize("name", ["CutMix", "MixUp"])
def test_labels_say_what_is_in_the_images(name):
    """Images of one color each, the color being the label: the mean color must be the mixed label."""
    color = torch.eye(3)
    parts = {"images": color[:, None, None, :].expand(3, 64, 64, 3), "labels": color}
    for _ in range(5):
        done = getattr(layers, name)((0.5, 1.0) if name == "CutMix" else 0.5)(parts, training=True)
        assert_close(done["images"].mean((1, 2)), done["labels"], atol=0.05, rtol=0.05)


def test_mix_up_keeps_the_boxes_of_both():
    parts = data("xyxy")
    done = layers.MixUp(bounding_box_format="xyxy")(parts, training=True)["bounding_boxes"]
    assert done["boxes"].shape == (4, 4, 4) and done["labels"].shape == (4, 4)
    assert_close(done["boxes"][:, :2], BOXES)


def test_rand_augment_moves_boxes_with_the_images():
    images, boxes = framed((1, 24, 30, 3))
    layer = layers.RandAugment(num_ops=1, factor=0.1, seed=1, bounding_box_format="xyxy", **UNIT)
    moved = 0
    for _ in range(30):
        parts = {"images": images, "bounding_boxes": {"boxes": boxes, "labels": torch.zeros(1, 1)}}
        done = layer(parts, training=True)
        moved += not torch.equal(done["bounding_boxes"]["boxes"], boxes)
    assert 3 < moved < 20


def test_boxes_of_different_numbers_are_filled_up():
    boxes = {"boxes": [[[1, 2, 3, 4]], [[5, 6, 7, 8], [1, 1, 2, 2]], []], "labels": [[1], [2, 3], []]}
    done = layers.RandomFlip(bounding_box_format="xyxy")({"images": torch.zeros(3, 9, 9, 1), "bounding_boxes": boxes})
    assert done["bounding_boxes"]["boxes"].shape == (3, 2, 4)
    assert done["bounding_boxes"]["labels"].tolist() == [[1, -1], [2, 3], [-1, -1]]


@pytest.mark.parametrize("source", FORMATS)
def test_box_formats(source):
    boxes = uniform(3, 2, 4, low=0.0)
    convert = keras.utils.bounding_boxes.convert_format
    assert_close(to_xyxy(boxes, source, 20, 30), convert(boxes, source, "xyxy", 20, 30))
    assert_close(from_xyxy(boxes, source, 20, 30), convert(boxes, "xyxy", source, 20, 30))


def test_the_dict_is_left_alone():
    parts = data("xyxy")
    before = copy.deepcopy(parts)
    layers.RandomFlip(bounding_box_format="xyxy")(parts, training=True)
    assert_same_data(parts, before)


def test_arrays_in_a_dict():
    parts = {"images": np.zeros((2, 4, 4, 3), "uint8"), "labels": np.array([0, 1])}
    done = layers.RandomFlip()(parts, training=True)
    assert done["images"].dtype == torch.float32 and done["labels"].tolist() == [0, 1]


class Shift(BaseImagePreprocessingLayer):
    """A user's layer, as written for Keras."""

    def get_random_transformation(self, data, training=True, seed=None):
        images = data["images"] if isinstance(data, dict) else data
        return {"by": torch.rand(len(images), 1, 1, 1)} if training else None

    def transform_images(self, images, transformation, training=True):
        return images + transformation["by"] if training else images

    def transform_labels(self, labels, transformation, training=True):
        return labels + transformation["by"][:, 0, 0] if training else labels


def test_a_layer_of_ones_own():
    layer = Shift()
    parts = {"images": torch.zeros(5, 4, 4, 3), "labels": torch.zeros(5, 1)}
    done = layer(parts, training=True)
    assert torch.equal(done["images"][:, 0, 0, :1], done["labels"]) and len(done["labels"].unique()) == 5
    assert layer(parts)["images"].any() and not layer(parts, training=False)["images"].any()
    assert layer({"images": torch.zeros(4, 4, 3), "labels": torch.zeros(1)}, training=True)["labels"].shape == (1,)
    with pytest.raises(NotImplementedError, match="Shift does not support segmentation masks"):
        layer({"images": torch.zeros(5, 4, 4, 3), "segmentation_masks": torch.zeros(5, 4, 4, 1)})


MISTAKES = [
    ("RandomFlip", {"mode": "diagonal"}, "diagonal"),
    ("RandomFlip", {"seed": "a"}, "seed"),
    ("RandomFlip", {"data_format": "nchw"}, "data_format"),
    ("RandomFlip", {"bounding_box_format": "coco"}, "center_xywh"),
    ("RandomRotation", {"factor": 2}, "factor"),
    ("RandomRotation", {"factor": (0.1, 0.2, 0.3)}, "factor"),
    ("RandomRotation", {"factor": "a"}, "factor"),
    ("RandomRotation", {"factor": 0.1, "fill_mode": "edge"}, "fill_mode"),
    ("RandomRotation", {"factor": 0.1, "interpolation": "cubic"}, "interpolation"),
    ("RandomTranslation", {"height_factor": 0.1, "width_factor": 1.1}, "width_factor"),
    ("RandomZoom", {"height_factor": (-1.0, 0.3)}, "greater than -1"),
    ("RandomShear", {"x_factor": -0.1}, "x_factor"),
    ("RandomPerspective", {"scale": 1.5}, "scale"),
    ("RandomElasticTransform", {"fill_mode": "edge"}, "fill_mode"),
    ("RandomContrast", {"factor": -0.5}, "factor"),
    ("RandomBrightness", {"factor": 0.5, "value_range": 255}, "value_range"),
    ("RandomGrayscale", {"factor": 1.5}, "factor"),
    ("RandomPosterization", {"factor": 0.5}, "factor"),
    ("RandomGaussianBlur", {"kernel_size": 4}, "odd"),
    ("Solarization", {"addition_factor": 1.5}, "addition_factor"),
    ("MixUp", {"alpha": 0}, "alpha"),
    ("Resizing", {"height": 0, "width": 3}, "positive"),
    ("Resizing", {"height": 3, "width": 3, "interpolation": "area"}, "interpolation"),
    ("CenterCrop", {"height": 3, "width": 3.5}, "positive integers"),
    ("MaxNumBoundingBoxes", {"max_number": -1}, "max_number"),
    ("ContrastLimitedAdaptiveHistogramEqualization", {"tile_grid_size": (8,)}, "tile_grid_size"),
]


@pytest.mark.parametrize(("name", "arguments", "message"), MISTAKES)
def test_mistakes_in_the_constructor(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        getattr(layers, name)(**arguments)


CALLS = [
    (torch.zeros(4, 4), "3 axes"),
    ({"labels": torch.zeros(4)}, "'images'"),
    ({"images": torch.zeros(2, 4, 4, 3), "bounding_boxes": {"boxes": torch.zeros(2, 1, 4)}}, "format"),
]


@pytest.mark.parametrize(("given", "message"), CALLS, ids=[message for _, message in CALLS])
def test_mistakes_in_the_call(given, message):
    with pytest.raises(ValueError, match=message):
        layers.RandomFlip()(given)


@pytest.mark.parametrize(
    "boxes",
    [
        {"boxes": torch.zeros(2, 1, 4)},
        {"boxes": torch.zeros(2, 1, 3), "labels": torch.zeros(2, 1)},
        {"boxes": torch.zeros(2, 1, 4), "labels": torch.zeros(2, 3)},
    ],
    ids=["no-labels", "three-numbers", "other-length"],
)
def test_mistakes_in_the_boxes(boxes):
    with pytest.raises(ValueError, match="bounding_boxes must"):
        layers.RandomFlip(bounding_box_format="xyxy")({"images": torch.zeros(2, 4, 4, 3), "bounding_boxes": boxes})


@pytest.mark.parametrize("name", ["RandomElasticTransform", "CutMix"])
def test_boxes_are_refused_where_they_cannot_be_moved(name):
    layer = getattr(layers, name)(bounding_box_format="xyxy")
    with pytest.raises(NotImplementedError, match="bounding boxes"):
        layer(data("xyxy"), training=True)


def test_all_of_keras_is_there():
    names = {name for name in dir(keras.layers) if name.startswith("Random")}
    names |= {
        "AugMix",
        "AutoContrast",
        "CenterCrop",
        "CutMix",
        "Equalization",
        "MaxNumBoundingBoxes",
        "MixUp",
        "RandAugment",
    }
    assert names | {"Resizing", "Solarization"} <= {*layers.__all__}
