"""Replay of a graph on other symbolic inputs: with masks, or with its layers replaced by others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kstyle_torch import tree
from kstyle_torch.symbolic.graph import Graph, Ref
from kstyle_torch.symbolic.operation import Operation
from kstyle_torch.symbolic.tensor import SymbolicTensor, mask_of, record

Target = Callable[..., Any]


def _same(target: Target) -> Target:
    return target


def replay(
    graph: Graph,
    inputs: Sequence[SymbolicTensor],
    replace: Callable[[Target], Target] = _same,
    call_layer: Callable[..., Any] | None = None,
) -> Any:
    """Returns the outputs of `graph` for other inputs.

    Args:
        graph: The graph to replay.
        inputs: A symbolic tensor for each input, in order.
        replace: Maps a layer or function of the graph to the one to call instead.
        call_layer: `f(layer, *args, **kwargs)` calls a layer; a plain call if None.
    Returns: The nest of symbolic outputs.
    """
    values: dict[int, Any] = {}
    for ref, tensor in zip(tree.flatten(graph.inputs), inputs, strict=True):
        values[ref.index] = tensor

    def value(leaf: Any) -> Any:
        return values[leaf.index] if isinstance(leaf, Ref) else leaf

    for call in graph.calls:
        given = {name: argument for name, argument in call.kwargs.items() if name not in call.filled}
        args, kwargs = tree.map_structure(value, (call.args, given))
        if call.target is mask_of:
            values[call.outputs.index] = args[0].mask
            continue
        target = replace(call.target)
        if isinstance(target, Operation):
            outputs = target(*args, **kwargs)
        elif not hasattr(type(target), "_symbolic_call"):  # layers record their calls themselves
            outputs = record(target, args, kwargs)
        else:
            outputs = target(*args, **kwargs) if call_layer is None else call_layer(target, *args, **kwargs)
        for old, new in zip(tree.flatten(call.outputs), tree.flatten(outputs), strict=True):
            if isinstance(old, Ref):
                values[old.index] = new
    return tree.map_structure(value, graph.outputs)
