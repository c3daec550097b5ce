"""Convolution, pooling and reshaping: what their rows in `cases/` do not say."""

import inspect
import warnings

import keras
import pytest
import torch
from torch import nn

from kstyle_torch import Input, Model, Sequential, layers
from kstyle_torch.registry import snake_case
from tests.layers.cases import convolution, pooling, reshaping
from tests.layers.layer_cases import CASES
from tests.oracle import assert_close, integers, uniform
from tests.test_speed import calls_of

FAMILIES = (*convolution.CASES, *pooling.CASES, *reshaping.CASES)
NAMES = sorted({case.layer for case in FAMILIES})
ALIASES = [
    name
    for name in dir(keras.layers)
    if getattr(keras.layers, name, None) in [getattr(keras.layers, known) for known in NAMES] and name not in NAMES
]


@pytest.mark.parametrize("name", NAMES)
def test_the_arguments_are_those_of_keras_in_its_order(name):
    def arguments(library):
        parameters = inspect.signature(getattr(library, name).__init__).parameters.values()
        return [parameter.name for parameter in parameters if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]

    assert arguments(layers) == arguments(keras.layers)


@pytest.mark.parametrize("name", NAMES)
def test_the_automatic_name_is_that_of_keras(name):
    case = next(case for case in CASES if case.layer == name)
    theirs = getattr(keras.layers, name)(**case.arguments_for(keras)).name.rstrip("_0123456789")
    assert snake_case(name).rstrip("_0123456789") == theirs


@pytest.mark.parametrize("alias", ALIASES)
def test_aliases_are_the_class(alias):
    assert getattr(layers, alias) is getattr(layers, getattr(keras.layers, alias).__name__)


def test_every_alias_of_keras_was_looked_at():
    assert {"Convolution3DTranspose", "SeparableConvolution1D", "GlobalAvgPool3D", "MaxPool1D"} <= {*ALIASES}


# ---------------------------------------------------------------------------------------------------------- convolution


def test_even_windows_do_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert layers.Conv2D(2, 2, padding="same")(uniform(1, 5, 5, 3)).shape == (1, 5, 5, 2)


def test_a_causal_step_sees_no_later_one():
    layer = layers.Conv1D(3, 3, padding="causal", dilation_rate=2)
    x = uniform(1, 9, 2)
    before = layer(x)
    x[:, 5:] = 7
    after = layer(x)
    assert_close(after[:, :5], before[:, :5])
    assert not torch.allclose(after[:, 5], before[:, 5])


@pytest.mark.parametrize("size", [5, 8, 13])
def test_same_padding_follows_the_size_of_each_input(size):
    layer = layers.Conv2D(3, 3, strides=2, padding="same")
    layer(uniform(1, 6, 6, 2))
    theirs = keras.layers.Conv2D(3, 3, strides=2, padding="same")
    theirs.build((None, 6, 6, 2))
    theirs.set_weights(layer.get_weights())
    x = uniform(2, size, size + 1, 2)
    assert_close(layer(x), theirs(x))


def test_images_are_not_copied():
    x = uniform(2, 8, 9, 3)
    model = Sequential(
        [layers.Conv2D(4, 3, padding="same"), layers.MaxPooling2D(2, padding="same"), layers.UpSampling2D()]
    )
    y = model(x)
    assert y.is_contiguous()  # channels_last for the user, without a permuted copy at the end
    assert model.layers[0].conv.weight.is_contiguous(memory_format=torch.channels_last)
    first = layers.Conv2D(4, 3, data_format="channels_first")
    assert first(x.permute(0, 3, 1, 2).contiguous()).is_contiguous()


def test_depthwise_weights_are_of_keras_shape_and_regularized():
    layer = layers.DepthwiseConv2D(3, depth_multiplier=2, depthwise_regularizer="l2", depthwise_constraint="non_neg")
    layer(uniform(1, 5, 5, 4))
    assert layer.kernel.shape == (3, 3, 4, 2)
    assert_close(layer.losses[0], 0.01 * layer.conv.weight.square().sum())
    assert layer.kernel.constraint is layer.depthwise_constraint


def test_separable_weights_are_regularized_each_by_its_own():
    layer = layers.SeparableConv1D(5, 3, depthwise_regularizer="l1", pointwise_constraint="unit_norm")
    layer(uniform(1, 5, 4))
    assert [weight.name for weight in layer.weights] == ["depthwise_kernel", "pointwise_kernel", "bias"]
    assert [*layer.state_dict()] == ["conv.depthwise.weight", "conv.pointwise.weight", "conv.pointwise.bias"]
    assert_close(layer.losses[0], 0.01 * layer.conv.depthwise.weight.abs().sum())
    assert [weight.constraint for weight in layer.weights] == [None, layer.pointwise_constraint, None]


@pytest.mark.parametrize("strides", [1, 2, 3, 5])
@pytest.mark.parametrize("window", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_transposed_convolution_cuts_what_keras_cuts(window, strides, padding):
    for output_padding in (None, *range(strides)):
        arguments = {"strides": strides, "padding": padding, "output_padding": output_padding}
        layer = layers.Conv1DTranspose(2, window, **arguments)
        theirs = keras.layers.Conv1DTranspose(2, window, **arguments)
        x = uniform(1, 4, 3)
        ours = layer(x)
        theirs.build(x.shape)
        theirs.set_weights(layer.get_weights())
        assert_close(ours, theirs(x))


# -------------------------------------------------------------------------------------------------------------- pooling


def average_by_convolution(x, pool_size, strides):
    """The mean over the real part of every window: Keras' own sums over it, of the values and of ones."""

    def sums(values):
        ones = torch.ones(*pool_size, values.shape[-1], 1)
        return keras.ops.depthwise_conv(values, ones, strides=strides, padding="same")

    return sums(x) / sums(torch.ones_like(x))


@pytest.mark.parametrize("strides", [1, 2, 3, (1, 2)])
@pytest.mark.parametrize("pool_size", [(2, 3), (4, 5), (3, 4), (7, 1)], ids=str)
def test_average_pooling_does_not_count_padding(pool_size, strides):
    """Keras' torch backend repeats the last row where the padding is uneven; TensorFlow's and JAX's count no padding."""
    for size in (6, 7, 8):
        x = uniform(2, size, 9, 3)
        ours = layers.AveragePooling2D(pool_size, strides, "same")(x)
        assert_close(ours, average_by_convolution(x, pool_size, strides))


@pytest.mark.parametrize("strides", [1, 2, 3, 4])
@pytest.mark.parametrize("window", [1, 2, 3, 4, 5, 9])
def test_max_pooling_same_at_every_size(window, strides):
    for size in range(1, 10):
        x = uniform(2, size, 3)
        ours = layers.MaxPooling1D(window, strides, "same")(x)
        assert_close(ours, keras.layers.MaxPooling1D(window, strides, "same")(x))


def test_global_average_of_an_embedding_skips_padding():
    x = Input((6,), dtype="int64")
    embedded = layers.Embedding(9, 4, mask_zero=True)
    model = Model(x, layers.GlobalAveragePooling1D()(embedded(x)))
    numbers = torch.tensor([[3, 4, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6]])
    assert_close(model(numbers)[0], embedded(numbers)[0, :2].mean(0))


def test_global_average_ignores_what_is_behind_the_mask():
    x = uniform(1, 3, 2)
    expected = x[:, :2].mean(1)
    x[:, 2] = float("nan")
    assert_close(layers.GlobalAveragePooling1D()(x, mask=torch.tensor([[True, True, False]])), expected)


# ------------------------------------------------------------------------------------------------------------ reshaping


@pytest.mark.parametrize("factor", [2, 3, 41])
def test_upsampling_repeats_whole_numbers_exactly(factor):
    x = integers(2, 7, 5, 3)
    ours = layers.UpSampling2D((factor, 1))(x)
    assert torch.equal(ours, x.repeat_interleave(factor, dim=1))


def test_repeated_vectors_are_a_view():
    x = uniform(2, 3)
    assert layers.RepeatVector(4)(x).data_ptr() == x.data_ptr()


def test_cropping_follows_the_size_of_each_input():
    layer = layers.Cropping1D((2, 3))
    assert layer(uniform(1, 9, 2)).shape == (1, 4, 2)
    with pytest.raises(ValueError, match=r"cropping \(2, 3\) leaves nothing of shape \(1, 5, 2\)"):
        layer(uniform(1, 5, 2))


# ------------------------------------------------------------------------------------------- sequences, as rows of images

ROWS = {
    "valid": {},
    "causal": {"padding": "causal", "dilation_rate": 2},
    "same": {"padding": "same"},
    "same, of even size": {"padding": "same", "kernel_size": 4},
    "same, with steps": {"padding": "same", "strides": 2},
    "groups": {"groups": 2, "use_bias": False},
}


@pytest.mark.parametrize("case", ROWS)
def test_sequences_are_convolved_where_they_lie(case):
    layer, x = layers.Conv1D(**{"filters": 6, "kernel_size": 3, **ROWS[case]}), uniform(3, 9, 4).requires_grad_()
    y = layer(x)
    assert y.is_contiguous()
    seen = []
    layer.conv.register_forward_hook(lambda conv, args, output: seen.append((args[0].shape[1], output.shape[1])))
    expected = layer(x)  # by the native module, which somebody watches
    assert seen == [(4, 6)]
    assert_close(y, expected)
    weights = [x, *layer.parameters()]
    for mine, other in zip(
        torch.autograd.grad(y.square().sum(), weights), torch.autograd.grad(expected.square().sum(), weights)
    ):
        assert_close(mine, other)


def test_another_native_module_is_called():
    layer, x = layers.Conv1D(6, 3), uniform(3, 9, 4)
    layer(x)
    layer.conv = nn.Conv1d(4, 6, 3, padding="same", padding_mode="circular")
    assert torch.equal(layer(x), layer.conv(x.mT).mT)
    layer.conv = nn.Identity()
    assert torch.equal(layer(x), x)


# ---------------------------------------------------------------------------------------------------------------- speed

NATIVE = {
    "Conv1D": (layers.Conv1D(4, 3), nn.Conv1d(3, 4, 3), 1),
    "Conv2D-same": (layers.Conv2D(4, 3, padding="same"), nn.Conv2d(3, 4, 3), 2),
    "Conv3D": (layers.Conv3D(4, 3, activation="relu"), nn.Sequential(nn.Conv3d(3, 4, 3), nn.ReLU()), 3),
    "Conv2DTranspose": (layers.Conv2DTranspose(4, 3, 2, "same"), nn.ConvTranspose2d(3, 4, 3, 2), 2),
    "DepthwiseConv2D": (layers.DepthwiseConv2D(3), nn.Conv2d(3, 3, 3, groups=3), 2),
    "SeparableConv2D": (layers.SeparableConv2D(4, 3), nn.Sequential(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 4, 1)), 2),
    "MaxPooling2D": (layers.MaxPooling2D(), nn.MaxPool2d(2), 2),
    "AveragePooling1D": (layers.AveragePooling1D(2), nn.AvgPool1d(2), 1),
    "AdaptiveMaxPooling2D": (layers.AdaptiveMaxPooling2D(2), nn.AdaptiveMaxPool2d(2), 2),
    "ZeroPadding2D": (layers.ZeroPadding2D(), nn.ZeroPad2d(1), 2),
}


@pytest.mark.parametrize(("layer", "native", "rank"), NATIVE.values(), ids=NATIVE)
def test_a_built_layer_calls_little_more_than_its_native_module(layer, native, rank):
    x, x_first = torch.ones(2, *(8,) * rank, 3), torch.ones(2, 3, *(8,) * rank)
    layer(x)
    native(x_first)
    assert calls_of(lambda: layer(x), ("call",)) <= calls_of(lambda: native(x_first), ("call",)) + 6
    # and in C: `len`, `hasattr`, two permutes, a second look at torch's tracing state
    assert calls_of(lambda: layer(x)) <= calls_of(lambda: native(x_first)) + 11
