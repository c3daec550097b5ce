"""NASNetMobile and NASNetLarge: two kinds of cells that a search found on small images, stacked for large ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from kstyle_torch import config, layers
from kstyle_torch.applications import imagenet_utils
from kstyle_torch.applications._arguments import Arguments, architecture
from kstyle_torch.applications._shapes import pads_before_stride
from kstyle_torch.applications._weights_file import WeightsFile
from kstyle_torch.applications.imagenet_utils import decode_predictions
from kstyle_torch.models.functional import Functional
from kstyle_torch.symbolic.tensor import SymbolicTensor

__all__ = ["NASNetLarge", "NASNetMobile", "decode_predictions", "preprocess_input"]


class _Variant(NamedTuple):
    """Size of the images, width and depth of a network."""

    default_size: int
    stem_filters: int
    filters: int  # of the normal cells at the highest resolution; they double with each reduction
    repeats: int  # normal cells at each resolution
    skips_reductions: bool  # whether the next cell's `before` is the reduction's `before`, in place of its input
    files: dict[bool, WeightsFile]


MOBILE = _Variant(
    default_size=224,
    stem_filters=32,
    filters=44,
    repeats=4,
    skips_reductions=False,
    files={
        True: WeightsFile("nasnet/NASNet-mobile.h5", "020fb642bf7360b370c678b08e0adf61", "nasnet_mobile.h5"),
        False: WeightsFile(
            "nasnet/NASNet-mobile-no-top.h5", "1ed92395b5b598bdda52abe5c0dbfd63", "nasnet_mobile_no_top.h5"
        ),
    },
)
LARGE = _Variant(
    default_size=331,
    stem_filters=96,
    filters=168,
    repeats=6,
    skips_reductions=True,
    files={
        True: WeightsFile("nasnet/NASNet-large.h5", "11577c9a518f0070763c2b964a382f17", "nasnet_large.h5"),
        False: WeightsFile(
            "nasnet/NASNet-large-no-top.h5", "d81d89dc07e6e56530c4e77faddd61b5", "nasnet_large_no_top.h5"
        ),
    },
)


@architecture
def NASNetMobile(  # noqa: N802, a class to its callers
    input_shape: Any = None,
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: Any = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = "nasnet_mobile",
) -> Functional:
    """Makes NASNetMobile, for images of 224 x 224, at least 32 x 32, that went through `nasnet.preprocess_input`.

    Source: Zoph et al. 2018, Learning Transferable Architectures for Scalable Image Recognition,
        https://arxiv.org/abs/1707.07012.
    """
    arguments = Arguments(
        include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name
    )
    return _nasnet(arguments, MOBILE)


@architecture
def NASNetLarge(  # noqa: N802, a class to its callers
    input_shape: Any = None,
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: Any = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = "nasnet_large",
) -> Functional:
    """Makes NASNetLarge, for images of 331 x 331, at least 32 x 32, that went through `nasnet.preprocess_input`.

    Source: Zoph et al. 2018, Learning Transferable Architectures for Scalable Image Recognition,
        https://arxiv.org/abs/1707.07012.
    """
    arguments = Arguments(
        include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name
    )
    return _nasnet(arguments, LARGE)


def _nasnet(arguments: Arguments, variant: _Variant) -> Functional:
    if config.image_data_format() == "channels_first":
        raise ValueError('NASNet needs channels last; call config.set_image_data_format("channels_last") first.')
    if arguments.input_shape is None:  # zeros are added by the size: for any, only few sizes would go through
        size = variant.default_size
        arguments = dataclasses.replace(arguments, input_shape=(size, size, 3))
    image = arguments.image(variant.default_size, min_size=32)
    x = _cells(image, variant)
    x = layers.Activation("relu")(x)
    x = arguments.predictions(layers.GlobalAveragePooling2D()(x)) if arguments.include_top else arguments.pooled(x)
    return arguments.model(image, x, variant.files[bool(arguments.include_top)])


def _cells(x: SymbolicTensor, variant: _Variant) -> SymbolicTensor:
    """Returns the output of the last cell.

    Each cell reads the output of the cell before it, and as `before` that of an earlier one, fitted to it.
    """
    x = layers.Conv2D(
        variant.stem_filters, 3, strides=2, use_bias=False, kernel_initializer="he_normal", name="stem_conv1"
    )(x)
    x = _normalize(x, "stem_bn1")
    before, x = x, _reduction_cell(x, x, variant.filters // 4, "stem_1")
    before, x = x, _reduction_cell(x, _halve(before, variant.filters // 2, "stem_2"), variant.filters // 2, "stem_2")
    for stage in range(3):
        filters, first = variant.filters * 2**stage, stage * variant.repeats
        if stage:
            cell = f"reduce_{first}"
            reduced = _reduction_cell(x, _project(before, filters, cell), filters, cell)
            before, x = before if variant.skips_reductions else x, reduced
        for number in range(variant.repeats):
            cell = str(first + number + (stage > 0))  # of the reductions, only the first counts
            fit = _project if number else _halve  # the first cell follows a reduction
            before, x = x, _normal_cell(x, fit(before, filters, cell), filters, cell)
    return x


def _normal_cell(x: SymbolicTensor, before: SymbolicTensor, filters: int, cell: str) -> SymbolicTensor:
    """Returns the output of a cell that keeps the resolution."""

    def separable(source: SymbolicTensor, kernel: int, place: str) -> SymbolicTensor:
        return _convolve_separably(source, filters, kernel, f"normal_{place}_{cell}")

    def average(source: SymbolicTensor, place: str) -> SymbolicTensor:
        return layers.AveragePooling2D(3, strides=1, padding="same", name=f"normal_{place}_{cell}")(source)

    def add(number: int, left: SymbolicTensor, right: SymbolicTensor) -> SymbolicTensor:
        return layers.Add(name=f"normal_add_{number}_{cell}")([left, right])

    x = _squeeze(x, filters, "normal", cell)
    outputs = [
        before,
        add(1, separable(x, 5, "left1"), separable(before, 3, "right1")),
        add(2, separable(before, 5, "left2"), separable(before, 3, "right2")),
        add(3, average(x, "left3"), before),
        add(4, average(before, "left4"), average(before, "right4")),
        add(5, separable(x, 3, "left5"), x),
    ]
    return layers.Concatenate(axis=-1, name=f"normal_concat_{cell}")(outputs)


def _reduction_cell(x: SymbolicTensor, before: SymbolicTensor, filters: int, cell: str) -> SymbolicTensor:
    """Returns the output of a cell that halves the resolution."""

    def separable(source: SymbolicTensor, kernel: int, place: str, strides: int = 2) -> SymbolicTensor:
        return _convolve_separably(source, filters, kernel, f"reduction_{place}_{cell}", strides)

    def pool(layer: Callable[..., layers.Layer], place: str) -> SymbolicTensor:
        return layer(3, strides=2, name=f"reduction_{place}_{cell}")(padded)

    def add(name: str, left: SymbolicTensor, right: SymbolicTensor) -> SymbolicTensor:
        return layers.Add(name=f"reduction_{name}_{cell}")([left, right])

    x = _squeeze(x, filters, "reduction", cell)
    padded = layers.ZeroPadding2D(pads_before_stride(x, 3), name=f"reduction_pad_1_{cell}")(x)
    first = add("add_1", separable(x, 5, "left1"), separable(before, 7, "right1"))
    second = add("add_2", pool(layers.MaxPooling2D, "left2"), separable(before, 7, "right2"))
    third = add("add3", pool(layers.AveragePooling2D, "left3"), separable(before, 5, "right3"))
    smoothed = layers.AveragePooling2D(3, strides=1, padding="same", name=f"reduction_left4_{cell}")(first)
    fourth = layers.Add()([second, smoothed])
    fifth = add("add4", separable(first, 3, "left4", strides=1), pool(layers.MaxPooling2D, "right5"))
    outputs = [second, third, fourth, fifth]
    return layers.Concatenate(axis=-1, name=f"reduction_concat_{cell}")(outputs)


def _squeeze(x: SymbolicTensor, filters: int, kind: str, cell: str) -> SymbolicTensor:
    """Returns a cell's input with the channels on which the cell works."""
    x = _convolve(layers.Activation("relu")(x), filters, f"{kind}_conv_1_{cell}")
    return _normalize(x, f"{kind}_bn_1_{cell}")


def _project(before: SymbolicTensor, filters: int, cell: str) -> SymbolicTensor:
    """Returns `before` with the channels on which a cell works."""
    if before.shape[-1] == filters:
        return before
    x = _convolve(layers.Activation("relu")(before), filters, f"adjust_conv_projection_{cell}")
    return _normalize(x, f"adjust_bn_{cell}")


def _halve(before: SymbolicTensor, filters: int, cell: str) -> SymbolicTensor:
    """Returns `before` at half the resolution, with the channels on which a cell works.

    Half of the channels see the pixels of even rows and columns, the others those of odd ones. Keras compares sizes to
    find where this is needed, so that it never does it where they are unknown.
    """

    def take(x: SymbolicTensor, number: int) -> SymbolicTensor:
        x = layers.AveragePooling2D(1, strides=2, name=f"adjust_avg_pool_{number}_{cell}")(x)
        return _convolve(x, filters // 2, f"adjust_conv_{number}_{cell}")

    x = layers.Activation("relu", name=f"adjust_relu_1_{cell}")(before)
    even = take(x, 1)
    shifted = layers.Cropping2D(((1, 0), (1, 0)))(layers.ZeroPadding2D(((0, 1), (0, 1)))(x))
    x = layers.Concatenate(axis=-1)([even, take(shifted, 2)])
    return _normalize(x, f"adjust_bn_{cell}")


def _convolve_separably(x: SymbolicTensor, filters: int, kernel: int, place: str, strides: int = 1) -> SymbolicTensor:
    """Returns what ReLU, a separable convolution and a normalization, all twice, make of `x`."""
    x, padding = layers.Activation("relu")(x), "same"
    if strides == 2:
        x, padding = (
            layers.ZeroPadding2D(pads_before_stride(x, kernel), name=f"separable_conv_1_pad_{place}")(x),
            "valid",
        )
    for number in (1, 2):
        if number == 2:
            x, strides, padding = layers.Activation("relu")(x), 1, "same"
        name = f"separable_conv_{number}_{place}"
        x = layers.SeparableConv2D(filters, kernel, strides=strides, padding=padding, use_bias=False, name=name)(x)
        x = _normalize(x, f"separable_conv_{number}_bn_{place}")
    return x


def _convolve(x: SymbolicTensor, filters: int, name: str) -> SymbolicTensor:
    return layers.Conv2D(filters, 1, padding="same", use_bias=False, kernel_initializer="he_normal", name=name)(x)


def _normalize(x: SymbolicTensor, name: str) -> SymbolicTensor:
    return layers.BatchNormalization(axis=-1, momentum=0.9997, epsilon=1e-3, name=name)(x)


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """Returns images scaled to -1 to 1."""
    return imagenet_utils.preprocess_input(x, data_format, "tf")
