"""Checks of the batches of a stream: on the host, before they are copied to the device.

Of batches that are already on a device, only the first is checked: the host would wait for each. An error flag on the
device, read at the end of the epoch, would come too late: an index out of range in a CUDA kernel makes the device unusable
for the rest of the process.
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
    """Returns a function of x, y and weights that raises a ValueError for a batch that the model or its loss cannot take.

    Args:
        model: Built; compiled if targets are checked.
        with_targets: Whether to check targets.
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
    """Raises a ValueError for an input value that is out of range for the Embedding that reads it.

    Args:
        model: Built.
        x: Inputs.
        looked_at: Selects the tensors to check.
    """
    tables = tables_of(model)
    if tables:
        leaves = model._unpack(x)
        for place, layer in tables.items():
            if looked_at(leaves[place]):
                check_table(leaves[place], layer.input_dim, layer.name)


def on_host(leaf: Any) -> bool:
    """Returns whether a tensor's values can be read without waiting for a device."""
    return isinstance(leaf, Tensor) and leaf.device.type == "cpu"


def tables_of(model: Trainable) -> dict[int, Embedding]:
    """Returns the Embedding that reads each input, also in a nested model; of several, the one with the smallest table."""
    graph = model._device_graph
    known = model._fit.tables
    if graph is None:
        return {}
    if known is not None and known[0] is graph:
        return known[1]
    found: dict[int, Embedding] = {}
    for place, ref in enumerate(tree.flatten(graph.inputs)):
        targets = [call.target for call in graph.calls if ref in [*call.reads()] and not call.kwargs]
        models: list[Any] = [target for target in targets if graph_of(target) is not None]
        within = [tables_of(model).get(0) for model in models if len(model._device_graph.sources) == 1]
        layers = [layer for layer in (*targets, *within) if isinstance(layer, Embedding)]
        if layers:
            found[place] = min(layers, key=lambda layer: layer.input_dim)
    model._fit.tables = graph, found
    return found


def _target_check(compiled: Objective | None) -> Callable[[Any], None] | None:
    """Returns a check for class numbers out of range; None if no output has class numbers as targets."""
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
