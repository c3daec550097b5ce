"""Bidirectional: two recurrent layers, one for each direction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kstyle_torch.layer.base import Layer, layer_registry
from kstyle_torch.layer.call_pairs import has_other_call
from kstyle_torch.layer.custom_objects import TakesCustomObjects
from kstyle_torch.layer.shapes import Shape
from kstyle_torch.layers.recurrent.lstm import LSTMCell
from kstyle_torch.layers.recurrent.rnn import UnitsRNN
from kstyle_torch.serialization import serialize_keras_object

register = layer_registry.register
COMMON = ("stateful", "return_sequences", "return_state")
ALIKE = ("__class__", "units", "use_bias")  # attributes that must be equal for one call of torch's kernel
MERGES: dict[str | None, Callable[[Tensor, Tensor], Any]] = {
    "concat": lambda forward, backward: torch.cat([forward, backward], dim=-1),
    "sum": torch.add,
    "mul": torch.mul,
    "ave": lambda forward, backward: (forward + backward) / 2,
    None: lambda forward, backward: (forward, backward),
}


@register()
class Bidirectional(TakesCustomObjects, Layer):
    """Wrapper that runs a recurrent layer over a sequence in both directions.

    Args:
        layer: A recurrent layer, or one with its attributes `go_backwards`, `return_sequences`, `return_state` and
            `stateful`. It is a template: `forward_layer` and `backward_layer` are new layers with its arguments.
        merge_mode: Combination of the two outputs: "concat", "sum", "mul", "ave", or None for a pair.
        weights: Initial weights, those of the forward layer first.
        backward_layer: Layer for the backward direction, with the opposite `go_backwards`; it is not copied.
    Call: as the layer; `initial_state` has the forward layer's states first. With `return_sequences`, the output at
        masked steps is zeros.
    Output shape: the layer's, the last axis doubled by "concat"; with `return_state`, the states of both.
    Raises: ValueError: for an object that is not a layer, an unknown merge_mode, or layers that differ in `return_sequences`,
        `return_state` or `stateful`.
    Source: Schuster & Paliwal 1997.

    Example:
        >>> from kstyle_torch.layers import LSTM
        >>> Bidirectional(LSTM(4, return_sequences=True))(torch.ones(1, 5, 3)).shape
        torch.Size([1, 5, 8])
    """

    _has_precision = False  # the inner layers handle it

    supports_masking = True
    _opens_call = True

    def __init__(
        self,
        layer: Layer,
        merge_mode: str | None = "concat",
        weights: Any = None,
        backward_layer: Layer | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        for given in (layer, backward_layer or layer):
            if not isinstance(given, Layer) or not all(hasattr(given, name) for name in ("go_backwards", *COMMON)):
                raise ValueError(f"{self.name}: expected a recurrent layer, such as LSTM(32); got {given!r}.")
        if merge_mode not in MERGES:
            raise ValueError(f"{self.name}: merge_mode must be one of {[*MERGES]}; got {merge_mode!r}.")
        self.merge_mode = merge_mode
        self.forward_layer = _directed(layer, "forward_")
        self.backward_layer = backward_layer or _directed(layer, "backward_", go_backwards=True)
        self.stateful, self.return_sequences, self.return_state = (getattr(layer, name) for name in COMMON)
        self._check_pair()
        for half in (self.forward_layer, self.backward_layer):
            if hasattr(half, "zero_output_for_mask"):
                half.zero_output_for_mask = self.return_sequences
        self._first_weights = weights

    def _follow_dtype(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Adopts the dtype of converted weights, also for the template, from which the config is made."""
        super()._follow_dtype(fn)
        if (template := self._arguments.get("layer")) is not None:  # a user's subclass may have another constructor
            template._follow_dtype(fn)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments as plain data."""
        config = super().get_config()
        if "layer" in config and config["layer"] is None:  # made by the constructor of a user's subclass
            for name, half in (("layer", self.forward_layer), ("backward_layer", self.backward_layer)):
                config[name] = serialize_keras_object(half)
        return config

    def _check_pair(self) -> None:
        forward, backward = self.forward_layer, self.backward_layer
        if forward.go_backwards == backward.go_backwards:
            raise ValueError(f"{self.name}: one of the layers needs go_backwards=True, and only one.")
        for name in COMMON:
            if getattr(forward, name) != getattr(backward, name):
                raise ValueError(
                    f"{self.name}: both layers must have the same {name}; got {getattr(forward, name)} and "
                    f"{getattr(backward, name)}."
                )

    def build(self, sequences_shape: Shape, initial_state_shape: Any = None) -> None:
        for layer in (self.forward_layer, self.backward_layer):
            self._build_child(layer, sequences_shape)
        if self._first_weights is not None:
            half = len(self._first_weights) // 2
            self.forward_layer.set_weights(self._first_weights[:half])
            self.backward_layer.set_weights(self._first_weights[half:])
            self._first_weights = None

    def compute_output_shape(self, sequences_shape: Shape, initial_state_shape: Any = None) -> Any:
        """Returns the shape of the output for sequences of that shape; with `return_state`, those of the states too."""
        return super().compute_output_shape(sequences_shape)

    def forward(
        self, sequences: Tensor, initial_state: Any = None, mask: Tensor | None = None, training: bool | None = None
    ) -> Any:
        mode: dict[str, Any] = {} if mask is None else {"mask": mask}
        half = 0 if initial_state is None else len(initial_state) // 2
        first = {**mode, "initial_state": initial_state[:half]} if half else mode
        second = {**mode, "initial_state": initial_state[half:]} if half else mode
        y, *states = _as_list(self.forward_layer(sequences, **first))
        y_back, *back_states = _as_list(self.backward_layer(sequences, **second))
        if self.return_sequences:
            y_back = y_back.flip(1)
        output = MERGES[self.merge_mode](y, y_back)
        if not self.return_state:
            return output
        return (*(output if self.merge_mode is None else (output,)), *states, *back_states)

    def _direct(self) -> Callable[..., Any]:
        usual = type(self) is Bidirectional and "forward" not in self.__dict__ and not has_other_call(self)
        return self._run_at_once if usual else self.forward

    def _run_at_once(self, sequences: Tensor, **arguments: Any) -> Any:
        """Returns the output of `forward`, with both directions in one call of torch's kernel if possible."""
        if arguments or not self._is_plain(sequences):
            return self.forward(sequences, **arguments)
        outputs = self.forward_layer.cell.run_plainly(sequences, self.backward_layer.cell)
        if self.merge_mode == "concat" and self.return_sequences:
            return outputs
        y, y_back = outputs.chunk(2, dim=-1)
        if not self.return_sequences:
            y, y_back = y[:, -1], y_back[:, 0]
        return MERGES[self.merge_mode](y, y_back)

    def _is_plain(self, sequences: Tensor) -> bool:
        halves: list[Any] = [self.forward_layer, self.backward_layer]
        if self.return_state or self.stateful or self.forward_layer.go_backwards:
            return False
        if any(type(half)._own_call is not UnitsRNN._own_call or "forward" in vars(half) for half in halves):
            return False
        if any(has_other_call(each) for half in halves for each in (half, half.cell)):
            return False
        if any(type(half).inner_loop is not UnitsRNN.inner_loop or "inner_loop" in vars(half) for half in halves):
            return False
        cells = [half.cell for half in halves]
        if not all(isinstance(cell, LSTMCell) and cell.is_plain(sequences, self.training) for cell in cells):
            return False  # other kernels sum the gradients of two directions in another order
        first, second = ([getattr(cell, name) for name in ALIKE] for cell in cells)
        return first == second

    def compute_mask(self, _: Any, mask: Any) -> Any:
        mask = mask if self.return_sequences else None
        return [mask, mask] if self.merge_mode is None else [mask]

    @property
    def states(self) -> tuple[Any, ...] | None:
        """The states of both layers, if they are stateful and built."""
        forward, backward = self.forward_layer.states, self.backward_layer.states
        return (*forward, *backward) if forward and backward else None

    def reset_state(self) -> None:
        """Sets the states of both layers to zero.

        Raises: ValueError: if they are not stateful.
        """
        if not self.stateful:
            raise ValueError(f"{self.name}: only stateful layers have states to reset.")
        self.forward_layer.reset_state()
        self.backward_layer.reset_state()

    def reset_states(self) -> None:
        """Does the same as `reset_state`."""
        self.reset_state()


def _directed(layer: Layer, prefix: str, **changes: Any) -> Any:
    """Returns a new layer with the arguments of `layer` and a prefix of its name."""
    name = prefix + layer.name.removeprefix(prefix)
    config = {**layer.get_config(), **changes, "name": name}
    if layer._arguments.get("dtype") is None:
        del config["dtype"]  # not set by the user, so that a later .to() determines it
    return type(layer).from_config(config)


def _as_list(output: Any) -> list[Any]:
    return list(output) if isinstance(output, (list, tuple)) else [output]
