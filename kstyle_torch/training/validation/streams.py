"""Checks of a batch that comes in the middle of an epoch: on the host, before it goes to the device.

Batches that come on a device are not looked at, but for the first: the host would wait for each. A flag that the device
keeps until the epoch's end would come too late, since a CUDA kernel that meets a number it has no place for ends the
process' use of the device at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from kstyle_torch import tree
from kstyle_torch.data.checks import check_table
from kstyle_torch.layers.embedding import Embedding
from kstyle_torch.symbolic.graph import graph_of
from kstyle_torch.training.objective import Objective
from kstyle_torch.training.protocols import Trainable

Inspector = Callable[[Any, Any, Any], None]


def batch_inspector(model: Trainable, with_targets: bool = True) -> Inspector:
    """Returns a function of x, y and weights that raises a ValueError for a batch which the model or its loss cannot take.

    Args:
        model: Built, and compiled where its targets are looked at.
        with_targets: Whether they are.
    """
    tables = tables_of(model)
    check_targets = _target_check(model._compiled if with_targets else None)
    seen: Any = None

    def inspect(x: Any, y: Any, weight: Any) -> None:  # noqa: ARG001
        nonlocal seen
        leaves = [x] if isinstance(x, Tensor) else tree.flatten(x)
        shapes = [None if leaf is None else leaf.shape[1:] for leaf in leaves]
        if shapes != seen:
            model.check_inputs(x)
            seen = shapes
        if tables:
            check_tables(model, x, on_host)
        if check_targets is not None and y is not None:
            check_targets(y)

    return inspect


def check_tables(model: Trainable, x: Any, looked_at: Callable[[Any], bool] = lambda leaf: True) -> None:
    """Raises a ValueError for a number that the Embedding an input goes into does not have.

    Args:
        model: Built.
        x: Inputs.
        looked_at: Which of them are.
    """
    tables = tables_of(model)
    if tables:
        leaves = model._unpack(x)
        for place, layer in tables.items():
            if looked_at(leaves[place]):
                check_table(leaves[place], layer.input_dim, layer.name)


def on_host(leaf: Any) -> bool:
    """Returns whether a look at a tensor makes nobody wait."""
    return isinstance(leaf, Tensor) and leaf.device.type == "cpu"


def tables_of(model: Trainable) -> dict[int, Embedding]:
    """Returns the Embedding that each input goes into, in a nested model too; of several, that of the smallest table."""
    graph = graph_of(model)
    known = model._fit.tables
    if graph is None:
        return {}
    if known is not None and known[0] is graph:
        return known[1]
    found: dict[int, Embedding] = {}
    for place, ref in enumerate(tree.flatten(graph.inputs)):
        targets = [call.target for call in graph.calls if ref in [*call.reads()] and not call.kwargs]
        models: list[Any] = [target for target in targets if graph_of(target) is not None]
        within = [tables_of(model).get(0) for model in models if len(model.graph.sources) == 1]
        layers = [layer for layer in (*targets, *within) if isinstance(layer, Embedding)]
        if layers:
            found[place] = min(layers, key=lambda layer: layer.input_dim)
    model._fit.tables = graph, found
    return found


def _target_check(compiled: Objective | None) -> Callable[[Any], None] | None:
    """Looks for class numbers that an output has no unit for; None where no output's targets are class numbers."""
    if compiled is None or (compiled.output_shapes and not any(entry.loss.sparse for entry in compiled.loss.entries)):
        return None

    def check(y: Any) -> None:
        shapes = compiled.output_shapes
        sparse = [entry for entry in compiled.loss.entries if entry.loss.sparse] if shapes else []
        targets = [y] if isinstance(y, Tensor) else compiled.targets(y) if sparse else []
        for entry in sparse:
            if on_host(targets[entry.output]):
                entry.loss.check_targets(targets[entry.output], shapes[entry.output])

    return check
