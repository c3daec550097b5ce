"""draw_segmentation_masks, against Keras."""

import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch.visualization import draw_segmentation_masks

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.uniform(0, 255, (2, 6, 7, 3)).astype("float32")
MASKS = RANDOM.integers(0, 4, (2, 6, 7, 1))
HOLED = np.where(RANDOM.uniform(size=MASKS.shape) < 0.3, -1, MASKS)
COLORS = {0: (1, 2, 3), 1: (255, 0, 0), 2: (0, 255, 0), 3: (9, 99, 199)}
CALLS = {
    "defaults": (MASKS, {"num_classes": 4}),
    "more classes": (MASKS, {"num_classes": 9}),
    "colors": (MASKS, {"num_classes": 4, "color_mapping": COLORS}),
    "alpha": (MASKS, {"num_classes": 4, "alpha": 0.25}),
    "not blended": (MASKS, {"num_classes": 4, "blend": False}),
    "ignored": (MASKS, {"num_classes": 4, "ignore_index": 2}),
    "holes": (HOLED, {"num_classes": 4}),
    "bytes": (MASKS.astype("uint8"), {"num_classes": 4}),
}


@pytest.mark.parametrize(("masks", "options"), CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("first", [False, True])
def test_pixels_equal_keras(keras, first, masks, options):
    moved = [x.transpose(0, 3, 1, 2) if first else x for x in (IMAGES, masks)]
    data_format = "channels_first" if first else "channels_last"
    ours, theirs = (
        np.asarray(lib.visualization.draw_segmentation_masks(*moved, **options, data_format=data_format))
        for lib in (ks, keras)
    )
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)


def test_masks_without_channels_and_tensors():
    expected = draw_segmentation_masks(IMAGES, MASKS)
    np.testing.assert_array_equal(draw_segmentation_masks(IMAGES, MASKS[..., 0], 4), expected)
    np.testing.assert_array_equal(draw_segmentation_masks(torch.from_numpy(IMAGES), torch.from_numpy(MASKS)), expected)


def test_the_background_without_a_color_stays():
    drawn = draw_segmentation_masks(IMAGES, MASKS, color_mapping={key: COLORS[key] for key in (1, 2, 3)})
    colored = draw_segmentation_masks(IMAGES, MASKS, color_mapping=COLORS)
    is_background = MASKS[..., 0] == 0
    np.testing.assert_array_equal(drawn[is_background], IMAGES[is_background].astype("uint8"))
    np.testing.assert_array_equal(drawn[~is_background], colored[~is_background])


MISTAKES = {
    "one image": (ValueError, (IMAGES[0], MASKS[0], 4), {}, "images must be a batch"),
    "floats": (TypeError, (IMAGES, MASKS * 1.0, 4), {}, "must be of integers; got float64"),
    "class": (ValueError, (IMAGES, MASKS, 3), {}, "has the class 3; with num_classes=3 that is too large"),
    "color": (ValueError, (IMAGES, MASKS, 4), {"color_mapping": {1: (1, 2, 3)}}, "no color for class 2"),
}


@pytest.mark.parametrize(("error", "arguments", "options", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake(error, arguments, options, message):
    with pytest.raises(error, match=message):
        draw_segmentation_masks(*arguments, **options)
