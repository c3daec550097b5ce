"""The part of a graph that works on text: it runs on the host, in front of the part that works on numbers.

Unlike the passes beside it, it is always applied: torch cannot hold text.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kstyle_torch import tree
from kstyle_torch.arrays import from_array
from kstyle_torch.data.arrays import is_array, num_samples
from kstyle_torch.data.frames import is_frame
from kstyle_torch.data.rows import WHOLE_BYTES, ComputedRows
from kstyle_torch.dtype_policies import STRING
from kstyle_torch.errors import WrongTypeError
from kstyle_torch.layers.input_layer import InputLayer
from kstyle_torch.layers.preprocessing.data_layer import as_array, results_on_host
from kstyle_torch.symbolic.graph import Call, Graph, Ref
from kstyle_torch.symbolic.infer import Spec, describe

ROWS_AT_ONCE = 4096  # texts that are converted together, which bounds the memory of their tokens


class TextPart:
    """The calls of a graph on text, up to the first numbers.

    Args:
        graph: The whole graph.
        calls: Its calls on text, and those that they need, in order.
        specs: Shape and dtype of every value, with those of nested models' numbers at the end.
        numbers: The numbers that the calls return to the rest of the graph, by name.
        sources: Inputs of the rest of the graph: an InputLayer for each number, by the same names.
        others: The graph's inputs of numbers, by name.
        model: Name of the model, for messages.
    """

    def __init__(
        self,
        graph: Graph,
        calls: list[Call],
        specs: list[Spec],
        numbers: dict[str, Ref],
        sources: list[InputLayer],
        others: dict[str, Ref],
        model: str,
    ):
        self.graph, self.calls, self.specs, self.model = graph, calls, specs, model
        self.numbers, self.sources, self.others = numbers, sources, others
        self.names = {*numbers, *others}

    def converted(self, x: Any, lazily: bool, on_host: bool) -> Any:
        """Returns a dict with the numbers of the text in x and its other inputs; see `GraphInputs.without_text`."""
        columns = self._columns(x)
        places = {ref: place for place, ref in enumerate(tree.flatten(self.graph.inputs))}
        found = {name: columns[places[ref]] for name, ref in self.others.items()}
        if not lazily:
            found = {name: _as_tensor(column) for name, column in found.items()}
            with results_on_host() if on_host else contextlib.nullcontext():
                numbers = self.run(columns, [*self.numbers.values()])
            return {**found, **dict(zip(self.numbers, numbers, strict=True))}
        return {**found, **{name: self._rows(columns, ref) for name, ref in self.numbers.items()}}

    def run(self, columns: Sequence[Any], wanted: list[Ref]) -> list[Tensor]:
        """Returns the wanted numbers for some rows of each input."""
        values = {ref.index: column for ref, column in zip(tree.flatten(self.graph.inputs), columns, strict=True)}

        def value(leaf: Any) -> Any:
            return values[leaf.index] if isinstance(leaf, Ref) else leaf

        with torch.no_grad():
            for call in _needed(self.calls, wanted):
                args, kwargs = tree.map_structure(value, (call.args, call.kwargs))
                results = tree.flatten(call.target(*args, **kwargs))
                for ref, result in zip(tree.flatten(call.outputs), results, strict=True):
                    values[ref.index] = result
        return [values[ref.index] for ref in wanted]

    def _rows(self, columns: list[Any], ref: Ref) -> Tensor | ComputedRows:
        """Returns the numbers of all rows; those that are large or vary in shape are computed when they are read."""
        spec, inputs = self.specs[ref.index], tree.flatten(self.graph.inputs)
        read = {read for call in _needed(self.calls, [ref]) for read in call.reads()}
        places = [place for place, input in enumerate(inputs) if input in read]
        needed = [columns[place] for place in places]
        compute = functools.partial(self._on_host, ref, places)
        rows = num_samples(needed)
        lazy = ComputedRows(needed, compute, (rows, *spec.shape[1:]), spec.dtype)
        if lazy.varies or lazy.nbytes > WHOLE_BYTES:
            return lazy
        parts = (slice(start, start + ROWS_AT_ONCE) for start in range(0, rows, ROWS_AT_ONCE))
        return torch.cat([lazy.take(part) for part in parts])

    def _on_host(self, wanted: Ref, places: list[int], needed: list[Any]) -> Tensor:
        columns: list[Any] = [None] * len(self.graph.sources)
        for place, column in zip(places, needed, strict=True):
            columns[place] = column
        with results_on_host():
            return self.run(columns, [wanted])[0].cpu()

    # ------------------------------------------------------------------------------------------------- the user's data

    def _columns(self, x: Any) -> list[Any]:
        """Returns an array of each input, in the order of the graph; text as arrays of strings.

        Raises: ValueError: if an input is missing, or has another shape. TypeError: if text is not text.
        """
        refs, names = tree.flatten(self.graph.inputs), [source.name for source in self.graph.sources]
        needed = {ref for call in self.calls for ref in call.reads()}
        pairs = zip(names, refs, self._flat(x, refs, names), strict=True)
        return [self._column(data, name, ref, ref in needed) for name, ref, data in pairs]

    def _flat(self, x: Any, refs: list[Ref], names: list[str]) -> list[Any]:
        columns = getattr(x, "column_names", None) or getattr(x, "columns", None)  # of pyarrow; of pandas and polars
        if is_frame(x) and columns is not None and {*names} <= {*columns}:
            return [x[name] for name in names]
        if isinstance(x, dict):
            nest = self.graph.inputs
            keys = [path[0] for path, _ in tree.flatten_with_path(nest)] if isinstance(nest, dict) else names
            keys = names if not set(keys) <= x.keys() and set(names) <= x.keys() else keys
            if missing := [key for key in keys if key not in x]:
                raise ValueError(f"Missing data for input {missing[0]!r}: got {list(x)}, expected {keys}.")
            return [x[key] for key in keys]
        if len(refs) == 1:  # a list is a list of texts, unless it holds an array of them
            return [x[0] if isinstance(x, (list, tuple)) and len(x) == 1 and is_array(x[0]) else x]
        if not isinstance(x, (list, tuple)) or len(x) != len(refs):
            got = f"a list of {len(x)}" if isinstance(x, (list, tuple)) else f"a {type(x).__name__}"
            raise ValueError(
                f"Model {self.model!r} has {len(refs)} inputs, {', '.join(map(repr, names))}: pass a dict or a list with "
                f"data for each; got {got}."
            )
        return [*x]

    def _column(self, data: Any, name: str, ref: Ref, is_needed: bool) -> Any:
        spec = self.specs[ref.index]
        if spec.dtype is STRING:
            return _with_rank(_as_text(data, name, self.model), spec.shape, name, self.model)
        if not is_needed:
            return data
        return _with_rank(_as_tensor(data), spec.shape, name, self.model)


def split(graph: Graph, model: str) -> tuple[TextPart | None, Graph]:
    """Splits a graph behind its text.

    Args:
        graph: The graph.
        model: Name of the model, for messages.
    Returns: The part that works on text, None if no input is text; and the graph of the rest, which begins with numbers.
    Raises: ValueError: if an output is text, or text meets numbers that are computed with weights that are trained.
    """
    inputs = tree.flatten(graph.inputs)
    texts = {ref for ref in inputs if graph.specs[ref.index].dtype is STRING}
    if not texts:
        return None, graph
    if texts.intersection(tree.flatten(graph.outputs)):
        raise ValueError(f"{model}: an output of a model must be numbers; got an input of text.")
    specs, on_text, rest = [*graph.specs], [], []
    known, ready = {*texts}, {*inputs}  # text and what is made of it; and all that the host can compute
    for call in graph.calls:
        on_host = getattr(call.target, "_runs_on_host", False) and ready.issuperset(call.reads())
        if texts.isdisjoint(call.reads()) and not (on_host and not known.isdisjoint(call.reads())):
            rest.append(call)
            if ready.issuperset(call.reads()) and not _has_weights(call.target):
                ready.update(call.writes())
        elif getattr(call.target, "_text_part", None) is None:
            on_text.append(call)
            known.update(call.writes())
            ready.update(call.writes())
        else:
            first, second = _through_model(call, specs)
            on_text.append(first)
            rest.append(second)
    rest = _needed(rest, [*_refs((graph.outputs, graph.masks))])
    read = [*dict.fromkeys(itertools.chain(*(call.reads() for call in rest), _refs((graph.outputs, graph.masks))))]
    makers: dict[Ref, Any] = {ref: call.target for call in on_text for ref in call.writes()}
    taken = {source.name for source in graph.sources} | {path[0] for path in _keys(graph.inputs)}
    numbers = _named({ref: makers[ref] for ref in read if ref in makers}, taken)
    calls = [*_before(graph.calls, on_text, model), *on_text]
    sources = [_source(name, specs[ref.index], makers[ref]) for name, ref in numbers.items()]
    others = {
        source.name: ref for ref, source in zip(inputs, graph.sources, strict=True) if ref in read and ref not in texts
    }
    by_name = {source.name: source for source in (*sources, *graph.sources)}
    named = {**others, **numbers}
    device_graph = Graph(
        specs=specs,
        inputs=named,
        sources=[by_name[name] for name in sorted(named)],
        outputs=graph.outputs,
        masks=graph.masks,
        calls=rest,
        modules=[module for module in graph.modules if any(call.target is module for call in rest)],
        operations=graph.operations,
    )
    return TextPart(graph, calls, specs, numbers, sources, others, model), device_graph


def _through_model(call: Call, specs: list[Spec]) -> tuple[Call, Call]:
    """Splits a call of a model that takes text: it gives numbers first, on which it is called then."""
    model: Any = call.target
    part, graph = model._text_part, model._device_graph
    flat = model._arranged(model.graph, call.args[0])
    given = dict(zip(tree.flatten(model.graph.inputs), flat, strict=True))
    made = {}
    for name, ref in part.numbers.items():
        made[name] = Ref(len(specs))
        specs.append(graph.specs[ref.index])
    numbers = {name: given[ref] for name, ref in part.others.items()}
    read = {ref for inner in part.calls for ref in inner.reads()}
    columns = [leaf if ref in read else None for ref, leaf in given.items()]
    device_call = Call(model, ({**numbers, **made},), call.kwargs, call.outputs, call.tags, call.filled)
    return Call(_TextOf(model), (columns,), {}, made), device_call


class _TextOf:
    """The calls on text of a model inside another one.

    Args:
        model: The inner model.
    """

    def __init__(self, model: Any):
        self.model, self.name = model, model.name

    def __call__(self, columns: list[Any]) -> dict[str, Tensor]:
        part = self.model._text_part
        return dict(zip(part.numbers, part.run(columns, [*part.numbers.values()]), strict=True))


def _needed(calls: list[Call], wanted: Sequence[Ref]) -> list[Call]:
    """Returns the calls on which some values depend, in order."""
    needed, found = set(wanted), []
    for call in reversed(calls):
        if not needed.isdisjoint(call.writes()):
            needed.update(call.reads())
            found.append(call)
    return found[::-1]


def _before(calls: list[Call], on_text: list[Call], model: str) -> list[Call]:
    """Returns the calls on numbers that calls on text need, such as the bins of a number that is crossed with a word.

    Raises: ValueError: if they have weights that are trained, since no gradient would reach them.
    """
    made = {ref for call in on_text for ref in call.writes()}
    found = _needed(calls, [ref for call in on_text for ref in call.reads() if ref not in made])
    for call in (*found, *on_text):
        if _has_weights(call.target):
            raise ValueError(
                f"{model}: {describe(call.target)} has weights in the part of the graph that works on text, which passes no "
                "gradient on, so they would never be trained. Call it on the numbers that this part returns, or freeze it."
            )
    return found


def _has_weights(target: Any) -> bool:
    """Returns whether training would change weights of a module."""
    return isinstance(target, nn.Module) and any(weight.requires_grad for weight in target.parameters())


def _named(makers: dict[Ref, Any], taken: set[Any]) -> dict[str, Ref]:
    """Returns names for the numbers: those of the layers that give them, different from the inputs' and each other."""
    named: dict[str, Ref] = {}
    for ref, maker in makers.items():
        base = getattr(maker, "name", "text")
        tries = itertools.chain([base], (f"{base}_{number}" for number in itertools.count(1)))
        named[next(name for name in tries if name not in taken and name not in named)] = ref
    return named


def _source(name: str, spec: Spec, maker: Any) -> InputLayer:
    dtype = getattr(maker, "_compute_dtype", spec.dtype) if spec.dtype.is_floating_point else spec.dtype
    layer = InputLayer(batch_shape=spec.shape, dtype=dtype, name=name)
    layer.dtype_given = False
    return layer


def _keys(nest: Any) -> Iterator[tuple[Any, ...]]:
    return (path for path, _ in tree.flatten_with_path(nest) if path)


def _refs(structure: Any) -> Iterator[Ref]:
    return (leaf for leaf in tree.flatten(structure) if isinstance(leaf, Ref))


def _as_text(data: Any, name: str, model: str) -> np.ndarray:
    """Returns the text of one input as an array of strings or bytes.

    Raises: TypeError: for anything else. ValueError: for a single text, or lists of different lengths.
    """
    if isinstance(data, (str, bytes)):
        raise ValueError(
            f"{model}: the input {name!r} expects a batch of texts; got a single one: pass [{data!r:.40}]."
        )
    if isinstance(data, Tensor):
        raise WrongTypeError(f"{model}: the input {name!r} is text (dtype 'string'); got a tensor of {data.dtype}.")
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise ValueError(
            f"{model}: the texts for {name!r} are in lists of different lengths; make them equal."
        ) from error
    if array.dtype.kind in "US":
        return array
    wrong = next((text for text in array.ravel().tolist() if not isinstance(text, (str, bytes))), None)
    if array.dtype.kind != "O" or wrong is not None or None in array:
        shown = f"{wrong!r:.40} of type {type(wrong).__name__}"
        raise WrongTypeError(
            f"{model}: the input {name!r} is text (dtype 'string'); got {shown}. Convert numbers to text with "
            "x.astype(str), and fill in missing values."
        )
    return array


def _as_tensor(data: Any) -> Any:
    """Returns arrays, lists and frames as tensors; other data unchanged."""
    return from_array(as_array(data)) if is_frame(data) or isinstance(data, (np.ndarray, list, tuple)) else data


def _with_rank(array: Any, shape: tuple[int | None, ...], name: str, model: str) -> Any:
    """Returns an array with as many axes as the input has, where a last axis of size 1 is added or dropped.

    Raises: ValueError: if the shapes differ otherwise.
    """
    given = tuple(array.shape)
    if len(given) == len(shape) - 1 and shape[-1] == 1:
        array = array[..., None]
    elif len(given) == len(shape) + 1 and given[-1] == 1:
        array = array[..., 0]
    sizes = tuple(array.shape)
    if len(sizes) != len(shape) or any(want not in (None, got) for want, got in zip(shape[1:], sizes[1:], strict=True)):
        raise ValueError(f"{model}: the data for {name!r} has shape {given}; expected {shape}.")
    return array
