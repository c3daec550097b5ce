"""The graph of symbolic outputs as a flat list of calls, so that it can be pickled and copied at any depth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from kstyle_torch import tree
from kstyle_torch.symbolic.infer import Spec
from kstyle_torch.symbolic.operation import Operation
from kstyle_torch.symbolic.tensor import Node, SymbolicTensor, is_symbolic


@dataclass(frozen=True, slots=True)
class Ref:
    """Reference to one value of a graph."""

    index: int


@dataclass(slots=True)
class Call:
    """One call, with a `Ref` for each tensor of the graph in its arguments and outputs. See `Node`."""

    target: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: Any
    tags: list[tuple[Ref, Ref]] = field(default_factory=list)
    filled: tuple[str, ...] = ()

    def reads(self) -> Iterator[Ref]:
        """Returns the values that the call reads."""
        return _refs((self.args, self.kwargs, self.tags))

    def writes(self) -> Iterator[Ref]:
        """Returns the values that the call writes."""
        return _refs(self.outputs)


@dataclass(slots=True)
class Graph:
    """Calls that lead from some inputs to some outputs.

    Args:
        specs: Shape and dtype of every value.
        inputs: Nest of `Ref`.
        sources: The InputLayer of each input.
        outputs: Nest of `Ref`.
        masks: For each output leaf, the value that masks it, or None.
        calls: The calls in execution order.
        modules: The distinct modules, in Keras' order of layers.
        operations: Likewise, including objects of `Operation`.
    """

    specs: list[Spec]
    inputs: Any
    sources: list[Any]
    outputs: Any
    masks: list[Ref | None]
    calls: list[Call]
    modules: list[nn.Module]
    operations: list[Any]

    def count_reads(self) -> Counter[Ref]:
        """Returns the number of reads of each value, including its uses as output or mask."""
        reads = Counter(ref for call in self.calls for ref in call.reads())
        reads.update(_refs((self.outputs, self.masks)))
        return reads

    def to_symbolic(self) -> tuple[Any, Any]:
        """Returns symbolic inputs and outputs connected by this graph."""
        values = [SymbolicTensor(spec.shape, spec.dtype) for spec in self.specs]

        def value(leaf: Any) -> Any:
            return values[leaf.index] if isinstance(leaf, Ref) else leaf

        for ref, source in zip(tree.flatten(self.inputs), self.sources, strict=True):
            values[ref.index].source, values[ref.index].name = source, source.name
        for call in self.calls:
            args, kwargs, tags = tree.map_structure(value, (call.args, call.kwargs, call.tags))
            node = Node(call.target, args, kwargs, dict(tags), call.filled)
            node.outputs = tree.map_structure(value, call.outputs)
            for ref in call.writes():
                values[ref.index].node = node
        outputs = tree.map_structure(value, self.outputs)
        for output, mask in zip(tree.flatten(outputs), self.masks, strict=True):
            output.mask = value(mask)
        return tree.map_structure(value, self.inputs), outputs


def trace(inputs: Any, outputs: Any, sources: list[Any]) -> Graph:
    """Returns the graph from `inputs` to `outputs`, nests of symbolic tensors.

    Args:
        sources: The InputLayer of each input.
    Raises: ValueError: if an output needs an input that is not among `inputs`, or is not a symbolic tensor.
    """
    flat_inputs = checked(inputs, "inputs")
    flat_outputs = checked(outputs, "outputs")
    masks = [output.mask for output in flat_outputs]
    origin: dict[SymbolicTensor, Any] = dict(zip(flat_inputs, sources, strict=True))
    drawn, met = _sorted_nodes(origin, flat_outputs)
    nodes, _ = _sorted_nodes(origin, flat_outputs + [mask for mask in masks if mask is not None])
    index: dict[SymbolicTensor, Ref] = {tensor: Ref(position) for position, tensor in enumerate(origin)}
    for node in nodes:
        for tensor in filter(is_symbolic, tree.flatten(node.outputs)):
            index.setdefault(tensor, Ref(len(index)))

    def ref(leaf: Any) -> Any:
        return index[leaf] if is_symbolic(leaf) else leaf

    listed = _listed(drawn, origin, met)
    modules = [target for target in (*listed, *(node.target for node in nodes)) if isinstance(target, nn.Module)]
    return Graph(
        specs=[Spec(tensor.shape, tensor.torch_dtype) for tensor in index],
        inputs=tree.map_structure(ref, inputs),
        sources=sources,
        outputs=tree.map_structure(ref, outputs),
        masks=[None if mask is None else index[mask] for mask in masks],
        calls=[_call(node, ref) for node in nodes],
        modules=list(dict.fromkeys(modules)),
        operations=listed,
    )


def _call(node: Node, ref: Callable[[Any], Any]) -> Call:
    parts = (node.args, node.kwargs, node.outputs, list(node.tags.items()))
    args, kwargs, outputs, tags = tree.map_structure(ref, parts)
    return Call(node.target, args, kwargs, outputs, tags, node.filled)


def parents(node: Node) -> list[SymbolicTensor]:
    """Returns the symbolic tensors that a call reads."""
    return list(filter(is_symbolic, tree.flatten((node.args, node.kwargs, list(node.tags.values())))))


def get_source_inputs(tensor: Any) -> Any:
    """Returns the distinct inputs of a symbolic tensor, in the order of a traversal.

    Args:
        tensor: Result of `Input`, or of a layer or function on symbolic tensors; other objects are returned unchanged.

    Example:
        >>> x, y = Input((3,), name="x"), Input((3,), name="y")
        >>> [source.name for source in get_source_inputs(x * 2 + y)]
        ['x', 'y']
    """
    if not is_symbolic(tensor):
        return tensor
    found: list[SymbolicTensor] = []
    met: set[Node] = set()
    waiting = [tensor]
    while waiting:
        last = waiting.pop()
        if last.node is None:
            found += [] if any(last is each for each in found) else [last]
        elif last.node not in met:
            met.add(last.node)
            waiting += reversed(parents(last.node))
    return found


def nodes_behind(outputs: list[SymbolicTensor]) -> set[Node]:
    """Returns all calls that symbolic tensors depend on."""
    found: set[Node] = set()
    waiting = [tensor.node for tensor in outputs if tensor.node is not None]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += [parent.node for parent in parents(node) if parent.node is not None]
    return found


def checked(structure: Any, what: str) -> list[SymbolicTensor]:
    """Returns the leaves of a Model's `inputs` or `outputs`.

    Raises: ValueError: if one is not a symbolic tensor.
    """
    leaves = tree.flatten(structure)
    for leaf in leaves:
        if not is_symbolic(leaf):
            raise ValueError(
                f"The {what} of a Model must be symbolic tensors, made by Input() and by calling layers on one; "
                f"got {type(leaf).__name__}."
            )
    return leaves


def _sorted_nodes(
    origin: dict[SymbolicTensor, Any], outputs: list[SymbolicTensor]
) -> tuple[list[Node], dict[int, int]]:
    """Returns all calls between, parents first; and the rank of each module (by id) in a traversal from the outputs."""
    finished: dict[Node, None] = {}
    met: dict[int, int] = {}
    for output in outputs:
        stack: list[tuple[Node | None, SymbolicTensor]] = [(None, output)]
        while stack:
            leaving, tensor = stack.pop()
            if leaving is not None:
                finished[leaving] = None
            elif tensor in origin:
                met.setdefault(id(origin[tensor]), len(met))
            elif tensor.node is None:
                raise ValueError(_disconnected(tensor, origin))
            elif tensor.node not in finished:
                met.setdefault(id(tensor.node.target), len(met))
                stack.append((tensor.node, tensor))
                stack.extend((None, parent) for parent in reversed(parents(tensor.node)))
    return list(finished), met


def _disconnected(tensor: SymbolicTensor, origin: dict[SymbolicTensor, Any]) -> str:
    names = ", ".join(repr(source.name) for source in origin.values())
    return (
        f"The outputs need the input {tensor.name!r} of shape {tensor.shape}, which is not among the inputs "
        f"of the Model ({names})."
    )


def _listed(nodes: list[Node], origin: dict[SymbolicTensor, Any], met: dict[int, int]) -> list[Any]:
    """Sorts modules and operations by depth (the most calls away from an output first), then by traversal, as Keras does."""
    modules: dict[int, Any] = {id(source): source for source in origin.values()}
    modules.update((id(node.target), node.target) for node in nodes if isinstance(node.target, (nn.Module, Operation)))
    node_depth: dict[Node, int] = {}
    depth: dict[int, int] = dict.fromkeys(modules, 0)
    for node in reversed(nodes):
        own = max(node_depth.get(node, 0), depth.get(id(node.target), 0))
        if id(node.target) in depth:
            depth[id(node.target)] = own
        for parent in parents(node):
            if parent in origin:
                key = id(origin[parent])
                depth[key] = max(own + 1, depth[key])
            elif parent.node is not None:
                node_depth[parent.node] = max(own + 1, node_depth.get(parent.node, 0))
    return [modules[key] for key in sorted(modules, key=lambda key: (-depth[key], met.get(key, -1)))]


def _refs(structure: Any) -> Iterator[Ref]:
    return (leaf for leaf in tree.flatten(structure) if isinstance(leaf, Ref))


def graph_of(module: Any) -> Graph | None:
    """Returns the graph of a functional model; None for others, even if they have an attribute `graph`."""
    graph = getattr(module, "graph", None)
    return graph if isinstance(graph, Graph) else None
