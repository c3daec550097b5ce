"""Stacked cells, as one cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kstyle_torch import config, tree
from kstyle_torch.layer.base import Layer, layer_registry
from kstyle_torch.layer.call_pairs import has_other_call
from kstyle_torch.layer.custom_objects import TakesCustomObjects
from kstyle_torch.layer.shapes import Shape
from kstyle_torch.layers.recurrent.cell import Cell

register = layer_registry.register


@register()
class StackedRNNCells(TakesCustomObjects, Layer):
    """A cell of several cells: each takes the output of the previous one.

    Args:
        cells: List of cells.
    Raises: ValueError: if one has no `call` or no `state_size`.

    Example:
        >>> from kstyle_torch.layers import LSTMCell, RNN
        >>> RNN(StackedRNNCells([LSTMCell(4), LSTMCell(2)]))(torch.ones(1, 5, 3)).shape
        torch.Size([1, 2])
    """

    _has_precision = False  # the inner cells handle it

    def __init__(self, cells: Sequence[Any], **kwargs: Any):
        super().__init__(**kwargs)
        self.cells: Any = [check_cell(cell, self) for cell in cells]

    @property
    def state_size(self) -> list[Any]:
        """The sizes of each cell's state."""
        return [cell.state_size for cell in self.cells]

    @property
    def output_size(self) -> Any:
        """The output size of the last cell."""
        return output_size(self.cells[-1])

    def build(self, input_shape: Shape) -> None:
        for cell in self.cells:
            self._build_child(cell, input_shape)
            input_shape = (input_shape[0], output_size(cell))

    def forward(
        self, inputs: Tensor, states: Any, training: bool | None = False, **kwargs: Any
    ) -> tuple[Tensor, list[Any]]:
        new_states = []
        for cell, state in zip(self.cells, states, strict=True):
            is_nested = tree.is_nested(state)
            mode = {"training": training} if getattr(cell, "_takes_training", False) else {}
            inputs, new = cell(inputs, state if is_nested else [state], **mode)
            new = new if tree.is_nested(new) else [new]
            new_states.append(new if is_nested else new[0])
        return inputs, new_states

    def run(
        self, x: Tensor, states: Any, inside: Tensor | None, every_step: bool, final_states: bool, training: bool
    ) -> tuple[Tensor, Any]:
        """Runs the cells in turn over the whole sequence, which is equivalent to step by step."""
        new_states = []
        for number, (cell, state) in enumerate(zip(self.cells, states, strict=True)):
            all_steps = every_step or number < len(self.cells) - 1
            x, new = cell.run(x, state, inside, all_steps, final_states, training)
            new_states.append(new)
        return x, new_states

    def get_initial_state(self, batch_size: int | None = None) -> list[Any]:
        """Returns the sizes of each cell's state."""
        return [initial_states(cell, batch_size or 0) for cell in self.cells]


def check_cell(cell: Any, layer: Layer) -> Any:
    """Returns the cell, after checking its interface.

    Raises: ValueError: if it has no `call` or no `state_size`.
    """
    for name, meaning in (("call", "(inputs, states) -> output, new states"), ("state_size", "int or list of ints")):
        if not hasattr(cell, name):
            raise ValueError(f"{layer.name}: a cell needs `{name}`, {meaning}; got {cell!r}, which lacks it.")
    return cell


def output_size(cell: Any) -> Any:
    """Returns the size of a cell's output: by default that of its first state."""
    size = getattr(cell, "output_size", None)
    states = cell.state_size
    return size if size is not None else states[0] if isinstance(states, (list, tuple)) else states


def initial_states(cell: Any, batch_size: int) -> Any:
    """Returns the initial state of a cell: its `get_initial_state`, or zeros."""
    if hasattr(cell, "get_initial_state"):
        return cell.get_initial_state(batch_size=batch_size)
    sizes, dtype = cell.state_size, getattr(cell, "_dtype", torch.get_default_dtype())

    def zeros(size: int) -> Tensor:
        return torch.zeros(batch_size, size, dtype=dtype, device=config.device())

    return zeros(sizes) if isinstance(sizes, int) else [zeros(size) for size in sizes]


def runs_sequences(cell: Any) -> bool:
    """Returns whether the cell's `run` is equivalent to its steps: a subclass may override `call`."""
    if isinstance(cell, StackedRNNCells):
        steps_as_made = type(cell)._own_call is StackedRNNCells._own_call and not has_other_call(cell)
        return steps_as_made and all(map(runs_sequences, cell.cells))
    return isinstance(cell, Cell) and getattr(type(cell)._own_call, "runs_as_steps", False) and not has_other_call(cell)
