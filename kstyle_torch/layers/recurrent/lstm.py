"""Long short-term memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from kstyle_torch import activations
from kstyle_torch.layer.base import layer_registry
from kstyle_torch.layer.weights import Weight
from kstyle_torch.layers.recurrent.cell import FusedCell, given, in_one_piece
from kstyle_torch.layers.recurrent.rnn import FromCell, UnitsRNN

register = layer_registry.register
SATURATED = 1e4  # saturates a sigmoid, whatever is added to it; representable in float16


@register()
class LSTMCell(FusedCell):
    """One step of `LSTM`, with the states [h, c]. The weights' gates are in torch's and Keras' order i, f, c, o.

    The arguments are those of `Cell`.

    Args:
        unit_forget_bias: Whether the forget gate's bias starts at 1.

    Example:
        >>> h, states = LSTMCell(4)(torch.ones(1, 3), [torch.zeros(1, 4), torch.zeros(1, 4)])
        >>> len(states)
        2
    """

    num_gates = 4
    num_states = 2
    bias = Weight("bias_ih_l0")

    def __init__(
        self,
        units: int,
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
        *,
        implementation: int = 2,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self._store(locals())

    def _initial_bias(self, shape: Sequence[int], dtype: Any = None) -> Tensor:
        return forget_bias(self.bias_initializer, shape, dtype, self.unit_forget_bias)

    def advance(self, gates: Tensor, states: Sequence[Tensor], training: bool) -> list[Tensor]:
        gates = gates + self.recur(states[0], training)
        return lstm_step(gates.chunk(4, dim=-1), states[1], self.activation, self.recurrent_activation)

    @property
    def has_kernel(self) -> bool:
        return self.activation is activations.tanh and self.recurrent_activation is activations.sigmoid

    def run_kernel(self, x: Tensor, states: Any, weights: list[Tensor], options: tuple[Any, ...]) -> tuple[Tensor, Any]:
        if x.shape[-1] != weights[0].shape[1]:  # oneDNN's kernel does not check it, and would read out of bounds
            raise RuntimeError(
                f"LSTM weights for {weights[0].shape[1]} features; got an input of shape {tuple(x.shape)}."
            )
        outputs, h, c = torch.lstm(x, states, weights, *options)
        return outputs, [h, c]

    def _hold_states(self, x: Tensor, weights: list[Tensor], inside: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Returns an additional input, 1 after the valid steps, that closes the input gate and opens the forget gate.

        The final c is then exactly that of the last valid step.
        """
        x = torch.cat([x, (~inside).unsqueeze(-1).to(x.dtype)], dim=-1)
        gate = x.new_full((self.units,), SATURATED)
        column = torch.cat([-gate, gate, torch.zeros_like(gate), torch.zeros_like(gate)])
        return x, in_one_piece([torch.cat([weights[0], column.to(weights[0]).unsqueeze(1)], dim=1), *weights[1:]])


def lstm_step(
    gates: Sequence[Tensor], c: Tensor, activation: Callable[..., Tensor], recurrent_activation: Callable[..., Tensor]
) -> list[Tensor]:
    """Returns the next states from the gates i, f, c, o before their activations and the previous c."""
    i, f, g, o = gates
    c = recurrent_activation(f) * c + recurrent_activation(i) * activation(g)
    return [recurrent_activation(o) * activation(c), c]


def forget_bias(initializer: Callable[..., Tensor], shape: Sequence[int], dtype: Any, ones: bool) -> Tensor:
    """Returns an initial bias of four gates; ones for the forget gate if `ones`."""
    if not ones:
        return initializer(shape, dtype=dtype)
    size = shape[0] // 4
    first, last = initializer((size,), dtype=dtype), initializer((2 * size,), dtype=dtype)
    return torch.cat([first, torch.ones_like(first), last])


@register()
class LSTM(UnitsRNN):
    """Long short-term memory: a recurrent layer with gates, and with the states h (its output) and c.

    The arguments are those of `Cell`, `RNN` and `CellRNN`. torch's fused kernel runs it, masks and initial states
    included, unless the activations are not tanh and sigmoid or, in training, there is recurrent_dropout.

    Args:
        unit_forget_bias: Whether the forget gate's bias starts at 1.
    Input shape: (batch, timesteps, features). Output shape: (batch, units), see `RNN`.
    Source: Hochreiter & Schmidhuber 1997.

    Example:
        >>> sequence, h, c = LSTM(4, return_sequences=True, return_state=True)(torch.ones(1, 5, 3))
        >>> sequence.shape, c.shape
        (torch.Size([1, 5, 4]), torch.Size([1, 4]))
    """

    cell_class = LSTMCell
    recurrent_activation = FromCell()
    unit_forget_bias = FromCell()

    def __init__(
        self,
        units: int,
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
        unroll: bool = False,
        use_cudnn: bool | str = "auto",
        **kwargs: Any,
    ):
        super().__init__(**given(locals()))
