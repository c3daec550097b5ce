"""A graph -> plain Python: `dense = call(modules["dense"], x)`, one line a call, nothing interpreted at run time.

No text of a name or key enters the code unless it is an ordinary identifier; everything else is bound by reference.
"""

from __future__ import annotations

import builtins
import itertools
import keyword
import linecache
import re
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from kstyle_torch import tree
from kstyle_torch.registry import snake_case
from kstyle_torch.symbolic.graph import Call, Graph, Ref

IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z", re.ASCII)
OPERATORS = {
    "__add__": "{} + {}",
    "__sub__": "{} - {}",
    "__mul__": "{} * {}",
    "__truediv__": "{} / {}",
    "__matmul__": "{} @ {}",
    "__pow__": "{} ** {}",
}
_numbers = itertools.count()
call_it = nn.Module.__call__


class Emitter:
    """Writes the forward function of one graph.

    Args:
        graph: What to run.
        keys: Module id -> its key among the model's children.
        adapt: `adapt(model, x, position)` brings an input to the shape and dtype that the graph was made for.
        direct: Module id -> a function that does what its call does where no hook listens; None if there is nothing to do.
    """

    def __init__(
        self,
        graph: Graph,
        keys: dict[int, str],
        adapt: Callable[..., Any],
        direct: dict[int, Callable[..., Any] | None] | None = None,
    ):
        self.graph, self.keys, self.direct = graph, keys, direct or {}
        self.namespace: dict[str, Any] = {"call": call_it, "adapt": adapt, "Tensor": Tensor, "torch": torch}
        self.names: dict[int, str] = {}  # value -> its variable
        self.taken = {"forward", "self", "inputs", "modules", "unpack", *self.namespace, *dir(builtins)}
        self.lines: list[str] = []

    def emit(self, unpack: Callable[[Any, Any], list[Any]], checks: list[str]) -> tuple[Callable[..., Any], str]:
        """The function and its source.

        Args:
            unpack: `unpack(model, inputs)` makes a flat list of whatever nest of inputs the caller passes.
            checks: For every input, an expression over `{}` that is true where it must be adapted.
        """
        self._take_inputs(unpack, checks)
        last_use = self._last_uses()
        for position, call in enumerate(self.graph.calls):
            self._write_call(call)
            dead = sorted(self.names[index] for index, last in last_use.items() if last == position)
            if dead:
                self.lines.append(f"del {', '.join(dead)}")
        self._write_masks()
        self.lines.append(f"return {self._render(self.graph.outputs)}")
        source = "def forward(self, inputs):\n" + "".join(f"    {line}\n" for line in self.lines)
        return self._compile(source), source

    def _take_inputs(self, unpack: Callable[[Any, Any], list[Any]], checks: list[str]) -> None:
        self.namespace["unpack"] = unpack
        variables = []
        for ref in tree.flatten(self.graph.inputs):
            variables.append(self._fresh("x"))
            self.names[ref.index] = variables[-1]
        self.lines.append("modules = self._modules")
        if isinstance(self.graph.inputs, Ref):
            self.lines.append(f"{variables[0]} = inputs if type(inputs) is Tensor else unpack(self, inputs)[0]")
        else:
            self.lines.append(f"{', '.join(variables)}, = unpack(self, inputs)")
        for position, (variable, check) in enumerate(zip(variables, checks, strict=True)):
            if check:
                self.lines.append(f"if {check.format(variable)}: {variable} = adapt(self, {variable}, {position})")
            if self.direct.get(id(self.graph.sources[position]), call_it) is not None:
                self.lines.append(f"{variable} = call({self._module(self.graph.sources[position])}, {variable})")

    def _write_call(self, call: Call) -> None:
        for tensor, mask in call.tags:
            self.lines.append(f"{self.names[tensor.index]}._keras_mask = {self.names[mask.index]}")
        args = [self._render(arg) for arg in call.args]
        kwargs = [f"{self._keyword(name)}={self._render(value)}" for name, value in call.kwargs.items()]
        name = getattr(call.target, "__name__", type(call.target).__name__)
        if isinstance(call.target, nn.Module):
            module = self._module(call.target)
            name = self.keys[id(call.target)]
            if "training" in call.kwargs:  # with it, the layer switches mode and back
                value = f"{module}({', '.join(args + kwargs)})"
            elif function := self.direct.get(id(call.target)):
                value = f"{self._bind(name, function)}({', '.join(args + kwargs)})"
            else:
                value = f"call({', '.join([module, *args, *kwargs])})"
        elif name in OPERATORS and len(args) == 2 and not kwargs:
            value = OPERATORS[name].format(*args)
            name = name.strip("_")
        else:
            value = f"{self._bind(name, call.target)}({', '.join(args + kwargs)})"
        self._assign(name, call.outputs, value)

    def _assign(self, name: str, outputs: Any, value: str) -> None:
        variable = self._fresh(name)
        self.lines.append(f"{variable} = {value}")
        if isinstance(outputs, Ref):
            self.names[outputs.index] = variable
            return
        for path, ref in _paths(outputs):
            part = self._fresh(name)
            self.names[ref.index] = part
            self.lines.append(f"{part} = {variable}{''.join(f'[{self._render(step)}]' for step in path)}")

    def _write_masks(self) -> None:
        for output, mask in zip(tree.flatten(self.graph.outputs), self.graph.masks, strict=True):
            if mask is not None:
                self.lines.append(f"{self.names[output.index]}._keras_mask = {self.names[mask.index]}")

    def _last_uses(self) -> dict[int, int]:
        """Which call reads each value last, for the values that nobody needs afterwards."""
        kept = {ref.index for ref in tree.flatten((self.graph.outputs, self.graph.masks)) if isinstance(ref, Ref)}
        last = {ref.index: position for position, call in enumerate(self.graph.calls) for ref in call.reads()}
        return {index: position for index, position in last.items() if index not in kept}

    def _module(self, module: nn.Module) -> str:
        key = self.keys[id(module)]
        return f'modules["{key}"]' if IDENTIFIER.match(key) else f"modules[{self._bind('key', key)}]"

    def _render(self, value: Any) -> str:
        if isinstance(value, Ref):
            return self.names[value.index]
        if type(value) in (bool, int, type(None)) or (type(value) is float and repr(value)[-1].isdigit()):
            return repr(value)
        if isinstance(value, tuple):
            items = f"({''.join(self._render(item) + ', ' for item in value)})"
            if type(value) is tuple:
                return items
            kind = self._bind(type(value).__name__, type(value))  # a named tuple, or one of torch.return_types
            return f"{kind}(*{items})" if hasattr(value, "_fields") else f"{kind}({items})"
        if type(value) is list:
            return f"[{', '.join(map(self._render, value))}]"
        if type(value) is dict:
            return f"{{{', '.join(f'{self._render(key)}: {self._render(item)}' for key, item in value.items())}}}"
        if type(value) is slice:
            return f"slice({', '.join(map(self._render, (value.start, value.stop, value.step)))})"
        return self._bind("constant", value)

    def _keyword(self, name: str) -> str:
        if not IDENTIFIER.match(name) or keyword.iskeyword(name):
            raise ValueError(f"{name!r} cannot be the name of a keyword argument in a graph.")
        return name

    def _bind(self, name: str, value: Any) -> str:
        """A name of our own for an object, in the function's globals."""
        for bound, known in self.namespace.items():
            if known is value:
                return bound
        bound = self._fresh(name)
        self.namespace[bound] = value
        return bound

    def _fresh(self, wish: str) -> str:
        base = snake_case(re.sub(r"[^A-Za-z0-9_]", "_", wish)).strip("_") or "value"
        base = f"_{base}" if base[0].isdigit() else base
        names = itertools.chain([base], (f"{base}_{number}" for number in itertools.count(1)))
        name = next(name for name in names if name not in self.taken and not keyword.iskeyword(name))
        self.taken.add(name)
        return name

    def _compile(self, source: str) -> Callable[..., Any]:
        filename = f"<kstyle_torch model {next(_numbers)}>"
        linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)  # tracebacks show it
        namespace = dict(self.namespace)
        exec(compile(source, filename, "exec"), namespace)
        forward = namespace.pop("forward")  # which would refer to itself, and hold the model's layers, for ever
        weakref.finalize(forward, linecache.cache.pop, filename, None)
        return forward


def _paths(outputs: Any, path: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], Ref]]:
    if isinstance(outputs, Ref):
        return [(path, outputs)]
    items = outputs.items() if isinstance(outputs, dict) else enumerate(outputs) if tree.is_nested(outputs) else ()
    return [found for key, item in items for found in _paths(item, (*path, key))]
