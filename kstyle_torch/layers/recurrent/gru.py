"""Gated recurrent units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kstyle_torch import activations
from kstyle_torch.layer.base import layer_registry
from kstyle_torch.layer.layout import Layout
from kstyle_torch.layer.weights import Weight
from kstyle_torch.layers.recurrent.cell import FusedCell, given
from kstyle_torch.layers.recurrent.rnn import FromCell, UnitsRNN

register = layer_registry.register


def _swap(weight: Tensor) -> Tensor:
    """Permutes gates along the last axis from Keras' order z, r, h to torch's r, z, n, or back."""
    first, second, third = weight.chunk(3, dim=-1)
    return torch.cat([second, first, third], dim=-1)


def _matrix_to_keras(weight: Tensor) -> Tensor:
    return _swap(weight.t())


def _matrix_to_torch(weight: Tensor) -> Tensor:
    return _swap(weight).t()


MATRIX = Layout(_matrix_to_keras, _matrix_to_torch, copies=True)


@register()
class GRUCell(FusedCell):
    """One step of `GRU`. The weights' gates are in torch's order r, z, n (Keras': z, r, h).

    The arguments are those of `Cell`. `bias_l0` holds torch's two biases, of the inputs and of the state, as its rows.

    Args:
        reset_after: Whether the reset gate is applied after the state's matrix, as in torch, or before it.

    Example:
        >>> output, states = GRUCell(4)(torch.ones(1, 3), [torch.zeros(1, 4)])
        >>> output.shape
        torch.Size([1, 4])
    """

    num_gates = 3
    kernel = Weight("weight_ih_l0", MATRIX)
    recurrent_kernel = Weight("weight_hh_l0", MATRIX)
    bias = Weight("bias_l0", Layout(_swap, _swap, copies=True))

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
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
        reset_after: bool = True,
        seed: int | None = None,
        *,
        implementation: int = 2,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self._store(locals())

    def _make_bias(self, size: int, options: dict[str, Any]) -> None:
        shape = (2, size) if self.reset_after else (size,)
        self.bias_l0 = nn.Parameter(torch.empty(shape, **options)) if self.use_bias else None

    def _biases(self) -> tuple[Tensor | None, Tensor | None]:
        if self.bias_l0 is None or not self.reset_after:
            return self.bias_l0, None
        return self.bias_l0[0], self.bias_l0[1]

    def advance(self, gates: Tensor, states: Sequence[Tensor], training: bool) -> list[Tensor]:
        h = states[0]
        if not self.reset_after:
            return [self._advance_reset_first(gates, h, training)]
        (x_r, x_z, x_n), (h_r, h_z, h_n) = gates.chunk(3, dim=-1), self.recur(h, training).chunk(3, dim=-1)
        r, z = self.recurrent_activation(x_r + h_r), self.recurrent_activation(x_z + h_z)
        return [torch.lerp(self.activation(x_n + r * h_n), h, z)]

    def _advance_reset_first(self, gates: Tensor, h: Tensor, training: bool) -> Tensor:
        masks = self.dropout_masks("recurrent_dropout", h, training)
        gate_weight, new_weight = self.weight_hh_l0.split([2 * self.units, self.units])
        gates_rz, x_n = gates.split([2 * self.units, self.units], dim=-1)
        gates_rz = gates_rz + self.map_gates(F.linear, h, gate_weight, None, masks[:2])
        r, z = map(self.recurrent_activation, gates_rz.chunk(2, dim=-1))
        reset = r * h * masks[2] if masks else r * h
        return torch.lerp(self.activation(x_n + F.linear(reset, new_weight)), h, z)

    @property
    def has_kernel(self) -> bool:
        usual = self.activation is activations.tanh and self.recurrent_activation is activations.sigmoid
        return usual and self.reset_after

    def run_kernel(self, x: Tensor, states: Any, weights: list[Tensor], options: tuple[Any, ...]) -> tuple[Tensor, Any]:
        outputs, h = torch.gru(x, states[0], weights, *options)
        return outputs, [h]


@register()
class GRU(UnitsRNN):
    """Gated recurrent units: a gated recurrent layer whose only state is its output.

    The arguments are those of `Cell`, `RNN` and `CellRNN`. torch's fused kernel runs it, masks and initial states
    included, unless the activations are not tanh and sigmoid, `reset_after` is False or, in training, there is
    recurrent_dropout.

    Args:
        reset_after: Whether the reset gate is applied after the state's matrix, as in torch, or before it.
    Input shape: (batch, timesteps, features). Output shape: (batch, units), see `RNN`.
    Source: Cho et al. 2014.

    Example:
        >>> GRU(4)(torch.ones(1, 5, 3)).shape
        torch.Size([1, 4])
    """

    cell_class = GRUCell
    recurrent_activation = FromCell()
    reset_after = FromCell()

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
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
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        reset_after: bool = True,
        use_cudnn: bool | str = "auto",
        **kwargs: Any,
    ):
        super().__init__(**given(locals()))
