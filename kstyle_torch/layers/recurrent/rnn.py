"""The recurrent layer: runs any cell over a sequence, Keras' cells on torch's fused kernels."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from kstyle_torch import config, tree
from kstyle_torch.layer.base import Layer, layer_registry
from kstyle_torch.layer.custom_objects import TakesCustomObjects
from kstyle_torch.layer.shapes import Shape
from kstyle_torch.layer.users_calls import call_by_users, has_users_call
from kstyle_torch.layers.recurrent.cell import Cell, FusedCell
from kstyle_torch.layers.recurrent.sequence import align, loop, spread
from kstyle_torch.layers.recurrent.stacked_cells import (
    StackedRNNCells,
    check_cell,
    initial_states,
    output_size,
    runs_sequences,
)
from kstyle_torch.registry import snake_case
from kstyle_torch.serialization import argument_names

register = layer_registry.register


@register()
class RNN(TakesCustomObjects, Layer):
    """Layer that runs a cell over the steps of a sequence.

    Keras' cells run on torch's fused kernels if those are equivalent; other cells run in a loop.

    Args:
        cell: A cell, or a list of cells to stack: an object with `state_size`, with `call(inputs, states)` that returns the
            output and the new states, and optionally `output_size` and `get_initial_state(batch_size)`.
        return_sequences: Whether the output has all steps or only the last.
        return_state: Whether to return the final states beside the output.
        go_backwards: Whether the steps are taken from the last to the first; the output has them in this order.
        stateful: Whether a batch starts from the final states of the previous one.
        unroll: Accepted for compatibility with Keras; has no effect.
        zero_output_for_mask: Whether the output at a masked step is zeros rather than that of the previous step.
    Input shape: (batch, timesteps, ...).
    Output shape: (batch, output_size), or (batch, timesteps, output_size) with `return_sequences`; then the states.
    Raises: ValueError: if the cell has no `call` or no `state_size`.

    Example:
        >>> from kstyle_torch.layers import GRUCell
        >>> RNN([GRUCell(4), GRUCell(2)])(torch.ones(1, 5, 3)).shape
        torch.Size([1, 2])
    """

    _has_precision = False  # the inner layers handle it

    supports_masking = True
    _opens_call = True
    layout: ClassVar[tuple[str, ...]] = ("...",)  # of one step
    _step_has_axes = False  # beside the features

    def __init__(
        self,
        cell: Any,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        cell = StackedRNNCells(cell) if isinstance(cell, (list, tuple)) else cell
        self.cell = check_cell(cell, self)
        self.return_sequences, self.return_state = return_sequences, return_state
        self.go_backwards, self.stateful, self.unroll = go_backwards, stateful, unroll
        self.zero_output_for_mask = zero_output_for_mask

    @property
    def state_size(self) -> list[Any]:
        """The sizes of the cell's states."""
        sizes = self.cell.state_size
        return [sizes] if isinstance(sizes, int) else list(sizes)

    def build(self, sequences_shape: Shape, initial_state_shape: Any = None) -> None:
        self._check_rank(sequences_shape)
        self._build_child(self.cell, (sequences_shape[0], *sequences_shape[2:]))
        if self.stateful:
            self._make_states(sequences_shape)

    def compute_output_shape(self, sequences_shape: Shape, initial_state_shape: Any = None) -> Any:
        """Returns the shape of the output for sequences of that shape; with `return_state`, those of the states too."""
        size = output_size(self.cell)
        if not isinstance(size, int) or self._step_has_axes:
            return super().compute_output_shape(sequences_shape)
        batch, steps = sequences_shape[:2]
        output = (batch, steps, size) if self.return_sequences else (batch, size)
        sizes = self.state_size
        states = [(batch, each) if isinstance(each, int) else [(batch, size) for size in each] for each in sizes]
        return (output, *states) if self.return_state else output

    def _check_rank(self, shape: Shape) -> None:
        exact = self.layout != ("...",)
        if len(shape) == 2 + len(self.layout) if exact else len(shape) >= 3:
            return
        hint = " If the previous layer is recurrent, it needs return_sequences=True." if len(shape) == 2 else ""
        raise ValueError(
            f"{self.name}: expected an input of shape (batch, timesteps, {', '.join(self.layout)}); got shape "
            f"{tuple(shape)}.{hint}"
        )

    # ------------------------------------------------------------------------------------------------------ running it

    def forward(
        self, sequences: Tensor, initial_state: Any = None, mask: Tensor | None = None, training: bool | None = False
    ) -> Any:
        self._check_rank(tuple(sequences.shape))
        states = self._first_states(sequences, initial_state)
        if type(self).inner_loop is not RNN.inner_loop or "inner_loop" in self.__dict__:
            last, outputs, states = self.inner_loop(sequences, states, mask, training=bool(training))
            output = outputs if self.return_sequences else last
        else:
            output, states = self._run_masked(sequences, states, mask, bool(training))
        if self.stateful:
            self._keep_states(states)
        return (output, *states) if self.return_state else output

    def _run_masked(self, x: Tensor, states: Any, mask: Tensor | None, training: bool) -> tuple[Tensor, Any]:
        """Returns the output, of all steps or the last one, and the final states."""
        inside = None
        if self.go_backwards:
            x = x.flip(1)
        if mask is not None:
            mask = self._step_mask(mask, x)
            x, inside = align(x, mask)
        output, states = self._run(x, states, inside, training)
        if mask is not None and self.return_sequences:
            output = spread(output, mask, self.zero_output_for_mask)
        elif mask is not None and self.zero_output_for_mask:
            output = spread(output.unsqueeze(1), mask[:, -1:], True).squeeze(1)
        return output, states

    def inner_loop(
        self, sequences: Tensor, initial_state: Any, mask: Tensor | None, training: bool = False
    ) -> tuple[Tensor, Tensor, Any]:
        """Runs the cell over the steps; a subclass may override it.

        Args:
            sequences: (batch, timesteps, ...).
            initial_state: List of initial states.
            mask: (batch, timesteps), True where a step counts; None if all do.
            training: The mode.
        Returns: The last output; those of every step, only the last one unless `return_sequences`; the final states.
        """
        states = initial_state if tree.is_nested(initial_state) else [initial_state]
        output, states = self._run_masked(sequences, states, mask, training)
        if self.return_sequences:
            return output[:, -1], output, states
        return output, output.unsqueeze(1), states

    def _step_mask(self, mask: Tensor, x: Tensor) -> Tensor:
        if mask.shape[:2] != x.shape[:2] or mask.ndim > 3:
            raise ValueError(
                f"{self.name}: expected a mask of shape (batch, timesteps), {tuple(x.shape[:2])}; got {tuple(mask.shape)}."
            )
        mask = mask.reshape(mask.shape[:2]).bool()
        return mask.flip(1) if self.go_backwards else mask

    def _run(self, x: Tensor, states: Any, inside: Tensor | None, training: bool) -> tuple[Tensor, Any]:
        self._reset_dropout(training)
        every_step, final_states = self.return_sequences, self.return_state or self.stateful
        if runs_sequences(self.cell):
            result = self.cell.run(x, states, inside, every_step, final_states, training)
        else:
            result = loop(self._step, x, states, inside, every_step, training)
        self._reset_dropout(training)
        return result

    def _step(self, x: Tensor, states: Any) -> tuple[Tensor, Any]:
        mode = {"training": self.training} if getattr(self.cell, "_takes_training", False) else {}
        if isinstance(self.cell, nn.Module):
            call: Any = call_by_users if has_users_call(type(self.cell)) else nn.Module.__call__
            output, new = call(self.cell, x, states, **mode)
        else:
            output, new = self.cell(x, states)
        return output, new if tree.is_nested(new) else [new]

    def _reset_dropout(self, training: bool) -> None:
        """Resets the dropout masks of cells, which are valid for one sequence."""
        for module in self.modules() if training else ():
            if isinstance(module, Cell):
                module.reset_dropout_mask()
                module.reset_recurrent_dropout_mask()

    def compute_mask(self, _: Any, mask: Any) -> Any:
        mask = mask if self.return_sequences else None
        return [mask, *[None] * len(self.state_size)] if self.return_state else mask

    # ---------------------------------------------------------------------------------------------------------- states

    def get_initial_state(self, batch_size: int) -> list[Any]:
        """Returns the initial states of a sequence: the cell's own, or zeros."""
        states = initial_states(self.cell, batch_size)
        return list(states) if tree.is_nested(states) else [states]

    def _first_states(self, x: Tensor, given: Any) -> list[Any]:
        if self.stateful and x.shape[0] != self._batch_size:
            raise ValueError(
                f"{self.name}: a stateful layer was built for batches of {self._batch_size}; got one of {x.shape[0]}."
            )
        if given is None:
            states = self.states if self.stateful else self.get_initial_state(x.shape[0])
        else:
            states = list(given) if tree.is_nested(given) else [given]
            if len(states) != len(self.state_size):
                raise ValueError(f"{self.name}: initial_state needs {len(self.state_size)} states; got {len(states)}.")
        dtype = x.dtype if x.is_floating_point() else self._dtype
        return tree.map_structure(lambda state: state.to(device=x.device, dtype=dtype), states)

    def _make_states(self, shape: Shape) -> None:
        if shape[0] is None:
            raise ValueError(
                f"{self.name}: a stateful layer needs a known batch size; begin the model with "
                "Input(batch_shape=(batch, timesteps, ...))."
            )
        states = self.get_initial_state(shape[0])
        self._batch_size = shape[0]
        self._state_nest = tree.map_structure(lambda state: None, states)
        for number, state in enumerate(tree.flatten(states)):
            self.register_buffer(f"state_{number}", state.to(config.device()).clone(), persistent=False)

    def _state_buffers(self) -> list[Tensor]:
        return [buffer for key, buffer in self._buffers.items() if key.startswith("state_") and buffer is not None]

    @property
    def states(self) -> list[Any] | None:
        """The states from which the next batch of a stateful layer starts; None before it is built, or without them."""
        # copies, since the backward pass still reads them after the final states have overwritten them
        copies: list[Any] = [buffer.clone() for buffer in self._state_buffers()]
        return tree.pack_sequence_as(self._state_nest, copies) if copies else None

    def _keep_states(self, states: Any) -> None:
        for buffer, state in zip(self._state_buffers(), tree.flatten(states), strict=True):
            buffer.copy_(state.detach())

    def reset_state(self) -> None:
        """Sets the states of a stateful layer to zero."""
        for buffer in self._state_buffers():
            buffer.zero_()

    def reset_states(self) -> None:
        """Does the same as `reset_state`."""
        self.reset_state()


class FromCell:
    """Attribute of the layer that is delegated to its cell."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, layer: Any, owner: type) -> Any:
        return self if layer is None else getattr(layer.cell, self.name)


class CellRNN(RNN):
    """Base of the layers for one of Keras' cells: its arguments are the cell's and those of `RNN`.

    Args:
        use_cudnn: False for a plain loop over steps, which can be differentiated twice; True raises an error if the
            arguments do not allow the fused kernel; "auto" uses it where possible.
    """

    _has_precision = True

    cell_class: ClassVar[type[Cell]]
    activation = FromCell()
    use_bias = FromCell()
    kernel_initializer = FromCell()
    recurrent_initializer = FromCell()
    bias_initializer = FromCell()
    kernel_regularizer = FromCell()
    recurrent_regularizer = FromCell()
    bias_regularizer = FromCell()
    kernel_constraint = FromCell()
    recurrent_constraint = FromCell()
    bias_constraint = FromCell()
    dropout = FromCell()
    recurrent_dropout = FromCell()
    seed = FromCell()
    implementation = FromCell()

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:  # type: ignore[override]
        """Returns a layer of this class for a `get_config` dict."""
        return super().from_config(config)

    def __init__(self, use_cudnn: bool | str = "auto", **arguments: Any):
        names = {*argument_names(self.cell_class)} - {*argument_names(Layer)}
        own = {name: arguments.pop(name) for name in names & {*arguments}}
        cell = self.cell_class(**own, dtype=arguments.get("dtype"), name=snake_case(self.cell_class.__name__))
        super().__init__(cell, **arguments)
        if use_cudnn not in ("auto", True, False):
            raise ValueError(f"{self.name}: use_cudnn must be 'auto', True or False; got {use_cudnn!r}.")
        self.use_cudnn = use_cudnn
        if isinstance(cell, FusedCell):
            cell.use_kernel = bool(use_cudnn)
            if use_cudnn is True and (not cell.has_kernel or cell.recurrent_dropout):
                raise ValueError(
                    f"{self.name}: use_cudnn=True, but no fused kernel supports these activations, "
                    "recurrent_dropout or reset_after=False; use use_cudnn='auto'."
                )


class UnitsRNN(CellRNN):
    """Base of the recurrent layers whose steps are vectors."""

    layout = ("features",)
    units = FromCell()

    def forward(
        self, sequences: Tensor, initial_state: Any = None, mask: Tensor | None = None, training: bool | None = False
    ) -> Any:
        cell: Any = self._modules["cell"]
        if mask is None and initial_state is None and not (self.return_state or self.stateful):
            if type(self).inner_loop is not RNN.inner_loop or "inner_loop" in self.__dict__:
                return super().forward(sequences, training=training)
            if isinstance(cell, FusedCell) and cell.is_plain(sequences, bool(training)):  # fast path of the usual case
                outputs = cell.run_plainly(sequences.flip(1) if self.go_backwards else sequences)
                return outputs if self.return_sequences else outputs[:, -1]
        return super().forward(sequences, initial_state, mask, training)
