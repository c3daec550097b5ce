"""Convolutions: the base class of all, and plain convolutions of each rank."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kstyle_torch import activations, constraints, initializers, ops, regularizers
from kstyle_torch._torch import is_compiling
from kstyle_torch.layer.base import layer_registry
from kstyle_torch.layer.call_pairs import has_other_call
from kstyle_torch.layer.casts import INTEGERS
from kstyle_torch.layer.checks import check_sizes, known_size, positive_int
from kstyle_torch.layer.hooks import anybody_listens
from kstyle_torch.layer.layout import Layout
from kstyle_torch.layer.lora import AdaptedWeight, LoraLayer
from kstyle_torch.layer.module_walk import set_unnoticed
from kstyle_torch.layer.shapes import Shape
from kstyle_torch.layer.spatial import SpatialLayer, check_padding, defaults, flat_pads, pad_same, sizes
from kstyle_torch.layer.weights import Weight, native

register = layer_registry.register

MEMORY_FORMATS = {2: torch.channels_last, 3: torch.channels_last_3d}


def _kernel_to_keras(weight: Tensor) -> Tensor:
    return weight.movedim((0, 1), (-1, -2))


def _kernel_to_torch(kernel: Tensor) -> Tensor:
    return kernel.movedim((-1, -2), (0, 1))


# for all ranks; transposed convolutions swap input and output channels in both layouts
KERNEL = Layout(_kernel_to_keras, _kernel_to_torch)


class AnyConvolution(SpatialLayer):
    """Base class of all convolutions.

    Args:
        kernel_size: Size of the window; an int or one for each axis.
        strides: Step of the window; an int or one for each axis.
        padding: `"valid"` (none) or `"same"` (as many windows as `size / stride`, rounded up).
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
        dilation_rate: Distance between the points of the window; an int or one for each axis.
        activation: Name, function or None (identity).
        use_bias: Whether there is a bias.
        bias_initializer: Of the bias.
        bias_regularizer: Penalty on the bias.
        activity_regularizer: Penalty on the output.
        bias_constraint: What the bias is projected to after each step.
    """

    native_class: ClassVar[type[nn.Module]]
    convolution_op: Any = None  # method of the plain convolutions
    _changes_op = False  # whether this instance uses LoRA or a replaced `convolution_op`
    paddings: ClassVar[tuple[str, ...]] = ("valid", "same")

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int],
        padding: str,
        data_format: str | None,
        dilation_rate: int | Sequence[int],
        activation: Any,
        use_bias: bool,
        bias_initializer: Any,
        bias_regularizer: Any,
        activity_regularizer: Any,
        bias_constraint: Any,
        **kwargs: Any,
    ):
        super().__init__(data_format, activity_regularizer=activity_regularizer, **kwargs)
        self.kernel_size = sizes(kernel_size, self.rank, "kernel_size", self)
        self.strides = sizes(strides, self.rank, "strides", self)
        self.dilation_rate = sizes(dilation_rate, self.rank, "dilation_rate", self)
        self.padding = check_padding(padding, self, self.paddings)
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.bias_initializer = initializers.get(bias_initializer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.bias_constraint = constraints.get(bias_constraint)
        self._plan_padding()

    def _plan_padding(self) -> None:
        """Assigns symmetric padding to torch's module; the rest is padded before it."""
        self._native_padding: Any = 0
        self._pad: Any = None
        spread = [(length - 1) * step for length, step in zip(self.kernel_size, self.dilation_rate)]
        if self.padding == "causal":
            self._pad = functools.partial(F.pad, pad=(spread[0], 0))
        elif self.padding == "same" and any(spread):
            if max(self.strides) > 1:  # then padding depends on the input's size
                self._pad = functools.partial(
                    pad_same, window=self.kernel_size, strides=self.strides, dilation=self.dilation_rate
                )
            elif any(n % 2 for n in spread):
                self._pad = functools.partial(F.pad, pad=flat_pads([(n // 2, n - n // 2) for n in spread]))
            else:
                self._native_padding = tuple(n // 2 for n in spread)

    def _check_one_of_strides_and_dilation(self) -> None:
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(
                f"{self.name}: strides and dilation_rate cannot both exceed 1; got {self.strides} and "
                f"{self.dilation_rate}."
            )

    def _channels(self, input_shape: Shape) -> int:
        """Returns the number of input channels; raises an error if the shape does not fit the layer."""
        self._check_rank(input_shape)
        if self.padding == "valid":
            window = [(length - 1) * step + 1 for length, step in zip(self.kernel_size, self.dilation_rate)]
            self._check_window(input_shape, window, "a window of")
        return known_size(input_shape, -1 if self._permutes else 1, self)

    def _make_conv(self, in_channels: int, out_channels: int, **more: Any) -> nn.Module:
        """Returns the native module, with its kernel in the memory format of the input."""
        settings = {"padding": self._native_padding, "bias": self.use_bias, "dtype": self._dtype, **more}
        conv = native(
            self.native_class,
            in_channels,
            out_channels,
            self.kernel_size,
            self.strides,
            dilation=self.dilation_rate,
            **settings,
        )
        memory_format = MEMORY_FORMATS.get(self.rank)
        if self._permutes and memory_format and not conv.weight.is_contiguous(memory_format=memory_format):
            conv.weight = nn.Parameter(torch.empty_like(conv.weight, memory_format=memory_format))  # no values yet
        return conv

    def forward(self, inputs: Tensor) -> Tensor:
        y = self.convolve(inputs)
        return y if self.activation is activations.linear else self.activation(y)

    def _direct(self) -> Callable[[Tensor], Tensor]:
        known = type(self)._own_call is AnyConvolution._own_call and type(self).convolve is AnyConvolution.convolve
        if not known or has_other_call(self) or "forward" in self.__dict__:
            return self.forward

        def run(x: Tensor) -> Tensor:
            fresh = type(self._modules["conv"]) is self.native_class  # its output is neither shared nor a view
            return self.convolve(x, torch.relu_) if fresh and self.activation is activations.relu else self.forward(x)

        return run

    def convolve(self, x: Tensor, finish: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Returns the output without the activation.

        Args:
            finish: Function that may change the native module's output in place, if no hook can observe it.
        """
        if x.ndim != self.rank + 2:
            self._check_rank(x.shape)
        if x.dtype in INTEGERS:
            x = x.to(self._dtype)
        given = x
        try:
            if self.__class__.convolution_op not in OPS or self._changes_op:
                return self._convolve_by_op(x, finish)
            if self.rank == 1 and self._permutes and self._suits_rows(x):
                return self._convolve_row(x, finish)
            if self._permutes:
                x = x.permute(self._to_first)
            if self._pad is not None:
                x = self._pad(x)
            y = self.conv(x) if finish is None else finish(self.conv(x))
        except RuntimeError:
            check_sizes(self, given.shape, -1 if self._permutes else 1)
            raise
        return y.permute(self._to_last) if self._permutes else y

    def _convolve_by_op(self, x: Tensor, finish: Callable[[Tensor], Tensor] | None) -> Tensor:
        """Returns the output of `convolution_op`, which is user-defined or gets LoRA's kernel, plus the bias."""
        if self.padding == "causal":
            x = self._pad(x.permute(self._to_first)).permute(self._to_last) if self._permutes else self._pad(x)
        y = self.convolution_op(x, self._kernel_for_op(x))
        bias = self.conv.bias
        if bias is not None:
            y = y + (bias if self._permutes else bias.reshape(-1, *(1,) * self.rank))
        elif finish is not None:
            y = y.clone()  # the output of a user's function may be referenced elsewhere
        return y if finish is None else finish(y)

    def _kernel_for_op(self, x: Tensor) -> Any:
        raise NotImplementedError

    def _suits_rows(self, x: Tensor) -> bool:
        """Returns whether to treat a sequence as an image of one row, since torch has channels_last kernels for images only."""
        if type(x) is not Tensor or not x.is_cpu or x.dtype is not torch.float32:
            return False
        if torch.compiler.is_compiling() and is_compiling():  # the first alone saves a call
            return False
        conv: Any = self._modules["conv"]
        usual = type(conv) is nn.Conv1d and type(conv.padding) is tuple and conv.padding_mode == "zeros"
        return usual and not anybody_listens((conv,))

    def _convolve_row(self, x: Tensor, finish: Callable[[Tensor], Tensor] | None) -> Tensor:
        """Convolves (batch, steps, channels) without the copies to channels_first and back of `nn.Conv1d`."""
        conv: Any = self._modules["conv"]
        weights = conv._parameters
        if self._pad is not None:
            x = self._pad(x.mT).mT.contiguous()
        y = torch.conv2d(
            x.mT.unsqueeze(2),
            weights["weight"].unsqueeze(2),
            weights["bias"],
            (1, *conv.stride),
            (0, *conv.padding),
            (1, *conv.dilation),
            conv.groups,
        )
        y = y if finish is None else finish(y)
        return y.squeeze(2).mT


class Convolution(AnyConvolution, LoraLayer):
    """Base of the plain convolutions.

    Args:
        filters: Number of output channels.
        kernel_size: Size of the window; an int or one for each axis.
        strides: Step of the window; an int or one for each axis.
        padding: `"valid"` (none), `"same"` (as many windows as `size / stride`, rounded up) or, for `Conv1D`,
            `"causal"` (a step depends on itself and earlier steps).
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
        dilation_rate: Distance between the points of the window; an int or one for each axis.
        groups: Number of groups of channels.
        activation: Name, function or None (identity).
        use_bias: Whether there is a bias.
        kernel_initializer: Of the kernel, Keras' shape (*kernel_size, channels / groups, filters).
        bias_initializer: Of the bias.
        kernel_regularizer: Penalty on the kernel.
        bias_regularizer: Penalty on the bias.
        activity_regularizer: Penalty on the output.
        kernel_constraint: What the kernel is projected to after each step.
        bias_constraint: What the bias is projected to after each step.
        lora_rank: Rank of the two LoRA factors that are trained instead of the kernel; no LoRA if None.
        lora_alpha: Their product is scaled by `lora_alpha / lora_rank`; by 1 if None.
    """

    kernel = AdaptedWeight("conv.weight", KERNEL)
    bias = Weight("conv.bias")

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | Sequence[int] = 1,
        groups: int = 1,
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
        self.groups = positive_int(groups, "groups", self)
        if self.filters % self.groups:
            raise ValueError(f"{self.name}: filters ({filters}) must be a multiple of groups ({groups}).")
        self._check_one_of_strides_and_dilation()
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)

    def build(self, input_shape: Shape) -> None:
        channels = self._channels(input_shape)
        if channels % self.groups:
            raise ValueError(
                f"{self.name}: the input's channels ({channels}) must be a multiple of groups ({self.groups})."
            )
        self.conv = self._make_conv(channels, self.filters, groups=self.groups)
        self.initialize(kernel=self.kernel_initializer, bias=self.bias_initializer)
        self._build_lora()

    def convolution_op(self, inputs: Tensor, kernel: Any) -> Tensor:
        """Returns the convolution of the inputs with a kernel in Keras' layout, without the bias.

        A subclass that changes the kernel first, as weight standardization does, overrides it.
        """
        padding = "valid" if self.padding == "causal" else self.padding  # already padded
        return ops.conv(inputs, kernel, self.strides, padding, self.data_format, self.dilation_rate)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in ("convolution_op", "lora_enabled"):
            set_unnoticed(self, _changes_op=self.lora_enabled or "convolution_op" in self.__dict__)

    def _kernel_for_op(self, x: Tensor) -> Any:
        if not self.lora_enabled:
            return self.kernel
        return self._merged_matrix().to(x.dtype)


OPS = (None, Convolution.convolution_op)  # implementations with which torch's module can run


@register("Convolution1D")
class Conv1D(Convolution):
    """Convolution over sequences. The arguments are those of `Convolution`.

    Input shape: (batch, steps, channels), or (batch, channels, steps) with channels_first.
    Output shape: likewise, with `filters` channels.

    Example:
        >>> Conv1D(8, 3, padding="causal")(torch.ones(1, 10, 4)).shape
        torch.Size([1, 10, 8])
    """

    rank = 1
    native_class = nn.Conv1d
    paddings = ("valid", "same", "causal")


@register("Convolution2D")
@defaults(strides=(1, 1), dilation_rate=(1, 1))
class Conv2D(Convolution):
    """Convolution over images. The arguments are those of `Convolution`.

    Input shape: (batch, height, width, channels), or (batch, channels, height, width) with channels_first.
    Output shape: likewise, with `filters` channels.

    Example:
        >>> Conv2D(8, 3, activation="relu")(torch.ones(1, 28, 28, 1)).shape
        torch.Size([1, 26, 26, 8])
    """

    rank = 2
    native_class = nn.Conv2d


@register("Convolution3D")
@defaults(strides=(1, 1, 1), dilation_rate=(1, 1, 1))
class Conv3D(Convolution):
    """Convolution over volumes. The arguments are those of `Convolution`.

    Input shape: (batch, depth, height, width, channels), or with the channels after the batch for channels_first.
    Output shape: likewise, with `filters` channels.

    Example:
        >>> Conv3D(8, 3, strides=2)(torch.ones(1, 9, 9, 9, 1)).shape
        torch.Size([1, 4, 4, 4, 8])
    """

    rank = 3
    native_class = nn.Conv3d
