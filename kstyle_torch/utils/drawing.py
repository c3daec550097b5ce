"""Elements of a model's drawing: boxes, frames and arrows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from kstyle_torch import tree
from kstyle_torch.layers.input_layer import InputLayer
from kstyle_torch.symbolic.graph import Call, Graph, Ref, graph_of
from kstyle_torch.utils.summary import Listing, data_reads, shapes_of, shown, trained


class Show(NamedTuple):
    """Content of the boxes besides the class."""

    shapes: bool
    dtype: bool
    names: bool
    activations: bool
    trainable: bool


class Box(NamedTuple):
    """Box of a layer or function."""

    key: str
    title: str
    kind: str  # after the title; may be empty
    activation: str
    facts: list[tuple[str, str]]
    trained: str


class Group(NamedTuple):
    """Frame of a model whose layers are drawn."""

    key: str
    name: str
    items: list[Box | Group]


class Drawing:
    """The boxes and arrows of a model.

    Args:
        model: Built.
        expand_nested: Whether nested models become groups.
        show: Contents of the boxes.
    """

    def __init__(self, model: Any, expand_nested: bool, show: Show):
        if not hasattr(model, "layers"):
            raise ValueError(f"Only models can be drawn; got {type(model).__name__}.")
        if not model.built:
            raise ValueError(
                f"{model.name} is not built: call build(), or the model on a batch of data, before drawing it."
            )
        self.expand_nested, self.show = expand_nested, show
        self._keys: dict[int, str] = {}
        self._listings: dict[int, Listing] = {}
        self._hidden: list[int] = []
        self._arrows: list[tuple[int, int]] = []
        self.top = self._group(model)
        self._hide()

    @property
    def edges(self) -> list[tuple[str, str]]:
        """Returns the distinct pairs of boxes that arrows connect."""
        return list(dict.fromkeys((self._keys[source], self._keys[target]) for source, target in self._arrows))

    def _key(self, row: Any) -> str:
        return self._keys.setdefault(id(row), f"n{len(self._keys)}")

    def _group(self, model: Any) -> Group:
        listing = self._listings[id(model)] = Listing(model, "")
        group = Group(self._key(model), str(model.name), [])
        layers = {id(layer) for layer in model.layers}
        for name, row in listing.top():
            if isinstance(row, InputLayer) and id(row) not in layers:  # Keras draws none for a Sequential
                self._hidden.append(id(row))
            elif id(row) not in self._keys:
                expand = self.expand_nested and graph_of(row) is not None
                group.items.append(self._group(row) if expand else self._box(listing, name, row))
        for call in listing.calls:
            for position, ref in enumerate(data_reads(call)):
                target = listing.row_of(call)
                if id(target) in self._listings:
                    target = target.graph.sources[position]
                self._arrows.append((self._source(listing, ref), id(target)))
        return group

    def _source(self, listing: Listing, ref: Ref) -> int:
        """Returns the box that produces a value, at any depth of groups."""
        row, _, output = listing.makers[ref]
        inner = self._listings.get(id(row))
        return id(row) if inner is None else self._source(inner, tree.flatten(row.graph.outputs)[output])

    def _hide(self) -> None:
        """Connects the predecessors of boxes that are not drawn to their successors."""
        for hidden in self._hidden:
            before = [source for source, target in self._arrows if target == hidden]
            behind = [target for source, target in self._arrows if source == hidden]
            self._arrows = [arrow for arrow in self._arrows if hidden not in arrow]
            self._arrows += itertools.product(before, behind)

    def _box(self, listing: Listing, name: str, row: Any) -> Box:
        kind = "function" if isinstance(row, Call) else type(row).__name__
        if not self.show.names:
            name, kind = name if isinstance(row, Call) else kind, ""
        activation = _activation(row) if self.show.activations else ""
        facts = list(self._facts(listing, row))
        return Box(self._key(row), name, kind, activation, facts, trained(row) if self.show.trainable else "-")

    def _facts(self, listing: Listing, row: Any) -> Iterator[tuple[str, str]]:
        if self.show.shapes:
            if not isinstance(row, InputLayer):
                yield "Input shape", _joined(listing.graph, _read(listing, row), shapes_of)
            known = "?" if listing.graph is not None else shown(listing.shapes.get(id(row), "?"))
            yield "Output shape", _joined(listing.graph, _written(listing, row), shapes_of, known)
        if self.show.dtype:
            yield "Output dtype", _joined(listing.graph, _written(listing, row), _dtypes_of)


def _read(listing: Listing, row: Any) -> list[Any]:
    """Returns the inputs of each call of the row."""
    reads = [data_reads(call) for call in listing.calls if listing.row_of(call) is row]
    return [refs[0] if len(refs) == 1 else refs for refs in reads]


def _written(listing: Listing, row: Any) -> list[Any]:
    """Returns the outputs of each call of the row; for an InputLayer, the input."""
    if listing.graph is None:
        return []
    sources = zip(tree.flatten(listing.graph.inputs), listing.graph.sources, strict=True)
    inputs = [ref for ref, source in sources if source is row]
    return inputs or [call.outputs for call in listing.calls if listing.row_of(call) is row]


def _dtypes_of(graph: Graph, values: Any) -> Any:
    def dtype(leaf: Any) -> Any:
        return str(graph.specs[leaf.index].dtype).removeprefix("torch.") if isinstance(leaf, Ref) else leaf

    return tree.map_structure(dtype, values)


def _joined(graph: Graph | None, nests: list[Any], what_of: Callable[[Graph, Any], Any], otherwise: str = "?") -> str:
    """Returns the texts of nests of values; a single text if all are equal."""
    texts = [] if graph is None else [shown(what_of(graph, nest)) for nest in nests]
    return " | ".join(dict.fromkeys(texts)) or otherwise


def _activation(row: Any) -> str:
    activation = getattr(row, "activation", None)
    if activation is None:
        return ""
    return str(getattr(activation, "name", None) or getattr(activation, "__name__", type(activation).__name__))
