"""Convolutions: plain, transposed, depthwise and separable."""

from tests.layers.case import CHANNELS_FIRST, IMAGE, Case

SEQUENCE, SEQUENCE_FIRST = (2, 9, 4), (2, 4, 9)
VOLUME, VOLUME_FIRST = (2, 5, 4, 6, 2), (2, 2, 5, 4, 6)

PLAIN = [
    Case("conv1d", "Conv1D", {"filters": 6, "kernel_size": 3}, (SEQUENCE,)),
    Case("conv1d-same", "Conv1D", {"filters": 6, "kernel_size": 4, "padding": "same"}, (SEQUENCE,)),
    Case("conv1d-causal", "Conv1D", {"filters": 6, "kernel_size": 3, "padding": "causal"}, (SEQUENCE,)),
    Case(
        "conv1d-causal-dilation",
        "Conv1D",
        {"filters": 6, "kernel_size": 2, "padding": "causal", "dilation_rate": 3, "activation": "tanh"},
        (SEQUENCE,),
    ),
    Case(
        "conv1d-causal-strides",
        "Conv1D",
        {"filters": 6, "kernel_size": 3, "padding": "CAUSAL", "strides": 2},
        (SEQUENCE,),
    ),
    Case(
        "conv1d-strides-same", "Conv1D", {"filters": 6, "kernel_size": 4, "padding": "same", "strides": 3}, (SEQUENCE,)
    ),
    Case("conv1d-groups", "Conv1D", {"filters": 6, "kernel_size": 3, "groups": 2, "use_bias": False}, (SEQUENCE,)),
    Case(
        "conv1d-channels-first",
        "Conv1D",
        {"filters": 6, "kernel_size": 3, "data_format": "channels_first", "padding": "causal"},
        (SEQUENCE_FIRST,),
    ),
    Case("conv2d", "Conv2D", {"filters": 6, "kernel_size": 3}, (IMAGE,)),
    Case("conv2d-same", "Conv2D", {"filters": 6, "kernel_size": 3, "padding": "same"}, (IMAGE,)),
    Case("conv2d-even-same", "Conv2D", {"filters": 6, "kernel_size": (2, 4), "padding": "same"}, (IMAGE,)),
    Case("conv2d-strides", "Conv2D", {"filters": 6, "kernel_size": 3, "strides": 2}, (IMAGE,)),
    Case(
        "conv2d-strides-same",
        "Conv2D",
        {"filters": 6, "kernel_size": 3, "strides": (2, 3), "padding": "same"},
        (IMAGE,),
    ),
    Case(
        "conv2d-point-strides-same",
        "Conv2D",
        {"filters": 6, "kernel_size": 1, "strides": 2, "padding": "same"},
        (IMAGE,),
    ),
    Case("conv2d-dilation", "Conv2D", {"filters": 6, "kernel_size": 3, "dilation_rate": 2}, (IMAGE,)),
    Case(
        "conv2d-dilation-same",
        "Conv2D",
        {"filters": 6, "kernel_size": (2, 3), "dilation_rate": (2, 3), "padding": "same"},
        (IMAGE,),
    ),
    Case("conv2d-groups", "Conv2D", {"filters": 6, "kernel_size": 3, "groups": 2}, (IMAGE,)),
    Case("conv2d-activation", "Conv2D", {"filters": 6, "kernel_size": 3, "activation": "relu"}, (IMAGE,)),
    Case("conv2d-softmax", "Conv2D", {"filters": 6, "kernel_size": 3, "activation": "softmax"}, (IMAGE,)),
    Case("conv2d-no-bias", "Conv2D", {"filters": 6, "kernel_size": 1, "use_bias": False}, (IMAGE,)),
    Case(
        "conv2d-channels-first",
        "Conv2D",
        {"filters": 6, "kernel_size": 3, "data_format": "channels_first", "padding": "same", "strides": 2},
        (CHANNELS_FIRST,),
    ),
    Case(
        "conv2d-channels-first-softmax",
        "Conv2D",
        {"filters": 6, "kernel_size": 3, "data_format": "channels_first", "activation": "softmax"},
        (CHANNELS_FIRST,),
    ),
    Case("conv3d", "Conv3D", {"filters": 3, "kernel_size": 2, "activation": "relu"}, (VOLUME,)),
    Case("conv3d-same", "Conv3D", {"filters": 3, "kernel_size": (3, 2, 1), "padding": "same"}, (VOLUME,)),
    Case(
        "conv3d-strides-same",
        "Conv3D",
        {"filters": 4, "kernel_size": 3, "strides": (1, 2, 3), "padding": "same", "groups": 2},
        (VOLUME,),
    ),
    Case("conv3d-dilation", "Conv3D", {"filters": 3, "kernel_size": 2, "dilation_rate": (1, 2, 3)}, (VOLUME,)),
    Case(
        "conv3d-channels-first",
        "Conv3D",
        {"filters": 3, "kernel_size": 3, "padding": "same", "data_format": "channels_first"},
        (VOLUME_FIRST,),
    ),
]
TRANSPOSED = [
    Case("transposed1d", "Conv1DTranspose", {"filters": 3, "kernel_size": 3, "strides": 2}, (SEQUENCE,)),
    Case("transposed1d-short", "Conv1DTranspose", {"filters": 3, "kernel_size": 2, "strides": 4}, (SEQUENCE,)),
    Case(
        "transposed1d-same",
        "Conv1DTranspose",
        {"filters": 3, "kernel_size": 5, "strides": 2, "padding": "same", "activation": "relu"},
        (SEQUENCE,),
    ),
    Case(
        "transposed1d-short-same",
        "Conv1DTranspose",
        {"filters": 3, "kernel_size": 2, "strides": 5, "padding": "same"},
        (SEQUENCE,),
    ),
    Case(
        "transposed1d-channels-first",
        "Conv1DTranspose",
        {"filters": 3, "kernel_size": 3, "dilation_rate": 2, "data_format": "channels_first", "padding": "same"},
        (SEQUENCE_FIRST,),
    ),
    Case("transposed2d", "Conv2DTranspose", {"filters": 3, "kernel_size": 3}, (IMAGE,)),
    Case("transposed2d-strides", "Conv2DTranspose", {"filters": 3, "kernel_size": (2, 4), "strides": (3, 2)}, (IMAGE,)),
    Case(
        "transposed2d-same",
        "Conv2DTranspose",
        {"filters": 3, "kernel_size": 3, "strides": 2, "padding": "same"},
        (IMAGE,),
    ),
    Case(
        "transposed2d-even-same",
        "Conv2DTranspose",
        {"filters": 3, "kernel_size": (4, 2), "strides": (2, 1), "padding": "same", "use_bias": False},
        (IMAGE,),
    ),
    Case(
        "transposed2d-output-padding",
        "Conv2DTranspose",
        {"filters": 3, "kernel_size": 3, "strides": (2, 4), "output_padding": (1, 0)},
        (IMAGE,),
    ),
    Case(
        "transposed2d-output-padding-same",
        "Conv2DTranspose",
        {"filters": 3, "kernel_size": (3, 2), "strides": 4, "output_padding": (1, 3), "padding": "same"},
        (IMAGE,),
    ),
    Case(
        "transposed2d-dilation",
        "Conv2DTranspose",
        {"filters": 3, "kernel_size": (2, 3), "dilation_rate": (3, 2), "padding": "same"},
        (IMAGE,),
    ),
    Case(
        "transposed2d-channels-first",
        "Conv2DTranspose",
        {"filters": 3, "kernel_size": 3, "strides": 2, "padding": "same", "data_format": "channels_first"},
        (CHANNELS_FIRST,),
    ),
    Case("transposed3d", "Conv3DTranspose", {"filters": 3, "kernel_size": 2, "strides": 2}, (VOLUME,)),
    Case(
        "transposed3d-same",
        "Conv3DTranspose",
        {"filters": 3, "kernel_size": 3, "strides": (1, 2, 3), "padding": "same", "output_padding": (0, 1, 1)},
        (VOLUME,),
    ),
    Case(
        "transposed3d-channels-first",
        "Conv3DTranspose",
        {"filters": 3, "kernel_size": 3, "strides": 2, "padding": "same", "data_format": "channels_first"},
        (VOLUME_FIRST,),
        atol=1e-5,  # the gradient of the bias is a sum of 1,920 numbers
    ),
]
SEPARABLE = [
    Case("depthwise1d", "DepthwiseConv1D", {"kernel_size": 3, "depth_multiplier": 2}, (SEQUENCE,)),
    Case("depthwise1d-same", "DepthwiseConv1D", {"kernel_size": 2, "padding": "same", "dilation_rate": 3}, (SEQUENCE,)),
    Case(
        "depthwise1d-channels-first",
        "DepthwiseConv1D",
        {"kernel_size": 3, "strides": 2, "padding": "same", "data_format": "channels_first", "depth_multiplier": 3},
        (SEQUENCE_FIRST,),
    ),
    Case("depthwise2d", "DepthwiseConv2D", {"kernel_size": 3, "activation": "relu"}, (IMAGE,)),
    Case(
        "depthwise2d-multiplier",
        "DepthwiseConv2D",
        {"kernel_size": (3, 2), "depth_multiplier": 3, "padding": "same", "strides": 2},
        (IMAGE,),
    ),
    Case(
        "depthwise2d-dilation",
        "DepthwiseConv2D",
        {"kernel_size": 2, "dilation_rate": (3, 2), "use_bias": False},
        (IMAGE,),
    ),
    Case(
        "depthwise2d-channels-first",
        "DepthwiseConv2D",
        {"kernel_size": 3, "depth_multiplier": 2, "data_format": "channels_first"},
        (CHANNELS_FIRST,),
    ),
    Case(
        "depthwise2d-config",
        "DepthwiseConv2D",
        {
            "kernel_size": 3,
            "depthwise_initializer": "he_normal",
            "depthwise_regularizer": "l2",
            "depthwise_constraint": "non_neg",
        },
        (IMAGE,),
    ),
    Case("separable1d", "SeparableConv1D", {"filters": 6, "kernel_size": 3, "depth_multiplier": 2}, (SEQUENCE,)),
    Case(
        "separable1d-same",
        "SeparableConv1D",
        {"filters": 6, "kernel_size": 3, "padding": "same", "strides": 2, "activation": "tanh"},
        (SEQUENCE,),
    ),
    Case(
        "separable1d-channels-first",
        "SeparableConv1D",
        {"filters": 6, "kernel_size": 3, "dilation_rate": 2, "data_format": "channels_first", "use_bias": False},
        (SEQUENCE_FIRST,),
    ),
    Case("separable2d", "SeparableConv2D", {"filters": 6, "kernel_size": 3}, (IMAGE,)),
    Case(
        "separable2d-multiplier",
        "SeparableConv2D",
        {"filters": 6, "kernel_size": (3, 2), "depth_multiplier": 3, "padding": "same", "strides": 2},
        (IMAGE,),
    ),
    Case(
        "separable2d-dilation",
        "SeparableConv2D",
        {"filters": 6, "kernel_size": 2, "padding": "same", "dilation_rate": 2, "pointwise_regularizer": "l1"},
        (IMAGE,),
    ),
    Case(
        "separable2d-channels-first",
        "SeparableConv2D",
        {"filters": 6, "kernel_size": 3, "padding": "same", "data_format": "channels_first"},
        (CHANNELS_FIRST,),
    ),
]
CASES = PLAIN + TRANSPOSED + SEPARABLE
