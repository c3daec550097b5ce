"""Conversion of a graph of layers to and from the config of Keras' functional models.

Masks are omitted, since the layers propagate them when the graph is rebuilt.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import get_overridable_functions, resolve_name

from kstyle_torch import budget, tree
from kstyle_torch.layer.base import Layer
from kstyle_torch.layer.module_walk import uncounted_calls
from kstyle_torch.layer.shapes import as_leaves
from kstyle_torch.layer.tracing import HOOKS, is_users
from kstyle_torch.layers.input_layer import InputLayer, input_tensor
from kstyle_torch.models import op_nodes
from kstyle_torch.registry import registered_object
from kstyle_torch.serialization import (
    custom_object_scope,
    deserialize_keras_object,
    extended_class,
    serialize_keras_object,
)
from kstyle_torch.symbolic.graph import Graph, Ref
from kstyle_torch.symbolic.operation import Operation
from kstyle_torch.symbolic.replay import replay
from kstyle_torch.symbolic.tensor import SymbolicTensor, record

TENSOR, FUNCTION = "__keras_tensor__", "TorchFunction"
HOMES_OF_FUNCTIONS = {
    *("torch", "torch.Tensor", "torch.functional", "torch.nn.functional"),
    *("torch.fft", "torch.linalg", "torch.special"),
}
OPERATORS = {
    *"abs add and eq floordiv ge getitem gt invert le lt matmul mod mul ne neg or pos pow rpow".split(),
    *"radd rand rfloordiv rmatmul rmod rmul ror rsub rtruediv rxor sub truediv xor".split(),
}
# exposes memory, calls back, changes storage, or is a kernel that does not check its arguments
UNWANTED = re.compile(
    "unsafe|quant|miopen|cudnn|fbgemm|mkldnn|backward|data_ptr|storage|hook|stream|module_load|as_strided|pin_memory|share|"
    "batch_norm_(stats|elemt|gather|update)|^(apply|map|numpy|tolist|item|cuda|xpu|cpu|set|resize|retain_grad)$"
)
GIVEN = "training_given"  # in a node: the call had a `training=` argument
PROPERTIES = ("T", "mT", "H", "mH", "real", "imag")  # what `record(getattr, ...)` may read


def to_config(graph: Graph) -> dict[str, Any]:
    """Returns the layers with their calls, and the references of inputs and outputs.

    Raises: TypeError: if a layer has no config, or a function is not one of torch's, of `ops`, or registered.
    """
    needed = _needed_calls(graph)
    names = _function_names(graph, needed)
    made: dict[int, tuple[str, int, int]] = {}  # value -> layer, which of its calls, which of its outputs
    for ref, source in zip(tree.flatten(graph.inputs), graph.sources, strict=True):
        made[ref.index] = (source.name, 0, 0)
    entries = {source.name: {**_entry(source), "inbound_nodes": []} for source in graph.sources}
    for position in needed:
        call = graph.calls[position]
        name = names.get(position) or _name_of(call.target)
        given = {key: value for key, value in call.kwargs.items() if key not in call.filled}
        written = functools.partial(_written, graph=graph, made=made)
        op = op_nodes.as_keras(call.target, call.args, given) if position in names else None
        if op is not None:
            # older Keras accepts no name beside other settings
            config = _map_leaves(written, op.config) if op.op.settings else {"name": name}
            entries[name] = _op_entry(op.op, name, config, _map_leaves(written, op.args))
            for place, ref in enumerate(tree.flatten(call.outputs)):
                if isinstance(ref, Ref):
                    made[ref.index] = (name, 0, place)
            continue
        entry = entries.setdefault(name, {**_entry(call.target, name), "inbound_nodes": []})
        for place, ref in enumerate(tree.flatten(call.outputs)):
            if isinstance(ref, Ref):
                made[ref.index] = (name, len(entry["inbound_nodes"]), place)
        args, kwargs = _map_leaves(written, [list(call.args), given], mark_tuples=position in names)
        entry["inbound_nodes"].append(
            {"args": args, "kwargs": kwargs, **({GIVEN: True} if "training" in kwargs else {})}
        )

    def history(ref: Ref) -> list[Any]:
        return list(made[ref.index])

    ends = {"input_layers": graph.inputs, "output_layers": graph.outputs}
    written_ends = {key: _map_leaves(history, end) for key, end in ends.items()}
    # a single one in a list, which older Keras requires
    written_ends = {key: [end] if isinstance(ends[key], Ref) else end for key, end in written_ends.items()}
    return {"layers": list(entries.values()), **written_ends}


def from_config(config: dict[str, Any]) -> tuple[Any, Any]:
    """Returns the symbolic inputs and outputs of the graph that a config describes.

    Raises: ValueError: if it names an unknown class or function, or a call without a path from the inputs.
    """
    layers = {entry["name"]: _target(entry) for entry in config["layers"]}
    values: dict[tuple[str, int, int], Any] = {
        (name, 0, 0): input_tensor(layer) for name, layer in layers.items() if isinstance(layer, InputLayer)
    }
    first = _first_numbers(config)
    waiting = [
        (entry["name"], number, node, _histories(node))
        for entry in config["layers"]
        for number, node in enumerate(entry["inbound_nodes"], first[entry["name"]])
        if not isinstance(layers[entry["name"]], InputLayer)
    ]
    while waiting:  # once through them if, as usual, calls come after those that they depend on
        left = []
        for name, number, node, needed in waiting:
            if not all(each in values for each in needed):
                left.append((name, number, node, needed))
                continue
            args, kwargs = _read((node["args"], node["kwargs"]), values)
            # Keras always writes a mode for layers, and ignores it
            if not node.get(GIVEN) and not isinstance(layers[name], Operation):
                kwargs.pop("training", None)
            outputs = _call(layers[name], args, kwargs)
            values.update({(name, number, place): leaf for place, leaf in enumerate(tree.flatten(outputs))})
        if len(left) == len(waiting):
            raise ValueError(
                f"The config of {config.get('name')!r} has calls that do not depend on an input: {left[0][:2]}."
            )
        waiting = left
    return tuple(_ends(_single(config[key]), values) for key in ("input_layers", "output_layers"))


def _single(ends: Any) -> Any:
    """Unpacks inputs or outputs from a list of one, which Keras treats as the item."""
    is_one = isinstance(ends, list) and len(ends) == 1 and isinstance(ends[0], list) and len(_triples(ends)) == 1
    return ends[0] if is_one else ends


def _first_numbers(config: dict[str, Any]) -> dict[str, int]:
    """Returns the number of each layer's first call: 1 for nested models of older Keras, which count their own call."""
    highest: dict[str, int] = {}
    ends = [_triples(config[key]) for key in ("input_layers", "output_layers")]
    nodes = (node for entry in config["layers"] for node in entry["inbound_nodes"])
    for name, number, _ in itertools.chain(*ends, *map(_histories, nodes)):
        highest[name] = max(highest.get(name, 0), number)
    return {
        entry["name"]: 1 if highest.get(entry["name"], 0) >= max(len(entry["inbound_nodes"]), 1) else 0
        for entry in config["layers"]
    }


# ------------------------------------------------------------------------------------------------------------- writing


def _needed_calls(graph: Graph) -> list[int]:
    """Returns the calls on which the outputs depend, without masks."""
    maker = {ref.index: position for position, call in enumerate(graph.calls) for ref in call.writes()}
    needed: set[int] = set()
    stack = [ref for ref in tree.flatten(graph.outputs) if isinstance(ref, Ref)]
    while stack:
        position = maker.get(stack.pop().index)
        if position is None or position in needed:
            continue
        needed.add(position)
        call = graph.calls[position]
        given = {key: value for key, value in call.kwargs.items() if key not in call.filled}
        stack += [leaf for leaf in tree.flatten((call.args, given)) if isinstance(leaf, Ref)]
    return sorted(needed)


def _function_names(graph: Graph, needed: list[int]) -> dict[int, str]:
    """Returns a name for each call of a function, different from the layers'."""
    taken = {getattr(target, "name", "") for target in (*graph.modules, *graph.operations)}
    names: dict[int, str] = {}
    for position in needed:
        target = graph.calls[position].target
        if isinstance(target, (nn.Module, Operation)):
            continue
        base = getattr(target, "__name__", "function").strip("_")
        number = 0
        while (name := f"{base}_{number}" if number else base) in taken:
            number += 1
        taken.add(name)
        names[position] = name
    return names


def _name_of(module: Any) -> str:
    if not isinstance(module, (Layer, Operation)):
        raise TypeError(f"{type(module).__name__} is a bare torch module, which has no config; wrap it in a Layer.")
    return module.name


def _entry(target: Any, name: str = "") -> dict[str, Any]:
    if isinstance(target, (nn.Module, Operation)):
        return {**serialize_keras_object(target), "name": _name_of(target)}
    config = {"name": name, "function": _function_path(target)}
    return {"module": "kstyle_torch", "class_name": FUNCTION, "config": config, "registered_name": None, "name": name}


def _op_entry(op: op_nodes.Op, name: str, config: dict[str, Any], args: list[Any]) -> dict[str, Any]:
    entry = {"module": op.module, "class_name": op.class_name, "config": config, "registered_name": op.class_name}
    return {**entry, "name": name, "inbound_nodes": [{"args": args, "kwargs": {}}]}


def _function_path(function: Callable[..., Any]) -> Any:
    if function is getattr:
        return "getattr"
    if (getattr(function, "__module__", None) or "").startswith("kstyle_torch.ops"):
        return f"{function.__module__}.{function.__name__}"
    return resolve_name(function) or serialize_keras_object(function)


def _written(leaf: Any, graph: Graph, made: dict[int, tuple[str, int, int]]) -> Any:
    if isinstance(leaf, Ref):
        spec = graph.specs[leaf.index]
        dtype = str(spec.dtype).removeprefix("torch.")
        config = {"shape": list(spec.shape), "dtype": dtype, "keras_history": list(made[leaf.index])}
        return {"class_name": TENSOR, "config": config}
    if isinstance(leaf, slice):
        return {"class_name": "__slice__", "config": {key: getattr(leaf, key) for key in ("start", "stop", "step")}}
    if leaf is Ellipsis:
        return {"class_name": "__ellipsis__", "config": {}}
    if isinstance(leaf, Tensor):
        return {"class_name": "__tensor__", "config": serialize_keras_object(leaf)["config"]}
    if isinstance(leaf, torch.dtype):
        return {"class_name": "__torch_dtype__", "config": {"name": str(leaf).removeprefix("torch.")}}
    return serialize_keras_object(leaf)


def _map_leaves(function: Callable[[Any], Any], structure: Any, mark_tuples: bool = False) -> Any:
    """Maps the leaves of a nest. Tuples are marked, since JSON turns them into lists, which torch's functions distinguish."""
    if isinstance(structure, dict):
        return {key: _map_leaves(function, item, mark_tuples) for key, item in structure.items()}
    if isinstance(structure, (list, tuple)):
        items = [_map_leaves(function, item, mark_tuples) for item in structure]
        is_marked = mark_tuples and isinstance(structure, tuple)
        return {"class_name": "__tuple__", "config": {"items": items}} if is_marked else type(structure)(items)
    return function(structure)


# ------------------------------------------------------------------------------------------------------------- reading


def _target(entry: dict[str, Any]) -> Any:
    if entry["class_name"] == FUNCTION:
        return _function(entry["config"]["function"])
    if op_nodes.is_op(entry):
        return op_nodes.function_of(entry, _read(entry["config"], {}))
    known = {key: entry[key] for key in ("module", "class_name", "config", "registered_name")}
    more = {"name_given": entry.get("name_given", False), "build_config": entry.get("build_config")}
    return deserialize_keras_object({**known, **more})


def _function(path: Any) -> Callable[..., Any]:
    """Returns the function for a path of `_function_path`; only torch's, those of `ops`, and registered ones are allowed."""
    if not isinstance(path, str):
        return deserialize_keras_object(path)
    found = {"getattr": _property}.get(path) or torch_functions().get(path) or registered_object(path)
    if found is None:
        raise ValueError(f"The config names the function {path!r}, which is not allowed in a graph.")
    return found


def _property(x: Any, name: str) -> Any:
    if name not in PROPERTIES:
        raise ValueError(
            f"A graph may read the attributes {', '.join(PROPERTIES)} of a tensor; the config names {name!r}."
        )
    return getattr(x, name)


@functools.cache
def torch_functions() -> dict[str, Callable[..., Any]]:
    """Returns the functions that a graph in a file may call: torch's public ones that compute a tensor without side effects."""
    functions = (function for group in get_overridable_functions().values() for function in group)
    named = {name: function for function in functions if (name := resolve_name(function))}
    return {name: function for name, function in named.items() if _is_harmless(*name.rpartition(".")[::2])}


def _is_harmless(home: str, name: str) -> bool:
    if home not in HOMES_OF_FUNCTIONS or UNWANTED.search(name):
        return False
    if name.startswith("__"):
        return name.strip("_") in OPERATORS
    return not name.startswith("_") and not name.endswith("_")


def _histories(structure: Any) -> list[tuple[str, int, int]]:
    if isinstance(structure, dict):
        if structure.get("class_name") == TENSOR:
            return [tuple(structure["config"]["keras_history"])]
        structure = list(structure.values())
    if isinstance(structure, (list, tuple)):
        return [found for item in structure for found in _histories(item)]
    return []


def _read(structure: Any, values: dict[tuple[str, int, int], Any]) -> Any:
    if isinstance(structure, (list, tuple)):
        return type(structure)(_read(item, values) for item in structure)
    if not isinstance(structure, dict):
        return structure
    kind, config = structure.get("class_name"), structure.get("config", {})
    if kind == TENSOR:
        return values[tuple(config["keras_history"])]
    if kind == "__tuple__":
        return tuple(_read(config["items"], values))
    if kind == "__tensor__":
        return torch.tensor(config["value"], dtype=getattr(torch, config["dtype"]))
    if kind == "__slice__":
        return slice(config["start"], config["stop"], config["step"])
    if kind == "__ellipsis__":
        return Ellipsis
    if kind == "__torch_dtype__":
        return getattr(torch, config["name"])
    if "class_name" in structure and "config" in structure:
        return deserialize_keras_object(structure)
    return {key: _read(item, values) for key, item in structure.items()}


def _call(target: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    if isinstance(target, (Layer, Operation, functools.partial)):  # functions of `ops` record themselves
        return target(*args, **kwargs)
    return record(target, tuple(args), kwargs)


def _triples(structure: Any) -> list[tuple[str, int, int]]:
    """Returns all `[layer, call, output]` in a nest."""
    if isinstance(structure, dict):
        return [found for item in structure.values() for found in _triples(item)]
    if len(structure) == 3 and isinstance(structure[0], str) and isinstance(structure[1], int):
        return [tuple(structure)]
    return [found for item in structure for found in _triples(item)]


def _ends(structure: Any, values: dict[tuple[str, int, int], Any]) -> Any:
    """Replaces `[layer, call, output]` in a nest by the tensors."""
    if isinstance(structure, dict):
        return {key: _ends(item, values) for key, item in structure.items()}
    if len(structure) == 3 and isinstance(structure[0], str) and isinstance(structure[1], int):
        return values[tuple(structure)]
    return type(structure)(_ends(item, values) for item in structure)


class Operations:
    """Descriptor of the layers and `Operation` objects of a model's graph, in order. A model may set its own attribute."""

    def __get__(self, model: Any, owner: type) -> Any:
        if model is None:
            return self
        model.follow_children()
        if model.graph is None:
            raise AttributeError("Only functional models have operations.")
        return list(model.graph.operations)


class HasGraphConfig(nn.Module):
    """Mixin of a model's methods for its graph: operations, shapes and config."""

    operations = Operations()
    graph: Graph | None = None
    name: str
    trainable: bool

    def _unpack(self, inputs: Any) -> list[Any]:
        """Returns the inputs of a call as a flat list, in the order of the graph's inputs."""
        raise NotImplementedError

    def follow_children(self) -> None:
        """Makes the graph call the current children."""
        raise NotImplementedError

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the outputs' shapes for a nest of input shapes; layers with hooks for output shapes are not run."""
        self.follow_children()
        if self.graph is None:
            return super().compute_output_shape(input_shape)  # type: ignore[misc]
        given = self._unpack(tree.map_structure(lambda leaf: SymbolicTensor(leaf.sizes), as_leaves(input_shape)))
        dtypes = [self.graph.specs[ref.index].dtype for ref in tree.flatten(self.graph.inputs)]
        inputs = [SymbolicTensor(tensor.shape, dtype) for tensor, dtype in zip(given, dtypes, strict=True)]
        with uncounted_calls(self):
            return tree.map_structure(lambda tensor: tensor.shape, _replayed(self, inputs))

    def get_config(self) -> dict[str, Any]:
        """Returns the graph as plain data, for `from_config`; for classes with their own constructor, its arguments.

        Raises: TypeError: if a layer or function in it has no config.
        """
        self.follow_children()
        if self.graph is None or not takes_graph(type(self)):
            config: dict[str, Any] = super().get_config()  # type: ignore[misc]
            if extended_class(type(self)) is not None:  # what a user's constructor builds by itself
                config = {key: value for key, value in config.items() if key not in ("inputs", "outputs", "layers")}
            return config
        return {"name": self.name, "trainable": self.trainable, **to_config(self.graph)}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Any:
        """Returns a model with new weights for a `get_config` dict.

        Args:
            custom_objects: `{name: class or function}` of your own that it refers to.
        Raises: ValueError: if the config names a class or function that is neither public nor registered by the user.
        """
        with custom_object_scope(custom_objects):
            if not ({"layers", "input_layers", "output_layers"} <= config.keys() and takes_graph(cls)):
                return super().from_config(config)  # type: ignore[misc]
            with budget.in_force(config):
                inputs, outputs = from_config(config)
                return cls(inputs, outputs, name=config.get("name"), trainable=config.get("trainable", True))


def _replayed(model: Any, inputs: list[SymbolicTensor]) -> Any:
    """Returns the symbolic outputs of a model's graph, layer by layer, including nested models."""

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        is_graph = isinstance(layer, HasGraphConfig) and layer.graph is not None
        if is_graph and not any(is_users(layer, name) for name in ("call", *HOOKS)) and len(args) == 1 and not kwargs:
            return _replayed(layer, layer._unpack(args[0]))
        return layer(*args, **kwargs)

    return replay(model.graph, inputs, call_layer=call)


def takes_graph(cls: type) -> bool:
    """Returns whether a class of models can be made of inputs and outputs, that is, its constructor passes on all arguments."""
    spec = inspect.getfullargspec(cls.__init__)  # type: ignore[misc]
    return spec.args[1:4] == ["inputs", "outputs", "name"] or bool(spec.varargs and spec.varkw)
