"""What can be told of a batch that comes in the middle of an epoch: on the host, before it goes to the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from kstyle_torch import tree
from kstyle_torch.data.checks import check_table
from kstyle_torch.layers.embedding import Embedding
from kstyle_torch.training.compiled import Compiled

Inspector = Callable[[Any, Any, Any], None]


def batch_inspector(model: Any, with_targets: bool = True) -> Inspector:
    """A function of x, y and weights that raises a ValueError for a batch which the model or its loss cannot take.

    Args:
        model: Built, and compiled where its targets are looked at.
        with_targets: Whether they are.
    """
    readers = model.integer_readers()
    tables = {place: layer for place, layer in readers.items() if isinstance(layer, Embedding)}
    check_targets = _target_check(model._compiled if with_targets else None)
    seen: Any = None

    def inspect(x: Any, y: Any, weight: Any) -> None:
        nonlocal seen
        leaves = [x] if isinstance(x, Tensor) else tree.flatten(x)
        shapes = [None if leaf is None else leaf.shape[1:] for leaf in leaves]
        if shapes != seen:
            model.check_inputs(x)
            seen = shapes
        for place, layer in tables.items():
            check_table(leaves[place], layer.input_dim, layer.name)
        if check_targets is not None and y is not None:
            check_targets(y)

    return inspect


def _target_check(compiled: Compiled | None) -> Callable[[Any], None] | None:
    """Looks for class numbers that an output has no unit for; None where no output's targets are class numbers."""
    shapes = [] if compiled is None else compiled.output_shapes
    entries = [] if compiled is None or not shapes else compiled.loss.entries
    sparse = [entry for entry in entries if entry.loss.sparse]
    if compiled is None or not sparse:
        return None

    def check(y: Any) -> None:
        targets = [y] if isinstance(y, Tensor) else compiled.targets(y)
        for entry in sparse:
            if targets[entry.output] is not None:
                entry.loss.check_targets(targets[entry.output], shapes[entry.output])

    return check
