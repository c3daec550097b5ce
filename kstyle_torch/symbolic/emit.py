"""Generation of Python code from a graph: `dense = call(modules[key], x)`, one line per call, without an interpreter.

Names and keys that users or files choose stay out of the code: keys of modules are bound by reference, and variables are
named after the class or function that makes their value, and numbered. Only keyword arguments appear as they are, where
`FunctionWriter.call` finds them to be ASCII identifiers: passing them in a dict would slow every call down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from kstyle_torch import tree
from kstyle_torch.codegen.function_writer import FunctionWriter
from kstyle_torch.symbolic.graph import Call, Graph, Ref

OPERATORS = {
    "add": (Tensor.__add__, "{} + {}"),
    "sub": (Tensor.__sub__, "{} - {}"),
    "mul": (Tensor.__mul__, "{} * {}"),
    "truediv": (Tensor.__truediv__, "{} / {}"),
    "matmul": (Tensor.__matmul__, "{} @ {}"),
    "pow": (Tensor.__pow__, "{} ** {}"),
}
BY_ID = {
    id(function): (name, code) for name, (function, code) in OPERATORS.items()
}  # users' functions may have the same names
CALL = "Module.__call__"  # looked up in each call, since users may replace it


class Emitter:
    """Writer of the forward function of one graph.

    Args:
        graph: The graph to write.
        keys: Module id -> its key among the model's children.
        adapt: `adapt(model, x, position)` converts an input to the shape and dtype that the graph was made for.
        direct: Module id -> a function that equals its call without hooks; None to skip the call.
        calls: Class of modules -> the function by which they are called; `nn.Module.__call__` for others.
    """

    def __init__(
        self,
        graph: Graph,
        keys: dict[int, str],
        adapt: Callable[..., Any],
        direct: dict[int, Callable[..., Any] | None] | None = None,
        calls: dict[Any, Callable[..., Any]] | None = None,
    ):
        self.graph, self.keys, self.direct, self.calls = graph, keys, direct or {}, calls or {}
        names = {"Module": nn.Module, "adapt": adapt, "Tensor": Tensor, "torch": torch}  # the input checks use `torch`
        self.writer = FunctionWriter("forward", ("self", "inputs"), "model", names)
        self.names: dict[int, str] = {}  # value -> its variable

    def emit(self, unpack: Callable[[Any, Any], list[Any]], checks: list[str]) -> tuple[Callable[..., Any], str]:
        """Returns the function and its source.

        Args:
            unpack: `unpack(model, inputs)` flattens the nest of inputs that the caller passes.
            checks: For each input, an expression with `{}` for the tensor that is true if it must be adapted.
        """
        self._take_inputs(unpack, checks)
        for call in self.graph.calls:
            self._write_call(call)
        outputs, masks = self.graph.outputs, self.graph.masks
        kept = [ref for ref in tree.flatten((outputs, masks)) if isinstance(ref, Ref)]
        for output, mask in zip(tree.flatten(outputs), masks, strict=True):
            if mask is not None:
                self._tag(output, mask)
        return self.writer.finish(self._value(outputs), self._variables(kept))

    def _take_inputs(self, unpack: Callable[[Any, Any], list[Any]], checks: list[str]) -> None:
        self.modules, take = self.writer.variable("modules"), self.writer.bind(unpack, "unpack")
        variables = []
        for ref in tree.flatten(self.graph.inputs):
            variables.append(self.writer.variable("x"))
            self.names[ref.index] = variables[-1]
        self.writer.write(f"{self.modules} = self._modules")  # never deleted, since it is not a tensor
        if isinstance(self.graph.inputs, Ref):
            code = f"{variables[0]} = inputs if type(inputs) is Tensor else {take}(self, inputs)[0]"
        else:
            code = f"{', '.join(variables)}, = {take}(self, inputs)"
        self.writer.write(code, assigns=variables)
        for position, (variable, check) in enumerate(zip(variables, checks, strict=True)):
            if check:
                code = f"if {check.format(variable)}: {variable} = adapt(self, {variable}, {position})"
                self.writer.write(code, [variable], [variable])
            if self.direct.get(id(self.graph.sources[position]), CALL) is not None:
                code = f"{variable} = {CALL}({self._module(self.graph.sources[position])}, {variable})"
                self.writer.write(code, [variable], [variable])

    def _write_call(self, call: Call) -> None:
        for tensor, mask in call.tags:
            self._tag(tensor, mask)
        args = [self._value(arg) for arg in call.args]
        kwargs = {name: self._value(value) for name, value in call.kwargs.items()}
        if isinstance(call.target, nn.Module):
            name, module = type(call.target).__name__, self._module(call.target)
            if "training" in call.kwargs:  # the layer's own __call__ sets the mode and restores it
                code = self.writer.call(module, args, kwargs)
            elif function := self.direct.get(id(call.target)):
                code = self.writer.call(self.writer.bind(function, name), args, kwargs)
            elif call_module := self.calls.get(type(call.target)):
                code = self.writer.call(self.writer.bind(call_module, "call"), [module, *args], kwargs)
            else:
                code = self.writer.call(CALL, [module, *args], kwargs)
        elif id(call.target) in BY_ID and len(args) == 2 and not kwargs:
            name, operation = BY_ID[id(call.target)]
            code = operation.format(*args)
        else:
            name = getattr(call.target, "__name__", type(call.target).__name__)
            code = self.writer.call(self.writer.bind(call.target, name), args, kwargs)
        self._assign(name, call.outputs, code, self._variables(call.reads()))

    def _assign(self, name: str, outputs: Any, code: str, reads: list[str]) -> None:
        variable = self.writer.variable(name)
        self.writer.write(f"{variable} = {code}", reads, [variable])
        if isinstance(outputs, Ref):
            self.names[outputs.index] = variable
            return
        for path, ref in _paths(outputs):
            part = self.names[ref.index] = self.writer.variable(name)
            code = f"{part} = {variable}{''.join(f'[{self._value(step)}]' for step in path)}"
            self.writer.write(code, [variable], [part])

    def _tag(self, tensor: Ref, mask: Ref) -> None:
        tensor_name, mask_name = self._variables([tensor, mask])
        self.writer.write(f"{tensor_name}._keras_mask = {mask_name}", [tensor_name, mask_name])

    def _module(self, module: nn.Module) -> str:
        return f"{self.modules}[{self.writer.bind(self.keys[id(module)], 'key')}]"

    def _value(self, value: Any) -> str:
        return self.writer.value(value, lambda leaf: self.names[leaf.index] if isinstance(leaf, Ref) else None)

    def _variables(self, refs: Iterable[Ref]) -> list[str]:
        return [self.names[ref.index] for ref in refs]


def _paths(outputs: Any, path: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], Ref]]:
    if isinstance(outputs, Ref):
        return [(path, outputs)]
    items = outputs.items() if isinstance(outputs, dict) else enumerate(outputs) if tree.is_nested(outputs) else ()
    return [found for key, item in items for found in _paths(item, (*path, key))]
