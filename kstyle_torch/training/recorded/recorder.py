"""The tape: the torch calls of one training step, written down as straight-line Python and run again without autograd.

A step runs once under a `TorchDispatchMode`. What it called, backward pass included, becomes a function of the batch: no
module is called and no graph is built when it runs. `FunctionWriter` leaves out what nothing reads, and frees each tensor
after its last use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from kstyle_torch._torch import (
    NN_FUNCTIONS,
    TENSOR_FUNCTIONS,
    TENSOR_METHODS,
    LightDispatchMode,
    generator_address,
    plain_operator,
    schema_of,
)
from kstyle_torch.codegen.function_writer import FunctionWriter
from kstyle_torch.ops.safe_binary_crossentropy import safe_kernel

UNTAPED = "aten._local_scalar_dense"  # brings data to Python
UNTAPED_TAGS = (torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output)
ALIASES = ("aten.detach.default", "aten.alias.default", "aten.lift_fresh.default")
BINDINGS: tuple[Any, ...] = (TENSOR_FUNCTIONS, NN_FUNCTIONS, TENSOR_METHODS)
MAX_BYTES = 256 * 2**20  # kept at once while recording; where steps are that large, calls cost nothing beside them
ORDINARY: tuple[type, ...] = (Tensor, torch.nn.Parameter)
OPERATOR_ERRORS = (RuntimeError, TypeError, ValueError, IndexError)  # of operators that a batch does not fit
TO_PYTHON = (Tensor.tolist, Tensor.numpy, Tensor.__array__, Tensor.__dlpack__)  # no operator is called for these


class CannotRecordError(Exception):
    """Error of a step that cannot be recorded; its message says why."""


class Call(NamedTuple):
    """One call of a torch operator."""

    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any


class Recorder(LightDispatchMode):
    """Notes every call of a torch operator while it is entered, and keeps all tensors, so that each has its own id."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.num_bytes = 0
        self.reads = HostReads()

    def __enter__(self) -> Any:
        self.reads.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.reads.__exit__(*error)

    @property
    def is_full(self) -> bool:
        """True if the tensors became too many to be kept; then there are no calls."""
        return self.num_bytes > MAX_BYTES

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.num_bytes += sum(tensor.nbytes for tensor in tensors_in(result) if tensor.layout is torch.strided)
        if self.is_full:
            self.calls.clear()
        else:
            self.calls.append(Call(func, args, kwargs or {}, result))
        return result


class HostReads(TorchFunctionMode):
    """Notes whether numbers are brought to Python past the operators, where they may decide what is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.met = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.met = self.met or func in TO_PYTHON
        return func(*args, **(kwargs or {}))


def _rnn_layer(*args: Any) -> Any:
    """Returns the CPU's fused LSTM, which keeps what its backward pass needs only while gradients are switched on."""
    with torch.enable_grad():
        return torch.ops.aten.mkldnn_rnn_layer(*[arg.detach() if isinstance(arg, Tensor) else arg for arg in args])


KEEPING = {"aten.mkldnn_rnn_layer.default": _rnn_layer}


class TapeWriter:
    """Writes the function of a recorded step.

    Args:
        inputs: The tensors of the batch, in the order in which the function takes them.
        state: Parameters and buffers, which it reads and changes where they are.
        constants: Tensors that never change.
        generators: Those that may draw, beside torch's own.
    """

    def __init__(
        self,
        inputs: list[Tensor],
        state: Iterable[Tensor],
        constants: Iterable[Tensor],
        generators: Iterable[torch.Generator] = (),
    ):
        # by address, since a call sees another object for the same generator
        self.generators = {generator_address(each): each for each in generators}
        parameters = [f"a{position}" for position in range(len(inputs))]
        self.writer = FunctionWriter("step", parameters, "step")
        self.names = {id(tensor): name for tensor, name in zip(inputs, parameters, strict=True)}
        self.state = {id(tensor): tensor for tensor in state}
        self.fixed = {id(tensor): tensor for tensor in constants}  # known when writing, and unchanged ever after
        self.transposed: dict[str, str] = {}

    def write(self, calls: list[Call], outputs: list[Any]) -> tuple[Callable[..., Any], str]:
        """Returns the function `batch -> outputs` (tensors, None, or lists of them), and its source.

        Raises: CannotRecordError: if a call does not depend on the batch, the state and constants alone.
        """
        for call in calls:
            self._take(call)
        reads: list[str] = []
        return self.writer.finish(self._render(outputs, reads), reads)

    def _take(self, call: Call) -> None:
        function, args, kwargs, result = call
        name = str(function)
        if name.startswith(UNTAPED) or (any(tag in UNTAPED_TAGS for tag in function.tags) and not _picks(name, args)):
            raise CannotRecordError(f"{name} depends on values, not only on shapes")
        if name in ALIASES and self._known(args[0], name):
            self._alias(result, args[0])
            return
        must_run = schema_of(function).is_mutable or torch.Tag.nondeterministic_seeded in function.tags
        tensors = list(tensors_in((args, kwargs)))
        if not tensors and not must_run and not any(True for _ in tensors_in(result)):
            return  # a question about dtypes, answered once
        is_number = isinstance(result, Tensor) and result.dim() == 0
        if not must_run and (tensors or is_number) and all(id(tensor) in self.fixed for tensor in tensors):
            self.fixed.update((id(tensor), tensor) for tensor in tensors_in(result))
            return
        if must_run and any(id(tensor) in self.fixed for tensor in written_by(function, args, kwargs)):
            raise CannotRecordError(f"{name} may change a constant")
        if name == "aten.t.default" and (base := self.transposed.get(self.names.get(id(args[0]), ""))) is not None:
            self.names[id(result)] = base
            return
        self._write(function, args, kwargs, result, must_run)
        if name == "aten.t.default":
            self.transposed[self.names[id(result)]] = self._render(args[0], [])

    def _known(self, tensor: Tensor, name: str) -> bool:
        if id(tensor) in self.names or id(tensor) in self.state or id(tensor) in self.fixed:
            return True
        if name == "aten.lift_fresh.default":  # torch.tensor(...) of numbers in the code
            self.fixed[id(tensor)] = tensor
            return True
        return False

    def _alias(self, result: Tensor, tensor: Tensor) -> None:
        tables: tuple[dict[int, Any], ...] = (self.names, self.state, self.fixed)
        for table in tables:
            if id(tensor) in table:
                table[id(result)] = table[id(tensor)]

    def _write(self, function: Any, args: Any, kwargs: Any, result: Any, must_run: bool) -> None:
        reads: list[str] = []
        run = KEEPING.get(str(function)) or binding_of(function)
        if run is safe_kernel or hasattr(
            NN_FUNCTIONS, base_name(function)
        ):  # these have defaults of their own, or none
            args = (*args, *[each.default_value for each in positional(function)[len(args) :]])
        values = [self._render(value, reads) for value in args]
        named = {key: self._render(value, reads) for key, value in kwargs.items()}
        code = self.writer.call(self.writer.bind(run, "c"), values, named)
        if isinstance(result, (bool, int, float)):
            raise CannotRecordError(f"{base_name(function)} gives a {type(result).__name__} to Python")
        parts = list(result) if isinstance(result, (tuple, list)) else [result]
        targets = [self._target(part) for part in parts]
        if isinstance(result, (tuple, list)):
            code = f"{', '.join(targets)}{',' * (len(targets) == 1)} = {code}" if targets else code
        elif targets != ["_"]:
            code = f"{targets[0]} = {code}"
        self.writer.write(code, reads, targets, optional=not must_run)

    def _target(self, part: Any) -> str:
        """Returns the variable that a result goes to; `_` for none, or for what has a name already (changed in place).

        Numbers among the results, such as the length that an attention kernel on CUDA found, depend on shapes only: what
        depends on values has a tag. They are written down where they are used.
        """
        if type(part) is int or part is None or (isinstance(part, Tensor) and self._has_name(part)):
            return "_"
        if not isinstance(part, Tensor):
            raise CannotRecordError(f"a call gives a {type(part).__name__} to Python")
        if part.layout is not torch.strided or type(part) not in ORDINARY:
            raise CannotRecordError(f"a call gives a {part.layout} {type(part).__name__}")
        name = self.names[id(part)] = self.writer.variable("v")
        return name

    def _has_name(self, tensor: Tensor) -> bool:
        return id(tensor) in self.names or id(tensor) in self.state

    def _render(self, value: Any, reads: list[str]) -> str:
        return self.writer.value(value, lambda each: self._leaf(each, reads))

    def _leaf(self, value: Any, reads: list[str]) -> str | None:
        if isinstance(value, Tensor):
            return self._tensor(value, reads)
        if isinstance(value, (list, tuple)) and type(value) is not list:
            return self._render([*value], reads)  # operators take a list for each kind of sequence
        if isinstance(value, torch.Generator):
            if generator_address(value) not in self.generators:
                raise CannotRecordError("a random generator is used that is no attribute of a layer")
            return self.writer.bind(self.generators[generator_address(value)], "c")
        return None

    def _tensor(self, tensor: Tensor, reads: list[str]) -> str:
        if id(tensor) in self.names:
            reads.append(self.names[id(tensor)])
            return self.names[id(tensor)]
        if id(tensor) in self.state:
            return self.writer.bind(self.state[id(tensor)], "c")
        if id(tensor) in self.fixed:
            return self.writer.bind(self.fixed[id(tensor)], "c")
        raise CannotRecordError(f"a tensor of shape {tuple(tensor.shape)} comes from outside the step")


def base_name(function: Any) -> str:
    """Returns an operator's name without its namespace and overload."""
    name: str = schema_of(function).name
    return name.split("::")[1]


def positional(function: Any) -> list[Any]:
    """Returns the arguments of an operator that may be given by position."""
    return [argument for argument in schema_of(function).arguments if not argument.kwarg_only]


def binding_of(function: Any) -> Any:
    """Returns what runs an operator with the least ado: its binding in Python, which reads its arguments more quickly."""
    if function is torch.ops.aten.binary_cross_entropy.default:
        return safe_kernel  # the losses take it, and go on where it would fail
    if function.namespace == "aten" and not str(function).endswith("out"):
        for home in BINDINGS:
            if hasattr(home, base_name(function)):
                return getattr(home, base_name(function))
    return plain_operator(function)


def written_by(function: Any, args: Any, kwargs: Any) -> Iterator[Tensor]:
    """Yields the tensors among a call's arguments that it changes."""
    for place, argument in enumerate(schema_of(function).arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield from tensors_in(args[place] if place < len(args) else kwargs.get(argument.name))


def _picks(name: str, args: Any) -> bool:
    """Returns whether a call takes what numbers point to, as many as there are, and not what is true in a mask."""
    return name == "aten.index.Tensor" and all(
        index.dtype in (torch.int64, torch.int32) for index in tensors_in(args[1])
    )


def tensors_in(structure: Any) -> Iterator[Tensor]:
    """Yields the tensors in a call's arguments or result."""
    if isinstance(structure, Tensor):
        yield structure
    elif isinstance(structure, (list, tuple)):
        for item in structure:
            yield from tensors_in(item)
    elif isinstance(structure, dict):
        yield from tensors_in(list(structure.values()))
