"""Transposed convolutions: gradients of convolutions, which enlarge images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from kstyle_torch import constraints, initializers, regularizers
from kstyle_torch.layer.base import layer_registry
from kstyle_torch.layer.casts import INTEGERS
from kstyle_torch.layer.checks import check_sizes, positive_int
from kstyle_torch.layer.shapes import Shape
from kstyle_torch.layer.spatial import defaults, sizes
from kstyle_torch.layer.weights import Weight
from kstyle_torch.layers.convolution import KERNEL, AnyConvolution

register = layer_registry.register


class TransposedConvolution(AnyConvolution):
    """Base of the transposed convolutions.

    Args:
        filters: Number of output channels.
        kernel_size: Size of the window; an int or one for each axis.
        strides: How many times larger the output is; an int or one for each axis.
        padding: `"valid"` (all that a window reaches) or `"same"` (`size * stride`).
        output_padding: Additional rows of the output beyond the smallest size, less than the strides; an int or one for
            each axis. None to derive it from `padding`.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
        dilation_rate: Distance between the points of the window; an int or one for each axis.
        activation: Name, function or None (identity).
        use_bias: Whether there is a bias.
        kernel_initializer: Of the kernel, Keras' shape (*kernel_size, filters, channels).
        bias_initializer: Of the bias.
        kernel_regularizer: Penalty on the kernel.
        bias_regularizer: Penalty on the bias.
        activity_regularizer: Penalty on the output.
        kernel_constraint: What the kernel is projected to after each step.
        bias_constraint: What the bias is projected to after each step.
    """

    kernel = Weight("conv.weight", KERNEL)
    bias = Weight("conv.bias")

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        output_padding: int | Sequence[int] | None = None,
        data_format: str | None = None,
        dilation_rate: int | Sequence[int] = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ):
        self.output_padding = None
        if output_padding is not None:
            self.output_padding = sizes(output_padding, self.rank, "output_padding", self, minimum=0)
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
        self._check_one_of_strides_and_dilation()
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)

    def _plan_padding(self) -> None:
        """Splits the cropping into torch's, which is symmetric, and an additional row at the end."""
        added: Sequence[int | None] = self.output_padding or (None,) * self.rank
        if any(n is not None and n >= stride for n, stride in zip(added, self.strides)):
            raise ValueError(
                f"{self.name}: output_padding must be less than strides; got {self.output_padding} and {self.strides}."
            )
        axes = zip(self.kernel_size, self.dilation_rate, self.strides, added)
        cuts = [_cut((length - 1) * step + 1, stride, n, self.padding) for length, step, stride, n in axes]
        self._native_padding = tuple(before for before, _ in cuts)
        self._added = tuple(max(before - after, 0) for before, after in cuts)
        rest = [max(after - before, 0) for before, after in cuts]
        spatial = (slice(None, -n if n else None) for n in rest)
        self._kept: Any = (slice(None), slice(None), *spatial) if any(rest) else None

    def build(self, input_shape: Shape) -> None:
        channels = self._channels(input_shape)
        self.conv = self._make_conv(channels, self.filters, output_padding=self._added)
        self.initialize(kernel=self.kernel_initializer, bias=self.bias_initializer)

    def _check_window(self, shape: Shape, window: Sequence[int], what: str) -> None:
        """Accepts every window, since windows lie over the output, where they always fit."""

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.ndim != self.rank + 2:
            self._check_rank(inputs.shape)
        if inputs.dtype in INTEGERS:
            inputs = inputs.to(self._dtype)
        try:
            y = self.conv(inputs.permute(self._to_first) if self._permutes else inputs)
        except RuntimeError:
            check_sizes(self, inputs.shape, -1 if self._permutes else 1)
            raise
        if self._kept is not None:
            y = y[self._kept]
        return self.activation(y.permute(self._to_last) if self._permutes else y)


def _cut(window: int, stride: int, output_padding: int | None, padding: str) -> tuple[int, int]:
    """Returns Keras' cropping before and after the full output of the windows; negative numbers mean padding."""
    if padding == "valid":
        return 0, -(max(stride - window, 0) if output_padding is None else output_padding)
    total = stride + window - 2 if output_padding is None else window + window % 2 - 2 + output_padding
    left = min(total - total // 2, window - 1)
    return window - 1 - left, window - 1 - (total - left)


@register("Convolution1DTranspose")
class Conv1DTranspose(TransposedConvolution):
    """Transposed convolution over sequences. The arguments are those of `TransposedConvolution`.

    Input shape: (batch, steps, channels), or (batch, channels, steps) with channels_first.
    Output shape: likewise, with `filters` channels.

    Example:
        >>> Conv1DTranspose(8, 3, strides=2)(torch.ones(1, 10, 4)).shape
        torch.Size([1, 21, 8])
    """

    rank = 1
    native_class = nn.ConvTranspose1d


@register("Convolution2DTranspose")
@defaults(strides=(1, 1), dilation_rate=(1, 1))
class Conv2DTranspose(TransposedConvolution):
    """Transposed convolution over images. The arguments are those of `TransposedConvolution`.

    Input shape: (batch, height, width, channels), or (batch, channels, height, width) with channels_first.
    Output shape: likewise, with `filters` channels.

    Example:
        >>> Conv2DTranspose(8, 3, strides=2, padding="same")(torch.ones(1, 8, 8, 4)).shape
        torch.Size([1, 16, 16, 8])
    """

    rank = 2
    native_class = nn.ConvTranspose2d


@register("Convolution3DTranspose")
class Conv3DTranspose(TransposedConvolution):
    """Transposed convolution over volumes.

    The arguments are those of `TransposedConvolution`, with `data_format` and `output_padding` in Keras' other order.

    Input shape: (batch, depth, height, width, channels), or with the channels after the batch for channels_first.
    Output shape: likewise, with `filters` channels.

    Example:
        >>> Conv3DTranspose(8, 2, strides=2)(torch.ones(1, 4, 4, 4, 2)).shape
        torch.Size([1, 8, 8, 8, 8])
    """

    rank = 3
    native_class = nn.ConvTranspose3d

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = (1, 1, 1),
        padding: str = "valid",
        data_format: str | None = None,
        output_padding: int | Sequence[int] | None = None,
        dilation_rate: int | Sequence[int] = (1, 1, 1),
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ):
        super().__init__(
            filters,
            kernel_size,
            strides,
            padding,
            output_padding,
            data_format,
            dilation_rate,
            activation,
            use_bias,
            kernel_initializer,
            bias_initializer,
            kernel_regularizer,
            bias_regularizer,
            activity_regularizer,
            kernel_constraint,
            bias_constraint,
            **kwargs,
        )
