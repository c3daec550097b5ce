"""The table that `model.summary()` prints."""

from __future__ import annotations

import contextlib
import functools
import itertools
import re
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kstyle_torch import config, tree
from kstyle_torch.layer.base import Layer
from kstyle_torch.layer.shapes import as_leaves
from kstyle_torch.layers.input_layer import InputLayer
from kstyle_torch.messages import say
from kstyle_torch.mode import all_modules, is_used_elsewhere, keeping_modes
from kstyle_torch.registry import snake_case
from kstyle_torch.symbolic.graph import Call, Graph, Ref, graph_of
from kstyle_torch.symbolic.infer import infer, is_separable, isolated, untouched
from kstyle_torch.symbolic.operation import Operation
from kstyle_torch.symbolic.tensor import SymbolicTensor, is_symbolic, is_text

PREFIX = "   "
BOXES = ("┏━┳┓", "┃┃", "┡━╇┩", "│", "├─┼┤", "└─┴┘")  # top, header, below it, row, between rows, bottom
ASCII_BOXES = ("+-++", "||", "+=++", "|", "+-++", "+-++")


class Row(NamedTuple):
    """Line of the table."""

    name: str
    shape: str
    params: str
    connected: str
    trainable: str


class Maker(NamedTuple):
    """Origin of a value: row, index of its call, and index of the output."""

    row: Any
    call: int
    output: int


def summary(
    model: Any,
    line_length: int | None = None,
    positions: Sequence[float] | None = None,
    print_fn: Callable[[str], Any] | None = None,
    expand_nested: bool = False,
    show_trainable: bool = False,
    layer_range: Sequence[str] | None = None,
) -> None:
    """Prints a table of a model's layers, their output shapes and parameter counts.

    Args:
        model: The model, built or not.
        line_length: Width of the table; that of the terminal, up to 88 characters (108 for a graph), if None.
        positions: Ends of the columns, as shares of the width or in characters.
        print_fn: Function that is called once, with the whole text, instead of `print`.
        expand_nested: Whether to list the layers of nested models.
        show_trainable: Whether to add a column for `trainable`.
        layer_range: Names or patterns of the first and the last layer to list.
    Raises: ValueError: if the table is too narrow, or `layer_range` matches no layer.
    """
    plain = not _can_encode("".join(BOXES))
    listing = Listing(model, "+ " if plain else "└ ")
    rows = _in_range(list(listing.top()), layer_range)
    cells = [row for name_and_module in rows for row in listing.rows(*name_and_module, expand_nested)]
    table = _table(cells, listing.is_chain, show_trainable, line_length, positions, plain)
    lines = [f'Model: "{model.name}"', *table, *totals(model)]
    if not getattr(model, "built", True):
        lines.append(" The model is not built; call build() or fit() to see its shapes and parameters.")
    text = "\n".join(lines)
    if print_fn is not None:
        print_fn(text)
    else:
        say(text)


def _can_encode(text: str) -> bool:
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


# ------------------------------------------------------------------------------------------------------------ the rows


class Listing:
    """The rows of a model.

    Args:
        model: The model.
        branch: Prefix of the layers of a nested model.
        find_shapes: Returns the output shape of each module, by id.
    """

    def __init__(self, model: Any, branch: str, find_shapes: Callable[[Any], dict[int, Any]] | None = None):
        self.model, self.branch, self.find_shapes = model, branch, find_shapes or shapes_of_layers
        self.graph: Graph | None = graph_of(model)
        self.calls = [] if self.graph is None else _calls_of_values(self.graph)
        self.names = _names(self.graph, self.calls)
        self.is_chain = self.graph is None or _is_chain(self.graph, self.calls)

    @functools.cached_property
    def shapes(self) -> dict[int, Any]:
        """Returns the output shape of each module, by id."""
        return self.find_shapes(self.model)

    def top(self) -> Iterator[tuple[str, Any]]:
        """Returns names and modules of the model's own rows (for a function, its call), in order."""
        rows = _layers_of(self.model)
        known = {id(module) for _, module in rows}
        source = next((child for child in self.model.children() if isinstance(child, InputLayer)), None)
        if source is not None and id(source) not in known:
            rows.insert(0, (source.name, source))
        for call in self.calls:  # a function follows the last of its inputs
            row = self.row_of(call)
            if not isinstance(row, nn.Module) and not any(row is other for _, other in rows):
                before = [self.makers[ref].row for ref in data_reads(call)]
                places = [place for place, (_, each) in enumerate(rows) if any(each is maker for maker in before)]
                rows.insert(max(places, default=-1) + 1, (self.names[id(row)], row))
        return iter(rows)

    def rows(self, name: str, module: Any, expand: bool, level: int = 0) -> Iterator[Row]:
        """Yields the row of a layer, and if requested the rows of its layers."""
        prefix = PREFIX * level + self.branch if level else ""
        kind = "function" if isinstance(module, Call) else type(module).__name__
        connected = "-" if level else self._connections(module)
        yield Row(f"{prefix}{name} ({kind})", self._shape(module), _params(module), connected, trained(module))
        if expand and isinstance(module, Layer) and hasattr(module, "layers"):
            for inner_name, inner in _layers_of(module):
                yield from self.rows(inner_name, inner, expand, level + 1)

    def _shape(self, module: Any) -> str:
        if isinstance(module, Call):
            assert self.graph is not None
            return shown(shapes_of(self.graph, module.outputs))
        return shown(self.shapes.get(id(module), "?"))

    def row_of(self, call: Call) -> Any:
        """Returns the module or operation that is called; for a function, the call itself."""
        return call.target if isinstance(call.target, (nn.Module, Operation)) else call

    @functools.cached_property
    def calls_of(self) -> dict[int, list[Call]]:
        """The calls of each row, by its id."""
        found: dict[int, list[Call]] = {}
        for call in self.calls:
            found.setdefault(id(self.row_of(call)), []).append(call)
        return found

    @functools.cached_property
    def makers(self) -> dict[Ref, Maker]:
        """The origins of the values on which the outputs depend."""
        assert self.graph is not None
        sources = zip(tree.flatten(self.graph.inputs), self.graph.sources, strict=True)
        found = {ref: Maker(source, 0, 0) for ref, source in sources}
        for calls in self.calls_of.values():
            for number, call in enumerate(calls):
                for place, ref in enumerate(call.writes()):
                    found.setdefault(ref, Maker(self.row_of(call), number, place))
        return found

    def _connections(self, module: Any) -> str:
        calls = self.calls_of.get(id(module), [])
        makers = [self.makers[ref] for call in calls for ref in data_reads(call)]
        return ", ".join(f"{self.names[id(row)]}[{number}][{output}]" for row, number, output in makers) or "-"


def _layers_of(model: Any) -> list[tuple[str, Any]]:
    keys = {id(child): key for key, child in model.named_children()}
    layers = [layer for layer in model.layers if isinstance(layer, nn.Module)]
    return [
        (getattr(layer, "name", None) or keys.get(id(layer), snake_case(type(layer).__name__)), layer)
        for layer in layers
    ]


def _in_range(rows: list[tuple[str, Any]], layer_range: Sequence[str] | None) -> list[tuple[str, Any]]:
    if layer_range is None:
        return rows
    if len(layer_range) != 2 or not all(isinstance(name, str) for name in layer_range):
        raise ValueError(f"layer_range must be two names, of the first and the last layer; got {layer_range!r}.")
    first, last = ([place for place, (name, _) in enumerate(rows) if re.match(end, name)] for end in layer_range)
    if not first or not last:
        names = ", ".join(repr(name) for name, _ in rows)
        raise ValueError(f"layer_range={layer_range!r} matches no layer; the layers are {names}.")
    if min(first) > max(last):
        first, last = last, first
    return rows[min(first) : max(last) + 1]


def _params(module: Any) -> str:
    if isinstance(module, Layer):
        return f"{module.count_params():,}" if module.built else "0 (unbuilt)"
    return f"{sum(tensor.numel() for tensor in _tensors(module)):,}"


def _tensors(module: Any) -> list[Tensor]:
    """Returns the distinct tensors in the `state_dict` of a bare module."""
    tensors = module.state_dict(keep_vars=True).values() if isinstance(module, nn.Module) else ()
    return list({id(tensor): tensor for tensor in tensors if isinstance(tensor, Tensor)}.values())


def trained(module: Any) -> str:
    """Returns Y or N; "-" without weights."""
    if isinstance(module, Layer):
        return ("Y" if module.trainable else "N") if module.weights else "-"
    tensors = _tensors(module)
    return "-" if not tensors else "Y" if any(tensor.requires_grad for tensor in tensors) else "N"


def totals(model: Any) -> list[str]:
    """Returns the lines below the table: numbers of parameters."""
    trainable = [view.parameter for view in model.trainable_weights]
    frozen = [view.parameter for view in model.non_trainable_weights]
    optimizer: Any = getattr(model, "optimizer", None)
    built = getattr(optimizer, "built", False)
    slots = [getattr(variable, "parameter", variable) for variable in optimizer.variables] if built else []
    lines = [("Total", trainable + frozen + slots), ("Trainable", trainable), ("Non-trainable", frozen)]
    return [
        f" {what} params: {sum(t.numel() for t in tensors):,} ({_readable(sum(t.nbytes for t in tensors))})"
        for what, tensors in lines + ([("Optimizer", slots)] if slots else [])
    ]


def _readable(size: float) -> str:
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if size < 1024:
            return f"{size:.2f} {unit}"
        size /= 1024
    return f"{size:.2f} PB"


# ----------------------------------------------------------------------------------------------------------- the graph


def data_reads(call: Call) -> list[Ref]:
    """Returns the inputs of a call, without its mask."""
    kwargs = {key: value for key, value in call.kwargs.items() if key != "mask"}
    return [leaf for leaf in tree.flatten((call.args, kwargs)) if isinstance(leaf, Ref)]


def _calls_of_values(graph: Graph) -> list[Call]:
    """Returns the calls on which the outputs depend; those that only compute masks are omitted, as in Keras."""
    needed = {ref.index for ref in tree.flatten(graph.outputs)}
    calls = []
    for call in reversed(graph.calls):
        if any(ref.index in needed for ref in call.writes()):
            needed.update(ref.index for ref in data_reads(call))
            calls.append(call)
    return calls[::-1]


def _names(graph: Graph | None, calls: list[Call]) -> dict[int, str]:
    """Returns the names of modules and function calls, by id."""
    modules = [] if graph is None else [*graph.modules, *graph.operations]
    names = {id(module): str(getattr(module, "name", snake_case(type(module).__name__))) for module in modules}
    for call in calls:
        if not isinstance(call.target, (nn.Module, Operation)):
            base = getattr(call.target, "__name__", "function").strip("_<>")
            taken = [name for name in names.values() if name == base or re.fullmatch(rf"{re.escape(base)}_\d+", name)]
            names[id(call)] = f"{base}_{len(taken)}" if taken else base
    return names


def _is_chain(graph: Graph, calls: list[Call]) -> bool:
    """Returns whether the graph is a chain: each call takes exactly the outputs of the previous one."""
    previous = {ref.index for ref in tree.flatten(graph.inputs)}
    targets = [id(call.target) for call in calls if isinstance(call.target, (nn.Module, Operation))]
    if len(previous) != 1 or len({*targets}) != len(targets):
        return False
    for call in calls:
        reads = [ref.index for ref in data_reads(call)]
        if len(reads) != 1 or reads[0] not in previous:
            return False
        previous = {ref.index for ref in call.writes()}
    return True


# ---------------------------------------------------------------------------------------------------------- the shapes


def torchinfo_shapes(model: Any) -> dict[int, Any]:
    """Returns the output shapes from torchinfo, by id of the module; empty if it cannot run the model.

    torchinfo runs the model on zero rows, as in shape inference, so its 0 means None. Its parameter counts are not used,
    since shared parameters count twice; the mode that it sets and its cache of the model are reset.
    """
    inputs = _inputs_of(model)
    if inputs is None or any(map(is_text, tree.flatten(inputs))):
        return {}
    import torchinfo
    from torchinfo.torchinfo import _cached_forward_pass as cache

    if is_used_elsewhere(model) and not is_separable(model):
        return {}  # torchinfo's hooks would disturb the other thread

    def shapes_of_run(*args: Any) -> dict[int, Any]:
        # a list, since a dict would be keyword arguments
        run = torchinfo.summary(held, input_data=[*args], verbose=0, mode="eval")
        sizes = {info.layer_id: info.output_size for info in run.summary_list if info.executed}
        return {
            originals[key]: torch.empty(()).expand(size) for key, size in sizes.items()
        }  # takes no memory at any size

    weight = next(model.parameters(), None)
    device = config.device() if weight is None else weight.device
    before = dict(cache)
    try:
        with _apart(model) as held, config.device_scope(device):
            originals = dict(zip(map(id, all_modules(held)), map(id, all_modules(model)), strict=True))
            leaves, nest = infer(shapes_of_run, inputs, {}, is_symbolic)
    except ValueError:  # any error of the model or torchinfo
        return {}
    finally:
        cache.clear()
        cache.update(before)
    return tree.pack_sequence_as(nest, [leaf.shape for leaf in leaves])


@contextlib.contextmanager
def _apart(model: nn.Module) -> Iterator[Any]:
    """Yields a copy of the model for torchinfo; if it cannot be copied, the model itself, which is restored afterwards."""
    if is_separable(model):
        with isolated(model) as held:
            yield held
    else:
        with keeping_modes(model), untouched(model):
            yield model


def _inputs_of(model: Any) -> tuple[Any, ...] | None:
    """Returns symbolic arguments for a run of the model; None if its input shapes are unknown."""
    graph: Graph | None = graph_of(model)
    if graph is not None:
        return (tree.map_structure(lambda ref: SymbolicTensor(*graph.specs[ref.index][:2]), graph.inputs),)
    shapes = [*(getattr(model, "_build_shapes", None) or {}).values()]
    if len(shapes) != 1 or shapes[0] is None:
        return None
    return (tree.map_structure(lambda leaf: SymbolicTensor((None, *leaf.sizes[1:])), as_leaves(shapes[0])),)


def shapes_of_layers(model: nn.Module) -> dict[int, Any]:
    """Returns the output shape (or nest of shapes) of each module, by id: torchinfo's, corrected by the graph's.

    torchinfo reports only the first of several outputs, and cannot run some models.
    """
    known = shapes_of_graph(model)
    several = {key: shapes for key, shapes in known.items() if not isinstance(shapes, Shape)}
    return {**known, **torchinfo_shapes(model), **several}


def shapes_of_graph(model: nn.Module) -> dict[int, Any]:
    """Returns the output shape of each module that a graph calls, by id, without running anything."""
    known: dict[int, Any] = {}
    for module in model.modules():
        graph: Graph | None = graph_of(module)
        if graph is not None:
            inputs = zip(graph.sources, tree.flatten(graph.inputs), strict=True)
            known.update((id(source), shapes_of(graph, ref)) for source, ref in inputs)  # torchinfo cannot run text
            known.update((id(call.target), shapes_of(graph, call.outputs)) for call in graph.calls)
            known.setdefault(id(module), shapes_of(graph, graph.outputs))
            refs = tree.flatten(graph.inputs)
            known.update((id(source), shapes_of(graph, ref)) for source, ref in zip(graph.sources, refs, strict=True))
    return known


class Shape(tuple[Any, ...]):
    """A shape, as one leaf of a nest."""


def shapes_of(graph: Graph, outputs: Any) -> Any:
    """Converts a nest of values to a nest of shapes."""

    def shape(leaf: Any) -> Any:
        return Shape(graph.specs[leaf.index].shape) if isinstance(leaf, Ref) else leaf

    return tree.map_structure(shape, outputs)


def shown(shapes: Any) -> str:
    """Returns a nest of shapes as text."""
    named = isinstance(shapes, dict)  # of any kind, such as the outputs of `transformers`
    return str(dict(shapes) if named else shapes).replace("'", "")


# ----------------------------------------------------------------------------------------------------------- the table


def _table(
    rows: list[Row],
    is_chain: bool,
    show_trainable: bool,
    line_length: int | None,
    positions: Sequence[float] | None,
    plain: bool,
) -> list[str]:
    """Returns the lines of the table."""
    header, fields, shares = ["Layer (type)", "Output Shape", "Param #"], [0, 1, 2], [0.45, 0.80, 1.0]
    default = 88
    if not is_chain:
        header, fields, shares, default = [*header, "Connected to"], [0, 1, 2, 3], [0.3, 0.56, 0.74, 1.0], 108
    ends = shares if positions is None else [*positions]
    if show_trainable:
        header, fields, default = [*header, "Trainable"], [*fields, 4], default + 12
        ends = [end * 0.9 for end in shares] + [1.0] if positions is None else ends
    length = line_length or min(default, shutil.get_terminal_size().columns - 4)
    widths = _widths(header, ends, length)
    top, head, below, bar, between, bottom = ASCII_BOXES if plain else BOXES
    lines = [_rule(top, widths), *_line(header, widths, head[0]), _rule(below, widths)]
    for number, row in enumerate(rows):
        lines += [_rule(between, widths)] if number else []
        cells = [row[field] for field in fields]
        cells[-1] = cells[-1].center(widths[-1]) if show_trainable else cells[-1]
        lines += _line(cells, widths, bar)
    return [*lines, _rule(bottom, widths)]


def _widths(header: list[str], ends: Sequence[float], length: int) -> list[int]:
    """Returns the widths of the columns' text: `length` minus borders and spaces; headers are not truncated."""
    if len(ends) != len(header):
        raise ValueError(f"positions must have {len(header)} numbers, the ends of {', '.join(header)}; got {[*ends]}.")
    places = [0, *(int(end * length) if max(ends) <= 1 else int(end) for end in ends)]
    widths = [end - start - 3 for start, end in itertools.pairwise(places)]
    widths[0] -= 1
    least = sum(map(len, header)) + 3 * len(header) + 1
    if sum(widths) < sum(map(len, header)):
        raise ValueError(f"line_length={length} is too narrow for the table; it needs {least} characters or more.")
    while True:  # moves width from the column with the most spare width to the one that lacks most
        spare = [width - len(title) for width, title in zip(widths, header)]
        if min(spare) >= 0:
            return widths
        widths[spare.index(min(spare))] += 1
        widths[spare.index(max(spare))] -= 1


def _rule(box: str, widths: list[int]) -> str:
    left, line, cross, right = tuple(box)
    return left + cross.join(line * (width + 2) for width in widths) + right


def _line(cells: list[str], widths: list[int], bar: str) -> list[str]:
    """Returns the lines of a row, as many as its tallest cell has."""
    columns = []
    for place, (text, width) in enumerate(zip(cells, widths)):
        parts = _wrapped(text, width)
        blanks = [" " * (width - cells_of(part)) for part in parts]
        columns.append([blank + part if place == 2 else part + blank for part, blank in zip(parts, blanks)])
    height = max(map(len, columns))
    padded = [column + [" " * width] * (height - len(column)) for column, width in zip(columns, widths)]
    return [f"{bar} " + f" {bar} ".join(parts) + f" {bar}" for parts in zip(*padded)]


def _wrapped(text: str, width: int) -> list[str]:
    if cells_of(text) <= width:
        return [text]
    lead = text[: len(text) - len(text.lstrip())]
    parts = textwrap.wrap(text, width, subsequent_indent=lead, break_on_hyphens=False)
    return parts if text.isascii() else [piece for part in parts for piece in _cut(part, width)]


def _cut(text: str, width: int) -> Iterator[str]:
    """Yields pieces of a text that take no more than `width` cells of a terminal."""
    piece = ""
    for character in text:
        if piece and cells_of(piece + character) > width:
            yield piece
            piece = ""
        piece += character
    yield piece


def cells_of(text: str) -> int:
    """Returns how many cells of a terminal a text takes: two for each wide character, none for accents on the one before."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) > 0 for character in text)
