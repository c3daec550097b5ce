"""Galleries: the calls of matplotlib, which the tests do without, are those that Keras makes."""

import inspect
import sys
import types

import numpy as np
import pytest

import kstyle_torch as ks

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.uniform(0, 255, (4, 12, 12, 3)).astype("float32")
BOXES = {"boxes": RANDOM.integers(0, 12, (4, 2, 4)).astype("float32"), "labels": RANDOM.integers(0, 2, (4, 2))}
MASKS = RANDOM.integers(0, 3, (4, 12, 12, 1))
NAMES = {0: "cat", 1: "dog"}


class Axis:
    """An axis that remembers what is drawn on it."""

    def __init__(self):
        self.drawn = {}

    def imshow(self, image):
        self.drawn["image"] = image

    def set_title(self, text, fontsize):
        self.drawn["title"] = text, fontsize

    def axis(self, state):
        self.drawn["axis"] = state

    def margins(self, x, y):
        self.drawn["margins"] = x, y


class Pyplot(types.ModuleType):
    """The part of matplotlib.pyplot that galleries use, which remembers its calls."""

    def __init__(self):
        super().__init__("matplotlib.pyplot")
        self.calls, self.axes = [], []

    def subplots(self, nrows, ncols, squeeze, **kwargs):
        self.calls.append(("subplots", nrows, ncols, kwargs))
        axes = np.array([[Axis() for _ in range(ncols)] for _ in range(nrows)])
        self.axes = axes.ravel()
        figure = types.SimpleNamespace(
            subplots_adjust=lambda **kwargs: self.calls.append(("adjust", kwargs)),
            legend=lambda handles, loc: self.calls.append(("legend", handles, loc)),
        )
        return figure, (axes.squeeze() if axes.size > 1 else axes[0, 0]) if squeeze else axes

    def savefig(self, **kwargs):
        self.calls.append(("savefig", kwargs))

    def show(self):
        self.calls.append("show")

    def close(self):
        self.calls.append("close")


def patch(color, label):
    return color.tolist(), label


@pytest.fixture
def plotted(monkeypatch, keras):
    """Runs a gallery, and gives the calls it makes and what is on the axes."""

    def run(lib, name, *args, **kwargs):
        pyplot = Pyplot()
        patches = types.ModuleType("matplotlib.patches")
        patches.Patch = patch
        matplotlib = types.ModuleType("matplotlib")
        matplotlib.pyplot, matplotlib.patches = pyplot, patches
        for module in (matplotlib, pyplot, patches):
            monkeypatch.setitem(sys.modules, module.__name__, module)
        inside = sys.modules["keras.src.visualization.plot_image_gallery"]
        monkeypatch.setattr(inside, "plt", pyplot)
        monkeypatch.setattr(sys.modules["keras.src.visualization.plot_bounding_box_gallery"], "patches", patches)
        assert getattr(lib.visualization, name)(*args, **kwargs) is None
        return pyplot.calls, [axis.drawn for axis in pyplot.axes]

    return run


def assert_same(ours, theirs):
    assert ours[0] == theirs[0]
    assert len(ours[1]) == len(theirs[1])
    for mine, other in zip(ours[1], theirs[1], strict=True):
        np.testing.assert_array_equal(mine.pop("image"), other.pop("image"))
        assert mine == other


CALLS = {
    "images": ("plot_image_gallery", (IMAGES,), {}),
    "one": ("plot_image_gallery", (IMAGES[:1],), {"scale": 5}),
    "row": ("plot_image_gallery", (IMAGES,), {"rows": 1, "cols": 3}),
    "column": ("plot_image_gallery", (IMAGES,), {"rows": 4, "cols": 1}),
    "range": ("plot_image_gallery", (IMAGES / 255,), {"value_range": (0, 1)}),
    "centered": ("plot_image_gallery", (IMAGES / 127.5 - 1,), {"value_range": (-1, 1)}),
    "labels": ("plot_image_gallery", (IMAGES, np.array([0, 1, 1, 2])), {"label_map": NAMES}),
    "both": ("plot_image_gallery", (IMAGES, np.array([0, 1]), np.array([1, 1, 0, 0])), {"label_map": NAMES}),
    "file": ("plot_image_gallery", (IMAGES,), {"path": "x.png", "dpi": 90, "transparent": False}),
    "hidden": ("plot_image_gallery", (IMAGES,), {"show": False}),
    "handles": ("plot_image_gallery", (IMAGES,), {"legend_handles": ["patch"]}),
    "masks": ("plot_segmentation_mask_gallery", (IMAGES, 3), {"y_true": MASKS}),
    "masks, both": (
        "plot_segmentation_mask_gallery",
        (IMAGES, 4),
        {"y_true": MASKS, "y_pred": MASKS * 0 + 3, "alpha": 0.5},
    ),
    "no masks": ("plot_segmentation_mask_gallery", (IMAGES, 3), {"scale": 3}),
    "no boxes": ("plot_bounding_box_gallery", (IMAGES, "xyxy"), {"legend": True}),
}


@pytest.mark.parametrize(("name", "args", "kwargs"), CALLS.values(), ids=CALLS)
def test_calls_are_those_of_keras(keras, plotted, name, args, kwargs):
    assert_same(*(plotted(lib, name, *args, **kwargs) for lib in (ks, keras)))


def test_boxes_are_drawn_on_the_images(plotted):
    """Keras needs OpenCV for it."""
    _, drawn = plotted(
        ks,
        "plot_bounding_box_gallery",
        IMAGES,
        "xywh",
        BOXES,
        BOXES,
        class_mapping=NAMES,
        prediction_mapping={1: "bird"},
    )
    draw = ks.visualization.draw_bounding_boxes
    expected = draw(IMAGES, BOXES, "xywh", NAMES, (0, 188, 212), text_thickness=None)
    expected = draw(expected, BOXES, "xywh", {1: "bird"}, (255, 235, 59), text_thickness=None)
    np.testing.assert_array_equal(np.stack([axis["image"] for axis in drawn]), expected)
    assert not np.array_equal(expected, IMAGES.astype("uint8"))


@pytest.mark.parametrize("name", ["plot_image_gallery", "plot_bounding_box_gallery", "plot_segmentation_mask_gallery"])
def test_shares_channels_first_are_shown_as_bytes_channels_last(plotted, name):
    """Keras scales and turns images twice there."""
    given, kwargs = {"plot_image_gallery": ((), {}), "plot_bounding_box_gallery": (("xyxy",), {"y_true": BOXES})}.get(
        name, ((3,), {"y_true": MASKS})
    )
    whole = (IMAGES.astype("uint8") / np.float32(255)).astype("float32")
    _, expected = plotted(ks, name, IMAGES.astype("uint8"), *given, **kwargs)
    kwargs = {key: value if isinstance(value, dict) else value.transpose(0, 3, 1, 2) for key, value in kwargs.items()}
    first = {"value_range": (0, 1), "data_format": "channels_first", **kwargs}
    _, drawn = plotted(ks, name, whole.transpose(0, 3, 1, 2), *given, **first)
    for mine, other in zip(drawn, expected, strict=True):
        assert np.abs(mine["image"].astype(int) - other["image"]).max() <= 1


@pytest.mark.parametrize("number", [3, 5, 7])
def test_every_image_has_a_place(plotted, number):
    """Keras leaves some out where their number is not that of a full rectangle."""
    images = RANDOM.uniform(0, 255, (number, 4, 4, 3))
    _, drawn = plotted(ks, "plot_image_gallery", images)
    assert sum("image" in axis for axis in drawn) == number and all(axis["axis"] == "off" for axis in drawn)


MISTAKES = {
    "path and show": ("plot_image_gallery", (IMAGES,), {"path": "x", "show": True}),
    "no names": ("plot_image_gallery", (IMAGES,), {"y_true": [0, 1, 1, 1]}),
    "one image": ("plot_image_gallery", (IMAGES[0],), {}),
    "one image with boxes": ("plot_bounding_box_gallery", (IMAGES[0], "xyxy"), {}),
    "one image with masks": ("plot_segmentation_mask_gallery", (IMAGES[0], 3), {}),
    "two legends": ("plot_bounding_box_gallery", (IMAGES, "xyxy"), {"legend": True, "legend_handles": ["x"]}),
}


@pytest.mark.parametrize(("name", "args", "kwargs"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_raises_what_keras_raises(keras, plotted, name, args, kwargs):
    for lib in (ks, keras):
        with pytest.raises(ValueError):
            plotted(lib, name, *args, **kwargs)


@pytest.mark.parametrize(("name", "args", "kwargs"), [CALLS["images"], CALLS["masks"], CALLS["no boxes"]])
def test_without_matplotlib(monkeypatch, name, args, kwargs):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"need matplotlib: pip install 'kstyle-torch\[plot\]'"):
        getattr(ks.visualization, name)(*args, **kwargs)


@pytest.mark.parametrize("name", ks.visualization.__all__)
def test_signatures_equal_keras(keras, name):
    ours, theirs = (inspect.signature(getattr(lib.visualization, name)).parameters.values() for lib in (ks, keras))
    assert [(p.name, p.default, p.kind) for p in ours] == [(p.name, p.default, p.kind) for p in theirs]
