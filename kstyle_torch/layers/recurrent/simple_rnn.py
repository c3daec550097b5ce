"""The simple recurrent layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kstyle_torch import activations
from kstyle_torch.layer.base import layer_registry
from kstyle_torch.layer.weights import Weight
from kstyle_torch.layers.recurrent.cell import FusedCell, given, runs_as_steps
from kstyle_torch.layers.recurrent.rnn import UnitsRNN

register = layer_registry.register
KERNELS = {activations.tanh: torch.rnn_tanh, activations.relu: torch.rnn_relu}


@register()
class SimpleRNNCell(FusedCell):
    """One step of `SimpleRNN`: the state is `activation(kernel x + recurrent_kernel h + bias)`.

    The arguments are those of `Cell`, but for `recurrent_activation` and `implementation`.

    Example:
        >>> output, states = SimpleRNNCell(4)(torch.ones(1, 3), [torch.zeros(1, 4)])
        >>> output.shape
        torch.Size([1, 4])
    """

    _seeded_first = True
    num_gates = 1
    bias = Weight("bias_ih_l0")

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
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

    @runs_as_steps
    def forward(self, sequence: Tensor, states: Any, training: bool | None = False) -> tuple[Tensor, Any]:
        return self._take_step(sequence, states, bool(training))

    def advance(self, gates: Tensor, states: Sequence[Tensor], training: bool) -> list[Tensor]:
        return [self.activation(gates + self.recur(states[0], training))]

    @property
    def has_kernel(self) -> bool:
        return self.activation in KERNELS

    def run_kernel(self, x: Tensor, states: Any, weights: list[Tensor], options: tuple[Any, ...]) -> tuple[Tensor, Any]:
        outputs, h = KERNELS[self.activation](x, states[0], weights, *options)
        return outputs, [h]


@register()
class SimpleRNN(UnitsRNN):
    """A recurrent layer whose output is its state: `activation(kernel x + recurrent_kernel h + bias)`.

    The arguments are those of `Cell` and of `RNN`.

    Input shape: (batch, timesteps, features). Output shape: (batch, units), see `RNN`.
    Source: Elman 1990.

    Example:
        >>> SimpleRNN(4, return_sequences=True)(torch.ones(1, 5, 3)).shape
        torch.Size([1, 5, 4])
    """

    cell_class = SimpleRNNCell

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**given(locals()))
