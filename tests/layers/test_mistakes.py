"""What users get wrong with layers, and what they are told."""

import numpy as np
import pytest
import torch
from torch import nn

from kstyle_torch import layers
from kstyle_torch.layers import (
    Activation,
    Add,
    AlphaDropout,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Dense,
    Dot,
    Dropout,
    EinsumDense,
    Embedding,
    Flatten,
    GaussianDropout,
    GaussianNoise,
    GlobalAveragePooling2D,
    Input,
    InputLayer,
    Lambda,
    LeakyReLU,
    Masking,
    MaxPooling2D,
    PReLU,
    ReLU,
    Reshape,
    Softmax,
    SpatialDropout2D,
    Subtract,
    TorchModule,
)
from tests.oracle import uniform

ARGUMENTS = {
    "units-float": (lambda: Dense(4.0), ValueError, "Dense: units must be a positive int; got 4.0"),
    "units-zero": (lambda: Dense(0), ValueError, "units must be a positive int; got 0"),
    "units-bool": (lambda: Dense(True), ValueError, "units must be a positive int; got True"),
    "unknown-activation": (lambda: Dense(4, activation="rellu"), ValueError, "'rellu'. Did you mean 'relu'"),
    "unknown-initializer": (lambda: Dense(4, kernel_initializer="he_norml"), ValueError, "Did you mean 'he_normal'"),
    "unknown-regularizer": (lambda: Dense(4, kernel_regularizer="l3"), ValueError, "Unknown regularizer 'l3'"),
    "input-shape-int": (lambda: Dense(4, input_shape=8), ValueError, r"input_shape must be a tuple, such as \(8,\)"),
    "activation-missing": (lambda: Activation("sigmiod"), ValueError, "Did you mean 'sigmoid'"),
    "filters": (lambda: Conv2D(-1, 3), ValueError, "filters must be a positive int"),
    "kernel-size": (lambda: Conv2D(4, (3, 3, 3)), ValueError, "kernel_size must be an int or 2 of them"),
    "kernel-zero": (lambda: Conv2D(4, 0), ValueError, "kernel_size must be an int or 2 of them, at least 1"),
    "padding": (lambda: Conv2D(4, 3, padding="full"), ValueError, "padding must be one of .*got 'full'"),
    "data-format": (lambda: Conv2D(4, 3, data_format="NHWC"), ValueError, "data_format must be 'channels_last'"),
    "strides-dilation": (lambda: Conv2D(4, 3, strides=2, dilation_rate=2), ValueError, "cannot both exceed 1"),
    "groups": (lambda: Conv2D(4, 3, groups=3), ValueError, r"filters \(4\) must be a multiple of groups \(3\)"),
    "causal-image": (lambda: Conv2D(4, 3, padding="causal"), ValueError, "padding must be one of .*got 'causal'"),
    "output-padding": (
        lambda: layers.Conv2DTranspose(4, 3, strides=2, output_padding=(1, 2)),
        ValueError,
        r"output_padding must be less than strides; got \(1, 2\) and \(2, 2\)",
    ),
    "transposed-dilation": (
        lambda: layers.Conv1DTranspose(4, 3, strides=2, dilation_rate=2),
        ValueError,
        "cannot both exceed 1",
    ),
    "depth-multiplier": (lambda: layers.DepthwiseConv2D(3, depth_multiplier=0), ValueError, "depth_multiplier must be"),
    "separable-filters": (
        lambda: layers.SeparableConv1D(0, 3),
        ValueError,
        "SeparableConv1D: filters must be a positive",
    ),
    "adaptive": (lambda: layers.AdaptiveMaxPooling2D(0), ValueError, "output_size must be an int or 2 of them"),
    "permute": (lambda: layers.Permute((0, 1)), ValueError, r"each axis once, counted from 1.*got \(0, 1\)"),
    "repeat": (lambda: layers.RepeatVector(2.5), ValueError, "n must be a positive int; got 2.5"),
    "cropping": (
        lambda: layers.Cropping2D((1, 2, 3)),
        ValueError,
        "cropping must be an int, 2 ints or 2 pairs of ints",
    ),
    "cropping-negative": (lambda: layers.Cropping1D(-1), ValueError, "at least 0; got -1"),
    "zero-padding": (lambda: layers.ZeroPadding3D(((1, 1), (1, 1, 1), 2)), ValueError, "padding must be an int or 2"),
    "size": (lambda: layers.UpSampling1D(0), ValueError, "UpSampling1D: size must be"),
    "interpolation": (
        lambda: layers.UpSampling2D(2, interpolation="bilinaer"),
        ValueError,
        "unknown interpolation 'bilinaer'. Did you mean 'bilinear'",
    ),
    "lanczos": (
        lambda: layers.UpSampling2D(2, interpolation="lanczos3"),
        ValueError,
        "unknown interpolation 'lanczos3'. Known: bicubic, bilinear, nearest",
    ),
    "pool-size": (lambda: MaxPooling2D((2, 2, 2)), ValueError, "pool_size must be an int or 2 of them"),
    "rate": (lambda: Dropout(1.5), ValueError, "rate must be a number from 0 to 1; got 1.5"),
    "axis": (lambda: BatchNormalization(axis=[1, 2]), ValueError, "axis must be an int"),
    "reshape": (lambda: Reshape((-1, -1)), ValueError, "at most one size may be -1"),
    "rate-gaussian": (lambda: GaussianDropout(1), ValueError, "GaussianDropout: rate must be .* below 1; got 1"),
    "rate-alpha": (lambda: AlphaDropout(-0.1), ValueError, "AlphaDropout: rate must be a number, 0 or more; got -0.1"),
    "stddev": (lambda: GaussianNoise(-1), ValueError, "GaussianNoise: stddev must be a number, 0 or more; got -1"),
    "seed": (lambda: Dropout(0.5, seed="a"), ValueError, "seed must be an int or None; got 'a'"),
    "noise-shape": (
        lambda: Dropout(0.5, noise_shape=(None, 0)),
        ValueError,
        r"positive ints and None; got \(None, 0\)",
    ),
    "spatial-data-format": (lambda: SpatialDropout2D(0.5, "NHWC"), ValueError, "data_format must be"),
    "relu-max": (lambda: ReLU(max_value=-1), ValueError, "ReLU: max_value must be a number, 0 or more; got -1"),
    "relu-slope": (lambda: ReLU(negative_slope=None), ValueError, "negative_slope must be a number.*got None"),
    "leaky-relu": (lambda: LeakyReLU(-0.1), ValueError, "LeakyReLU: negative_slope must be a number, 0 or more"),
    "dot-axes": (lambda: Dot((1, 2, 3)), ValueError, r"axes must be an int or two of them; got \(1, 2, 3\)"),
    "dot-axes-type": (lambda: Dot("last"), TypeError, "axes must be an int or two of them; got 'last'"),
    "einsum-form": (lambda: EinsumDense("ab->a", 3), ValueError, "the form 'ab,bc->ac'.*got 'ab->a'"),
    "einsum-dots": (lambda: EinsumDense("...ab...,bc->...ac...", 3), ValueError, "the equation must have the form"),
    "einsum-kernel": (lambda: EinsumDense("ab,cd->ad", 3), ValueError, "axis 'c' of the kernel is nowhere else"),
    "einsum-letter": (lambda: EinsumDense("ab,bc->ad", 3), ValueError, "axis 'c' of the kernel is nowhere else"),
    "einsum-bias": (lambda: EinsumDense("ab,bc->ac", 3, bias_axes="b"), ValueError, "axis 'b' of the bias is nowhere"),
    "lora-rank": (lambda: Dense(4, lora_rank=-1), ValueError, "lora_rank must be a positive int; got -1"),
    "lambda": (lambda: Lambda("relu"), TypeError, "lambda: expected a function; got 'relu'"),
    "mask-value": (lambda: Masking([1.0]), ValueError, r"mask_value must be a number; got \[1.0\]"),
    "embedding-weights": (
        lambda: Embedding(10, 4, weights=np.ones((4, 10))),
        ValueError,
        r"a table of shape \(10, 4\); got shape \(4, 10\)",
    ),
    "embedding": (lambda: Embedding(0, 4), ValueError, "input_dim must be a positive int"),
    "input-int": (lambda: Input(8), ValueError, r"shape must be a tuple, such as \(8,\)"),
    "input-none": (lambda: Input(), ValueError, "either shape or batch_shape"),
    "input-both": (lambda: InputLayer((3,), batch_shape=(2, 3)), ValueError, "either shape or batch_shape"),
    "input-sparse": (lambda: Input((3,), sparse=True), ValueError, "not supported"),
    "torch-module": (lambda: TorchModule(nn.ReLU), TypeError, "wraps an nn.Module; got type"),
    "dtype": (lambda: Dense(4, dtype="float31"), ValueError, "Unknown dtype policy 'float31'; expected a dtype"),
}
CALLS = {
    "conv-1d-input": (
        lambda: Conv2D(4, 3)(uniform(8, 784)),
        r"conv2d: expected an input of shape \(batch, height, width, channels\); got shape \(8, 784\). Reshape",
    ),
    "conv-1d-symbolic": (lambda: Conv2D(4, 3)(Input((784,))), r"\(batch, height, width, channels\).*\(None, 784\)"),
    "conv-first": (
        lambda: Conv2D(4, 3, data_format="channels_first")(uniform(8, 784)),
        r"\(batch, channels, height, width\)",
    ),
    "conv-groups": (
        lambda: Conv2D(4, 3, groups=2)(uniform(2, 8, 8, 3)),
        r"channels \(3\) must be a multiple of groups",
    ),
    "conv-open-channels": (lambda: Conv2D(4, 3)(Input((8, 8, None))), "axis -1 of the input must have a known size"),
    "dense-one-sample": (lambda: Dense(4)(uniform(8)), r"expected an input with a batch axis.*\(8,\)"),
    "dense-open": (lambda: Dense(4)(Input((None,))), "axis -1 of the input must have a known size"),
    "conv-window": (
        lambda: Conv2D(4, (3, 5))(uniform(1, 4, 4, 2)),
        r"conv2d: a window of \(3, 5\) is larger than the input, \(4, 4\) of shape \(1, 4, 4, 2\)",
    ),
    "conv-window-symbolic": (
        lambda: layers.Conv1D(4, 3, dilation_rate=2)(Input((4, 2))),
        r"a window of \(5,\) is larger than the input, \(4,\)",
    ),
    "pooling-window": (
        lambda: layers.AveragePooling1D(5)(uniform(1, 4, 2)),
        r"pool_size \(5,\) is larger than the input",
    ),
    "pooling-rank": (lambda: MaxPooling2D()(uniform(2, 8)), r"\(batch, height, width, channels\); got shape \(2, 8\)"),
    "adaptive-rank": (lambda: layers.AdaptiveMaxPooling1D(2)(uniform(2, 8)), r"\(batch, steps, channels\); got shape"),
    "permute-rank": (lambda: layers.Permute((2, 1))(uniform(2, 8)), r"need an input of rank 3; got shape \(2, 8\)"),
    "repeat-rank": (lambda: layers.RepeatVector(2)(uniform(2, 8, 3)), r"shape \(batch, features\); got shape"),
    "cropping": (lambda: layers.Cropping2D(2)(Input((4, 9, 3))), r"leaves nothing of shape \(2, 4, 9, 3\)"),
    "padding-rank": (
        lambda: layers.ZeroPadding3D(data_format="channels_first")(uniform(2, 8)),
        r"\(batch, channels, depth, height, width\)",
    ),
    "up-sampling-rank": (lambda: layers.UpSampling2D(2, None, "bilinear")(uniform(2, 8)), r"got shape \(2, 8\)"),
    "global-rank": (
        lambda: GlobalAveragePooling2D()(uniform(2, 8)),
        r"\(batch, height, width, channels\); got shape \(2, 8\)",
    ),
    "reshape": (lambda: Reshape((5, 2))(uniform(2, 12)), r"a sample of shape \(12,\) cannot be reshaped to \(5, 2\)"),
    "reshape-open": (lambda: Reshape((5, -1))(uniform(2, 12)), r"\(12,\) cannot be reshaped to \(5, -1\)"),
    "embedding-oob": (
        lambda: Embedding(10, 4)(torch.tensor([[1, 12]])),
        "embedding: index 12 is out of range; with input_dim=10 indices go from 0 to 9",
    ),
    "embedding-negative": (lambda: Embedding(10, 4)(torch.tensor([[1, -1]])), "index -1 is out of range"),
    "add-none": (lambda: Add()([]), "expected a list of tensors"),
    "add-shapes": (
        lambda: Add()([uniform(2, 3), uniform(2, 4)]),
        r"add: shapes must agree, or be 1; got \(2, 3\), \(2, 4\)",
    ),
    "add-batch": (lambda: Add()([uniform(2, 3), uniform(3, 3)]), r"same batch size; got \(2, 3\), \(3, 3\)"),
    "subtract-three": (lambda: Subtract()([uniform(2, 3)] * 3), "expected two tensors; got 3"),
    "dot-one": (lambda: Dot(1)([uniform(2, 3)]), "expected two tensors; got 1"),
    "dot-sizes": (lambda: Dot(1)([uniform(2, 3), uniform(2, 4)]), r"agree along axes \(1, 1\); got \(2, 3\) and"),
    "dot-batch": (lambda: Dot((0, 1))([uniform(2, 3), uniform(2, 2)]), "0 is not an axis after the batch axis"),
    "spatial-rank": (lambda: SpatialDropout2D(0.5)(uniform(2, 3)), r"an input of rank 4; got shape \(2, 3\)"),
    "prelu-open": (lambda: PReLU()(Input((None, 3))), r"known size; got shape .* with shared_axes=\[1\]"),
    "prelu-axis": (lambda: PReLU(shared_axes=3)(uniform(2, 3)), "shared_axes must be from 1 to 1; got 3"),
    "softmax-mask": (
        lambda: Softmax()(uniform(2, 3), mask=torch.ones(2, 4, dtype=torch.bool)),
        r"broadcast to the input of shape \(2, 3\); got a mask of shape \(2, 4\)",
    ),
    "einsum-rank": (
        lambda: EinsumDense("abc,cd->abd", (None, 4))(uniform(2, 3)),
        r"not fit an input of shape \(2, 3\)",
    ),
    "einsum-output": (lambda: EinsumDense("abc,cd->abd", 4)(uniform(2, 5, 3)), r"output_shape \(4,\) does not have"),
    "einsum-size": (
        lambda: EinsumDense("abc,cd->abd", (4, 6))(uniform(2, 5, 3)),
        r"axis 'b' has size 5 in the input of shape \(2, 5, 3\) and 4 in output_shape",
    ),
    "einsum-open": (lambda: EinsumDense("abc,cd->abd", (None, 6))(Input((5, None))), "size of axis 'c' must be known"),
    "add-tensor": (lambda: Add()(uniform(2, 3)), "expected a list of tensors"),
    "concatenate-shapes": (
        lambda: Concatenate()([uniform(2, 3, 4), uniform(2, 5, 4)]),
        r"agree in all axes but -1; got \(2, 3, 4\), \(2, 5, 4\)",
    ),
    "concatenate-ranks": (lambda: Concatenate()([uniform(2, 3), uniform(2, 3, 4)]), "shapes must agree"),
}


@pytest.mark.parametrize(("action", "error", "message"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_argument(action, error, message):
    with pytest.raises(error, match=message):
        action()


@pytest.mark.parametrize(("action", "message"), CALLS.values(), ids=CALLS)
def test_call(action, message):
    with pytest.raises(ValueError, match=message):
        action()


@pytest.mark.parametrize("value", [3, 3.0], ids=["int", "float"])
def test_numpy_numbers_are_numbers(value):
    assert Dense(np.int64(value)).units == 3
    assert Conv2D(np.int64(4), np.int64(3)).kernel_size == (3, 3)
    assert Dropout(np.float32(0.5)).rate == 0.5


def test_failed_build_can_be_tried_again():
    layer = Conv2D(4, 3)
    with pytest.raises(ValueError, match="expected an input of shape"):
        layer(uniform(8, 784))
    assert layer(uniform(2, 8, 8, 3)).shape == (2, 6, 6, 4)


def test_flatten_of_open_sizes_keeps_them_open():
    assert Flatten()(Input((None, 3))).shape == (None, None)
