"""Side effects of a step, beyond a loss, one output and gradients: nested outputs, masks, added losses, metric state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import ref

from torch import Tensor

from kstyle_torch import tree
from kstyle_torch.metrics.base import State
from kstyle_torch.training.protocols import Trainable
from kstyle_torch.training.recorded.recorder import Call, CannotRecordError, tensors_in
from kstyle_torch.variables import Variable

MASK = "_keras_mask"
HELD = (Variable, State)  # exact types: subclasses are views of parameters


class Cells:
    """Variables other than weights that a step may read and set.

    They are metric state, loss weights, the variables of loss scaling, and attributes of layers.

    Args:
        model: Compiled.
    """

    def __init__(self, model: Trainable):
        compiled = model._compiled
        self.variables = [variable for metric in model.metrics for variable in metric.variables]
        others: list[Any] = [entry.weight for entry in compiled.loss.entries]
        others += [value for module in model.modules() for value in vars(module).values()]
        others += [*vars(compiled.optimizer).values()] if compiled.optimizer.scales_loss else []
        self.variables += {id(other): other for other in others if type(other) in HELD}.values()
        self.before = [variable.value for variable in self.variables]

    def undo(self) -> None:
        """Restores their values."""
        for variable, value in zip(self.variables, self.before, strict=True):
            variable._tensor = value

    def used(self, calls: list[Call]) -> list[tuple[Variable, Tensor]]:
        """Returns the variables that the calls read or set, with their values before the step."""
        read = {id(tensor) for call in calls for tensor in tensors_in((call.args, call.kwargs))}
        pairs = zip(self.variables, self.before, strict=True)
        return [(cell, old) for cell, old in pairs if id(old) in read or cell.value is not old]


class Effects:
    """Conversion of a step's side effects to one flat list of tensors, and back.

    Args:
        model: Compiled; it has just run a step.
        y_pred: Output of the step.
        cells: The variables that the step reads or sets.
    Raises: CannotRecordError: for an output or an added loss that is not a tensor.
    """

    def __init__(self, model: Trainable, y_pred: Any, cells: list[Variable]):
        self.cells = cells
        self.is_nested = not isinstance(y_pred, Tensor)
        self.pack = _packing(y_pred)
        leaves = tree.flatten(y_pred)
        tags = all_tags if any(not entry.metric.rowwise for entry in model._compiled.metrics.entries) else mask_only
        self.num_leaves = len(leaves)
        self.tags = [(place, name) for place, leaf in enumerate(leaves) for name in tags(leaf)]
        # Weak references: the model, which owns these effects, may be one of the layers.
        self.layers: list[tuple[Callable[[], Any], int]] = [
            (ref(layer), len(layer._losses)) for layer in model._fit.loss_layers(model) if layer._losses
        ]
        if not all(isinstance(value, Tensor) for value in self.taken(y_pred)):
            raise CannotRecordError("an output or a loss of add_loss() is not a tensor")

    @property
    def are_few(self) -> bool:
        """True if the step has a single output and no other side effects."""
        return not (self.is_nested or self.tags or self.layers or self.cells)

    def taken(self, y_pred: Any) -> list[Any]:
        """Returns the tensors that a step has produced, as a flat list."""
        leaves = tree.flatten(y_pred)
        tied = [getattr(leaves[place], name, None) for place, name in self.tags]
        added = [loss for layer, _ in self.layers for loss in layer()._losses]
        return [*leaves, *tied, *added, *(cell.value for cell in self.cells)]

    def given(self, values: list[Tensor]) -> Any:
        """Stores the tensors where an eager step would have. Returns: The output."""
        leaves = values[: self.num_leaves]
        rest = iter(values[self.num_leaves :])
        for place, name in self.tags:
            setattr(leaves[place], name, next(rest))
        for layer, number in self.layers:
            layer()._losses[:] = [next(rest) for _ in range(number)]
        for cell in self.cells:
            cell._tensor = next(rest)
        return self.pack(leaves)


def mask_only(output: Any) -> list[str]:
    """Returns the attribute that holds an output's mask, if it has one; metrics read it."""
    return [MASK] if hasattr(output, MASK) else []


def all_tags(output: Any) -> list[str]:
    """Returns all attributes of an output that hold tensors, such as its logits; user-written metrics may read them."""
    return [name for name, value in vars(output).items() if isinstance(value, Tensor)]


def _packing(y_pred: Any) -> Callable[[list[Tensor]], Any]:
    """Returns a function that packs leaves into the nest of `y_pred`."""
    if isinstance(y_pred, Tensor):
        return lambda leaves: leaves[0]
    if type(y_pred) in (list, tuple) and not any(map(tree.is_nested, y_pred)):
        return type(y_pred)
    if type(y_pred) is dict and not any(map(tree.is_nested, y_pred.values())):
        keys = sorted(y_pred)
        return lambda leaves: dict(zip(keys, leaves, strict=True))
    nest = tree.map_structure(lambda leaf: None, y_pred)
    return lambda leaves: tree.pack_sequence_as(nest, leaves)
