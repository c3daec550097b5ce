"""utils.bounding_boxes, against Keras."""

import inspect
import itertools

import numpy as np
import pytest
import torch
from oracle import assert_close

import kstyle_torch as ks
from kstyle_torch.layers.preprocessing.image.boxes import FORMATS
from kstyle_torch.utils import bounding_boxes

SIZE = {"height": 40, "width": 60}
SHAPE = (40, 60, 3)
random = np.random.default_rng(0)
CORNERS = np.sort(random.uniform(0, 40, (2, 5, 2, 2)), axis=2).reshape(2, 5, 4).astype("float32")
OTHERS = np.sort(random.uniform(0, 40, (2, 3, 2, 2)), axis=2).reshape(2, 3, 4).astype("float32")
BEYOND = np.array([[[-10, -5, 30, 20], [10, 10, 90, 50], [-9, -9, -2, -3], [70, 5, 80, 9]]], "float32")
LABELS = np.array([[0, 1, 2, 3]])
FACTORS = [np.array(values, "float32") for values in [(30, -10), (0.1, -0.2), (0.3, 0.1), (1.2, 0.7), (5, 20), (-7, 3)]]


def in_format(boxes, box_format, keras):
    return keras.utils.bounding_boxes.convert_format(boxes, "xyxy", box_format, **SIZE)


@pytest.mark.parametrize(("source", "target"), [*itertools.product(FORMATS, FORMATS)])
def test_formats_equal_keras(keras, source, target):
    boxes = np.asarray(in_format(CORNERS, source, keras))
    theirs = keras.utils.bounding_boxes.convert_format(boxes, source, target, **SIZE)
    assert_close(bounding_boxes.convert_format(boxes, source, target, **SIZE), theirs, atol=1e-4)


def test_a_dict_is_converted_in_place(keras):
    for package in (keras, ks):
        given = {"boxes": CORNERS[0], "labels": LABELS[0]}
        returned = package.utils.bounding_boxes.convert_format(given, "XYXY", "xywh", dtype="float64")
        assert returned is given and "float64" in str(given["boxes"].dtype)


def test_sizes_per_image(keras):
    sizes = [np.array(values, "float32").reshape(2, 1, 1) for values in [(40, 20), (60, 30)]]
    ours, theirs = (p.utils.bounding_boxes.convert_format(CORNERS, "xyxy", "rel_yxyx", *sizes) for p in (ks, keras))
    assert_close(ours, theirs)


CALLS = {
    "clip": ("clip_to_image_size", ({"boxes": BEYOND, "labels": LABELS}, 40, 60), {}),
    "clip without labels": ("clip_to_image_size", ({"boxes": BEYOND}, 40, 60), {}),
    "clip, relative": (
        "clip_to_image_size",
        ({"boxes": BEYOND / 50, "labels": LABELS},),
        {"bounding_box_format": "rel_xyxy"},
    ),
    "crop": ("crop", (BEYOND, 5, 8, 30, 40), {}),
    "crop, integers": ("crop", (BEYOND.astype("int64"), 5, 8, 30, 40), {}),
    "pad": ("pad", (BEYOND, 5, 8), {"height": 70, "width": 90}),
    "affine": ("affine_transform", (CORNERS, *FACTORS, 40, 60), {}),
    "affine, center": ("affine_transform", (CORNERS, *FACTORS, 40, 60), {"center_x": 0.2, "center_y": 0.9}),
    "iou": ("compute_iou", (CORNERS, OTHERS, "xyxy"), {}),
    "iou, unbatched": ("compute_iou", (CORNERS[0], OTHERS[0], "xyxy"), {}),
    "iou, first batched": ("compute_iou", (CORNERS, OTHERS[0], "yxyx"), {}),
    "iou, second batched": ("compute_iou", (CORNERS[0], OTHERS, "xywh"), {}),
    "iou, relative": ("compute_iou", (CORNERS / 60, OTHERS / 60, "rel_xyxy"), {"image_shape": SHAPE}),
    "iou, masked": (
        "compute_iou",
        (np.where([[[0], [1], [0], [0], [1]]] * 2, -1, CORNERS), OTHERS, "xyxy"),
        {"use_masking": True, "mask_val": -3},
    ),
    "ciou": ("compute_ciou", (CORNERS[:, :3], OTHERS, "xyxy"), {}),
    "ciou, centers": ("compute_ciou", (CORNERS[0, :3], OTHERS[0], "center_xywh"), {}),
    "encode": ("encode_box_to_deltas", (CORNERS[0], CORNERS[1], "xyxy", "xyxy"), {}),
    "encode, batch": (
        "encode_box_to_deltas",
        (CORNERS[0], CORNERS, "yxyx", "xywh", "center_xywh", [0.1, 0.1, 0.2, 0.2]),
        {},
    ),
    "encode, relative": (
        "encode_box_to_deltas",
        (CORNERS[0], CORNERS[1] / 60, "xyxy", "rel_xyxy"),
        {"image_shape": SHAPE},
    ),
    "decode": ("decode_deltas_to_boxes", (CORNERS[0], CORNERS / 40, "xyxy", "xyxy"), {}),
    "decode, variance": (
        "decode_deltas_to_boxes",
        (CORNERS[0], CORNERS / 40, "xyxy", "rel_xywh", "center_xywh"),
        {"variance": [0.1, 0.1, 0.2, 0.2], "image_shape": SHAPE},
    ),
    "decode, levels": (
        "decode_deltas_to_boxes",
        ({1: CORNERS[0], 2: OTHERS[0]}, {1: CORNERS / 40, 2: OTHERS / 40}, "xyxy", "xyxy"),
        {},
    ),
}


@pytest.mark.parametrize(("name", "args", "kwargs"), CALLS.values(), ids=CALLS)
def test_a_function_equals_keras(keras, name, args, kwargs):
    theirs_args = ks.tree.map_structure(
        lambda leaf: keras.ops.convert_to_tensor(leaf) if isinstance(leaf, np.ndarray) else leaf, args
    )  # Keras splits tensors only
    theirs = getattr(keras.utils.bounding_boxes, name)(*theirs_args, **kwargs)
    ours = getattr(bounding_boxes, name)(*args, **kwargs)
    ks.tree.map_structure(lambda *leaves: assert_close(*leaves, rtol=1e-4, atol=1e-4), ours, theirs)


def test_a_masked_overlap_of_boxes_with_different_batches():
    masked = torch.tensor([[-1.0, -1, -1, -1], [0, 0, 2, 2]])
    iou = bounding_boxes.compute_iou(torch.tensor([[[0.0, 0, 2, 2]]] * 2), masked, "xyxy", use_masking=True)
    assert_close(iou, np.array([[[-1, 1]]] * 2, "float32"))


def test_relative_boxes_in_the_complete_overlap():
    ours = bounding_boxes.compute_ciou(CORNERS[:, :3] / 60, OTHERS / 60, "rel_xyxy", image_shape=(60, 60, 3))
    assert_close(ours, bounding_boxes.compute_ciou(CORNERS[:, :3], OTHERS, "xyxy"), atol=1e-5)


def test_symbolic_boxes():
    inputs = ks.Input((5, 4))
    model = ks.Model(inputs, bounding_boxes.compute_iou(inputs, OTHERS[0], "xywh"))
    assert_close(model(torch.from_numpy(CORNERS)), bounding_boxes.compute_iou(CORNERS, OTHERS[0], "xywh"))


MISTAKES = {
    "format": (ValueError, lambda b: b.convert_format(CORNERS, "xyxy", "yyxx")),
    "last axis": (ValueError, lambda b: b.convert_format(CORNERS[..., :3], "xyxy", "xywh")),
    "no size": (ValueError, lambda b: b.convert_format(CORNERS, "xyxy", "rel_xywh")),
    "no size to clip": (ValueError, lambda b: b.clip_to_image_size({"boxes": CORNERS}, 40)),
    "clip": (NotImplementedError, lambda b: b.clip_to_image_size({"boxes": CORNERS}, 4, 6, "xywh")),
    "crop": (NotImplementedError, lambda b: b.crop(CORNERS, 1, 1, 4, 6, "xywh")),
    "pad": (NotImplementedError, lambda b: b.pad(CORNERS, 1, 1, bounding_box_format="xywh")),
    "affine": (
        NotImplementedError,
        lambda b: b.affine_transform(CORNERS, *FACTORS, 40, 60, bounding_box_format="xywh"),
    ),
    "axes": (ValueError, lambda b: b.compute_iou(CORNERS[None], OTHERS, "xyxy")),
    "no shape": (ValueError, lambda b: b.compute_iou(CORNERS, OTHERS, "rel_xyxy")),
    "no shape, ciou": (ValueError, lambda b: b.compute_ciou(CORNERS, CORNERS, "rel_xyxy")),
    "encoding": (ValueError, lambda b: b.encode_box_to_deltas(CORNERS[0], CORNERS, "xyxy", "xyxy", "xyxy")),
    "variance": (ValueError, lambda b: b.decode_deltas_to_boxes(CORNERS[0], CORNERS, "xyxy", "xyxy", variance=[1.0])),
}


@pytest.mark.parametrize(("error", "call"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_raises_what_keras_raises(keras, error, call):
    for package in (keras, ks):
        with pytest.raises(error):
            call(package.utils.bounding_boxes)


@pytest.mark.parametrize("name", bounding_boxes.__all__)
def test_signatures_equal_keras(keras, name):
    ours, theirs = (inspect.signature(getattr(each, name)) for each in (bounding_boxes, keras.utils.bounding_boxes))
    assert [(p.name, p.default) for p in ours.parameters.values()] == [
        (p.name, p.default) for p in theirs.parameters.values()
    ]
