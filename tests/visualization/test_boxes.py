"""draw_bounding_boxes, against what Keras and OpenCV drew (tests/fixtures)."""

import builtins

import numpy as np
import pytest
import torch

from kstyle_torch import config
from kstyle_torch.visualization import draw_bounding_boxes
from tests.fixtures.drawn_boxes import CALLS, GIVEN, IMAGES


@pytest.fixture(scope="module")
def expected():
    with np.load("tests/fixtures/keras_drawn_boxes.npz") as held:
        return dict(held)


@pytest.mark.parametrize("name", CALLS)
def test_lines_are_those_of_keras(expected, name):
    images, boxes, box_format, options = CALLS[name]
    before = images.copy()
    drawn = draw_bounding_boxes(images, boxes, box_format, **options)
    assert isinstance(drawn, np.ndarray) and drawn.dtype == np.uint8
    np.testing.assert_array_equal(drawn, expected[name])
    np.testing.assert_array_equal(images, before)


def test_tensors_and_channels_first(expected):
    boxes = {name: torch.from_numpy(value) for name, value in GIVEN.items()}
    drawn = draw_bounding_boxes(
        torch.from_numpy(IMAGES).permute(0, 3, 1, 2), boxes, "xyxy", data_format="channels_first"
    )
    np.testing.assert_array_equal(drawn.transpose(0, 2, 3, 1), expected["defaults"])
    config.set_image_data_format("channels_first")
    np.testing.assert_array_equal(draw_bounding_boxes(IMAGES.transpose(0, 3, 1, 2), GIVEN, "xyxy"), drawn)


BOX = {"boxes": [[[20, 60, 100, 90]]], "labels": [[3]]}


def lettered(**options):
    """Pixels that the text changes: rows and columns."""
    options = {"class_mapping": {3: "Hen"}, "color": (255, 0, 0), **options}
    boxes = {**BOX, **options.pop("boxes", {})}
    text = draw_bounding_boxes(np.zeros((1, 120, 160, 3)), boxes, "xyxy", **options)
    bare = draw_bounding_boxes(np.zeros((1, 120, 160, 3)), boxes, "xyxy", **{**options, "class_mapping": None})
    assert text[..., 1:].max() == 0
    return np.nonzero(text[0, ..., 0] != bare[0, ..., 0])


def test_text_stands_above_its_box():
    rows, columns = lettered()
    assert 28 <= rows.min() <= 32 and rows.max() == 51  # Keras: 21 pixels high at a scale of 1, 8 above the box
    assert 18 <= columns.min() <= 25
    small, _ = lettered(font_scale=0.5)
    assert (small.max() - small.min()) * 1.7 < rows.max() - rows.min()
    assert (
        len(lettered(text_thickness=3)[0]) > len(rows) and len(lettered(text_thickness=None, line_thickness=3)[0]) > 0
    )


def test_text_without_room_stands_in_its_box():
    rows, _ = lettered(boxes={"boxes": [[[20, 20, 100, 100]]]})
    assert rows.min() > 20 and rows.max() == 20 + 2 * 12 + 1 + 3 - 1


def test_confidences_lengthen_the_text():
    assert lettered(boxes={"confidences": [[0.5]]})[1].max() > lettered()[1].max()
    assert len(lettered(class_mapping={4: "Hen"})[0]) == 0


MISTAKES = {
    "one image": (ValueError, (IMAGES[0], GIVEN, "xyxy"), "images must be a batch"),
    "list": (TypeError, (IMAGES, [1], "xyxy"), "must be a dict of 'boxes' and 'labels'; got list"),
    "no labels": (ValueError, (IMAGES, {"boxes": GIVEN["boxes"]}, "xyxy"), "must have 'boxes' and 'labels'"),
    "format": (ValueError, (IMAGES, GIVEN, "xxyy"), "Box formats must be among"),
}


@pytest.mark.parametrize(("error", "arguments", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake(error, arguments, message):
    with pytest.raises(error, match=message):
        draw_bounding_boxes(*arguments)


def test_text_without_pillow(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] == "PIL":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert draw_bounding_boxes(IMAGES, GIVEN, "xyxy").any()
    with pytest.raises(ImportError, match=r"need Pillow: pip install 'kstyle-torch\[images\]'"):
        draw_bounding_boxes(IMAGES, GIVEN, "xyxy", {0: "a"})
