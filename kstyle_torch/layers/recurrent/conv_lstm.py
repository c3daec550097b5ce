"""Convolutional LSTM: the gates are convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kstyle_torch import config
from kstyle_torch.layer.base import layer_registry
from kstyle_torch.layer.checks import known_size, positive_int
from kstyle_torch.layer.layout import Layout
from kstyle_torch.layer.shapes import Shape
from kstyle_torch.layer.spatial import (
    check_data_format,
    check_padding,
    pad_same,
    sizes,
    to_channels_first,
    to_channels_last,
)
from kstyle_torch.layer.weights import Weight
from kstyle_torch.layers.recurrent.cell import Cell, given
from kstyle_torch.layers.recurrent.lstm import forget_bias, lstm_step
from kstyle_torch.layers.recurrent.rnn import CellRNN, FromCell

register = layer_registry.register
CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def _to_keras(weight: Tensor) -> Tensor:
    return weight.permute(*range(2, weight.ndim), 1, 0)


def _to_torch(weight: Tensor) -> Tensor:
    return weight.permute(weight.ndim - 1, weight.ndim - 2, *range(weight.ndim - 2))


KERNEL = Layout(_to_keras, _to_torch)


class ConvLSTMCell(Cell):
    """One step of the convolutional LSTMs, with the states [h, c]. The arguments are those of `ConvLSTM`, and `rank`."""

    _seeded_first = True
    num_gates = 4
    num_states = 2
    implementation = 1  # a dropout mask for each gate
    kernel = Weight("weight_ih", KERNEL)
    recurrent_kernel = Weight("weight_hh", KERNEL)
    bias = Weight("bias_ih")

    def __init__(
        self,
        rank: int,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | Sequence[int] = 1,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self._store(locals())
        self.filters = positive_int(filters, "filters", self)
        self.kernel_size = sizes(kernel_size, rank, "kernel_size", self)
        self.strides = sizes(strides, rank, "strides", self)
        self.dilation_rate = sizes(dilation_rate, rank, "dilation_rate", self)
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(
                f"{self.name}: strides and dilation_rate cannot both exceed 1; got {self.strides} and "
                f"{self.dilation_rate}."
            )
        self.padding = check_padding(padding, self)
        self.data_format = check_data_format(data_format, self)
        self.channels_last = self.data_format == "channels_last"
        self.gate_axis = -1 if self.channels_last else -1 - rank
        self.state_size = [self.filters, self.filters]

    def build(self, input_shape: Shape) -> None:
        channels = known_size(input_shape, self.gate_axis, self)
        self.state_shape = self._output_shape(input_shape)
        options: Any = {"dtype": self._dtype, "device": config.device()}
        self.weight_ih = nn.Parameter(torch.empty(4 * self.filters, channels, *self.kernel_size, **options))
        self.weight_hh = nn.Parameter(torch.empty(4 * self.filters, self.filters, *self.kernel_size, **options))
        self.bias_ih = nn.Parameter(torch.empty(4 * self.filters, **options)) if self.use_bias else None
        self.initialize(kernel=self.kernel_initializer, recurrent_kernel=self.recurrent_initializer)
        self.initialize(bias=self._initial_bias)

    def _initial_bias(self, shape: Sequence[int], dtype: Any = None) -> Tensor:
        return forget_bias(self.bias_initializer, shape, dtype, self.unit_forget_bias)

    def _output_shape(self, input_shape: Shape) -> tuple[int, ...]:
        spatial = input_shape[1:-1] if self.channels_last else input_shape[2:]
        if None in spatial:
            raise ValueError(f"{self.name}: the sizes of the images must be known; got shape {tuple(input_shape)}.")
        options: Any = {"device": "cpu"}
        empty = torch.zeros(1, 1, *spatial, **options)  # type: ignore[arg-type]
        shape = self._convolve(empty, torch.zeros(1, 1, *self.kernel_size, **options), None).shape[2:]
        return (*shape, self.filters) if self.channels_last else (self.filters, *shape)

    def _input_matrix(self) -> Tensor:
        return self.weight_ih

    def project(self, x: Tensor, training: bool) -> Tensor:
        masks = [mask.unsqueeze(1) for mask in self.dropout_masks("dropout", x[:, 0], training)]
        return self.map_gates(self._map_inputs, x, self.weight_ih, self.bias_ih, masks)

    def _map_inputs(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Returns one convolution for all steps."""
        images = x.flatten(0, 1)
        y = self._convolve(to_channels_first(images) if self.channels_last else images, weight, bias)
        return (to_channels_last(y) if self.channels_last else y).unflatten(0, x.shape[:2])

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        convolution = CONVOLUTIONS[self.rank]
        if self.padding == "same":
            x = pad_same(x, self.kernel_size, self.strides, self.dilation_rate)
        return convolution(x, weight, bias, self.strides, 0, self.dilation_rate)

    def _map_state(self, h: Tensor, weight: Tensor, bias: None) -> Tensor:
        h = to_channels_first(h) if self.channels_last else h
        ones = (1,) * self.rank
        y = CONVOLUTIONS[self.rank](pad_same(h, self.kernel_size, ones, ones), weight)
        return to_channels_last(y) if self.channels_last else y

    def advance(self, gates: Tensor, states: Sequence[Tensor], training: bool) -> list[Tensor]:
        h, c = states
        masks = self.dropout_masks("recurrent_dropout", h, training)
        gates = gates + self.map_gates(self._map_state, h, self.weight_hh, None, masks)
        return lstm_step(gates.chunk(4, self.gate_axis), c, self.activation, self.recurrent_activation)


class ConvLSTM(CellRNN):
    """Base of the convolutional LSTMs. Further arguments are those of `Cell` and `RNN`.

    Args:
        filters: Number of output channels, and of those of each state.
        kernel_size: Size of the window; an int or one for each axis.
        strides: Step of the window on the inputs; an int or one for each axis.
        padding: `"valid"` or `"same"`, of the inputs; the states keep their size.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
        dilation_rate: Distance between the points of the window on the inputs; an int or one for each axis.
        unit_forget_bias: Whether the forget gate's bias starts at 1.
    """

    cell_class = ConvLSTMCell
    rank: ClassVar[int]
    filters = FromCell()
    kernel_size = FromCell()
    strides = FromCell()
    padding = FromCell()
    data_format = FromCell()
    dilation_rate = FromCell()
    recurrent_activation = FromCell()
    unit_forget_bias = FromCell()

    _step_has_axes = True

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | Sequence[int] = 1,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**given(locals()), rank=self.rank)

    @property
    def layout(self) -> tuple[str, ...]:  # type: ignore[override]
        """The axes of one step."""
        axes = ("rows", "columns", "depth")[: self.rank]
        return (*axes, "channels") if self.cell.channels_last else ("channels", *axes)


@register()
class ConvLSTM1D(ConvLSTM):
    """An LSTM over sequences of sequences, whose gates are convolutions. The arguments are those of `ConvLSTM`.

    Input shape: (batch, timesteps, rows, channels), or (batch, timesteps, channels, rows) with channels_first.
    Output shape: (batch, rows, filters), likewise; see `RNN`.
    Source: Shi et al. 2015.

    Example:
        >>> ConvLSTM1D(4, 3)(torch.ones(1, 5, 8, 3)).shape
        torch.Size([1, 6, 4])
    """

    rank = 1


@register()
class ConvLSTM2D(ConvLSTM):
    """An LSTM over sequences of images, whose gates are convolutions. The arguments are those of `ConvLSTM`.

    Input shape: (batch, timesteps, rows, columns, channels), or with the channels before the rows (channels_first).
    Output shape: (batch, rows, columns, filters), likewise; see `RNN`.
    Source: Shi et al. 2015.

    Example:
        >>> ConvLSTM2D(4, 3, padding="same")(torch.ones(1, 5, 8, 8, 3)).shape
        torch.Size([1, 8, 8, 4])
    """

    rank = 2


@register()
class ConvLSTM3D(ConvLSTM):
    """An LSTM over sequences of volumes, whose gates are convolutions. The arguments are those of `ConvLSTM`.

    Input shape: (batch, timesteps, rows, columns, depth, channels), or with the channels before the rows
        (channels_first).
    Output shape: (batch, rows, columns, depth, filters), likewise; see `RNN`.
    Source: Shi et al. 2015.

    Example:
        >>> ConvLSTM3D(4, 3)(torch.ones(1, 5, 6, 6, 6, 3)).shape
        torch.Size([1, 4, 4, 4, 4])
    """

    rank = 3
