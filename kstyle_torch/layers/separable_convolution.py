"""Depthwise and separable convolutions."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from kstyle_torch import constraints, initializers, regularizers
from kstyle_torch.layer.base import layer_registry
from kstyle_torch.layer.checks import positive_int
from kstyle_torch.layer.layout import Layout
from kstyle_torch.layer.shapes import Shape
from kstyle_torch.layer.spatial import defaults
from kstyle_torch.layer.weights import Weight, native
from kstyle_torch.layers.convolution import KERNEL, AnyConvolution

register = layer_registry.register


def _depthwise_to_keras(depth_multiplier: int, weight: Tensor) -> Tensor:
    return weight.squeeze(1).unflatten(0, (-1, depth_multiplier)).movedim((0, 1), (-2, -1))


def _depthwise_to_torch(kernel: Tensor) -> Tensor:
    return kernel.movedim((-2, -1), (0, 1)).flatten(0, 1).unsqueeze(1)


def depthwise_layout(layer: Any) -> Layout:
    """Returns the layout of a depthwise kernel.

    Keras: (*kernel_size, channels, depth_multiplier); torch: (channels * depth_multiplier, 1, *kernel_size).
    """
    return Layout(functools.partial(_depthwise_to_keras, layer.depth_multiplier), _depthwise_to_torch)


class DepthwiseConvolution(AnyConvolution):
    """Base of the convolutions that process each channel separately.

    Args:
        kernel_size: Size of the window; an int or one for each axis.
        strides: Step of the window; an int or one for each axis.
        padding: `"valid"` (none) or `"same"` (as many windows as `size / stride`, rounded up).
        depth_multiplier: Number of output channels for each channel.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
        dilation_rate: Distance between the points of the window; an int or one for each axis.
        activation: Name, function or None (identity).
        use_bias: Whether there is a bias.
        depthwise_initializer: Of the kernel, Keras' shape (*kernel_size, channels, depth_multiplier).
        bias_initializer: Of the bias.
        depthwise_regularizer: Penalty on the kernel.
        bias_regularizer: Penalty on the bias.
        activity_regularizer: Penalty on the output.
        depthwise_constraint: What the kernel is projected to after each step.
        bias_constraint: What the bias is projected to after each step.
    """

    kernel = Weight("conv.weight", depthwise_layout)
    bias = Weight("conv.bias")

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        depth_multiplier: int = 1,
        data_format: str | None = None,
        dilation_rate: int | Sequence[int] = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ):
        super().__init__(
            kernel_size,
            strides,
            padding,
            data_format,
            dilation_rate,
            activation,
            use_bias,
            bias_initializer,
            bias_regularizer,
            activity_regularizer,
            bias_constraint,
            **kwargs,
        )
        self.depth_multiplier = positive_int(depth_multiplier, "depth_multiplier", self)
        self.depthwise_initializer = initializers.get(depthwise_initializer)
        # also under the weight's name, by which its view finds them
        self.depthwise_regularizer = self.kernel_regularizer = regularizers.get(depthwise_regularizer)
        self.depthwise_constraint = self.kernel_constraint = constraints.get(depthwise_constraint)

    def build(self, input_shape: Shape) -> None:
        channels = self._channels(input_shape)
        self.conv = self._make_conv(channels, channels * self.depth_multiplier, groups=channels)
        self.initialize(kernel=self.depthwise_initializer, bias=self.bias_initializer)


@register()
class DepthwiseConv1D(DepthwiseConvolution):
    """Depthwise convolution over sequences. The arguments are those of `DepthwiseConvolution`.

    Input shape: (batch, steps, channels), or (batch, channels, steps) with channels_first.
    Output shape: likewise, with `channels * depth_multiplier` channels.

    Example:
        >>> DepthwiseConv1D(3, depth_multiplier=2)(torch.ones(1, 10, 4)).shape
        torch.Size([1, 8, 8])
    """

    rank = 1
    native_class = nn.Conv1d


@register()
@defaults(strides=(1, 1), dilation_rate=(1, 1))
class DepthwiseConv2D(DepthwiseConvolution):
    """Depthwise convolution over images. The arguments are those of `DepthwiseConvolution`.

    Input shape: (batch, height, width, channels), or (batch, channels, height, width) with channels_first.
    Output shape: likewise, with `channels * depth_multiplier` channels.

    Example:
        >>> DepthwiseConv2D(3, padding="same")(torch.ones(1, 8, 8, 4)).shape
        torch.Size([1, 8, 8, 4])
    """

    rank = 2
    native_class = nn.Conv2d


class SeparableConvolution(AnyConvolution):
    """Base of the depthwise convolutions followed by a pointwise one, which mixes channels.

    Args:
        filters: Number of output channels.
        kernel_size: Size of the window; an int or one for each axis.
        strides: Step of the window; an int or one for each axis.
        padding: `"valid"` (none) or `"same"` (as many windows as `size / stride`, rounded up).
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
        dilation_rate: Distance between the points of the window; an int or one for each axis.
        depth_multiplier: Number of channels of the depthwise step for each channel.
        activation: Name, function or None (identity).
        use_bias: Whether there is a bias, after the mixture.
        depthwise_initializer: Of the first kernel, Keras' shape (*kernel_size, channels, depth_multiplier).
        pointwise_initializer: Of the mixture, Keras' shape (1, ..., channels * depth_multiplier, filters).
        bias_initializer: Of the bias.
        depthwise_regularizer: Penalty on the first kernel.
        pointwise_regularizer: Penalty on the mixture.
        bias_regularizer: Penalty on the bias.
        activity_regularizer: Penalty on the output.
        depthwise_constraint: What the first kernel is projected to after each step.
        pointwise_constraint: What the mixture is projected to after each step.
        bias_constraint: What the bias is projected to after each step.
    Source: Chollet 2017.
    """

    depthwise_kernel = Weight("conv.depthwise.weight", depthwise_layout)
    pointwise_kernel = Weight("conv.pointwise.weight", KERNEL)
    bias = Weight("conv.pointwise.bias")

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | Sequence[int] = 1,
        depth_multiplier: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        pointwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        pointwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        pointwise_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ):
        super().__init__(
            kernel_size,
            strides,
            padding,
            data_format,
            dilation_rate,
            activation,
            use_bias,
            bias_initializer,
            bias_regularizer,
            activity_regularizer,
            bias_constraint,
            **kwargs,
        )
        self.filters = positive_int(filters, "filters", self)
        self.depth_multiplier = positive_int(depth_multiplier, "depth_multiplier", self)
        self.depthwise_initializer = initializers.get(depthwise_initializer)
        self.pointwise_initializer = initializers.get(pointwise_initializer)
        # also under the weights' names, by which their views find them
        self.depthwise_regularizer = self.depthwise_kernel_regularizer = regularizers.get(depthwise_regularizer)
        self.pointwise_regularizer = self.pointwise_kernel_regularizer = regularizers.get(pointwise_regularizer)
        self.depthwise_constraint = self.depthwise_kernel_constraint = constraints.get(depthwise_constraint)
        self.pointwise_constraint = self.pointwise_kernel_constraint = constraints.get(pointwise_constraint)

    def build(self, input_shape: Shape) -> None:
        channels = self._channels(input_shape)
        middle = channels * self.depth_multiplier
        depthwise = self._make_conv(channels, middle, groups=channels, bias=False)
        pointwise = native(self.native_class, middle, self.filters, 1, bias=self.use_bias, dtype=self._dtype)
        self.conv = nn.Sequential(OrderedDict(depthwise=depthwise, pointwise=pointwise))
        self.initialize(depthwise_kernel=self.depthwise_initializer, pointwise_kernel=self.pointwise_initializer)
        self.initialize(bias=self.bias_initializer)


@register("SeparableConvolution1D")
class SeparableConv1D(SeparableConvolution):
    """Depthwise, then pointwise convolution over sequences. The arguments are those of `SeparableConvolution`.

    Input shape: (batch, steps, channels), or (batch, channels, steps) with channels_first.
    Output shape: likewise, with `filters` channels.

    Example:
        >>> SeparableConv1D(8, 3)(torch.ones(1, 10, 4)).shape
        torch.Size([1, 8, 8])
    """

    rank = 1
    native_class = nn.Conv1d


@register("SeparableConvolution2D")
@defaults(strides=(1, 1), dilation_rate=(1, 1))
class SeparableConv2D(SeparableConvolution):
    """Depthwise, then pointwise convolution over images. The arguments are those of `SeparableConvolution`.

    Input shape: (batch, height, width, channels), or (batch, channels, height, width) with channels_first.
    Output shape: likewise, with `filters` channels.

    Example:
        >>> SeparableConv2D(8, 3, activation="relu")(torch.ones(1, 28, 28, 3)).shape
        torch.Size([1, 26, 26, 8])
    """

    rank = 2
    native_class = nn.Conv2d
