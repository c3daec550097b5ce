"""Recording of a training step: its torch calls as straight-line Python, which runs without autograd.

A step runs once under a `TorchDispatchMode`. Its operator calls, backward pass included, become a function of the batch
that calls no module and builds no autograd graph. `FunctionWriter` removes dead calls and frees each tensor after its last
use.
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

UNRECORDABLE = "aten._local_scalar_dense"  # returns a value to Python
UNRECORDABLE_TAGS = (torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output)
ALIASES = ("aten.detach.default", "aten.alias.default", "aten.lift_fresh.default")
BINDINGS: tuple[Any, ...] = (TENSOR_FUNCTIONS, NN_FUNCTIONS, TENSOR_METHODS)
MAX_BYTES = 256 * 2**20  # held while recording; in steps that are larger, the overhead of calls is negligible
ORDINARY: tuple[type, ...] = (Tensor, torch.nn.Parameter)
OPERATOR_ERRORS = (RuntimeError, TypeError, ValueError, IndexError)  # raised by operators for an unsuitable batch
TO_PYTHON = (Tensor.tolist, Tensor.numpy, Tensor.__array__, Tensor.__dlpack__)  # these call no operator


class CannotRecordError(Exception):
    """Error of a step that cannot be recorded, with the reason as its message."""


class Call(NamedTuple):
    """One call of a torch operator."""

    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any


class Recorder(LightDispatchMode):
    """Dispatch mode that records every operator call, and keeps all tensors alive, so that their ids are unique."""

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
        """True if the tensors exceeded `MAX_BYTES`; the recorded calls are dropped then."""
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
    """Function mode that detects values read by Python without an operator, since Python may branch on them."""

    def __init__(self) -> None:
        super().__init__()
        self.met = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.met = self.met or func in TO_PYTHON
        return func(*args, **(kwargs or {}))


def _rnn_layer(*args: Any) -> Any:
    """Calls the CPU's fused LSTM, which saves the tensors for its backward pass only while gradients are enabled."""
    with torch.enable_grad():
        return torch.ops.aten.mkldnn_rnn_layer(*[arg.detach() if isinstance(arg, Tensor) else arg for arg in args])


KEEPING = {"aten.mkldnn_rnn_layer.default": _rnn_layer}


class RecordingWriter:
    """Writer of the function of a recorded step.

    Args:
        inputs: The tensors of the batch, in the order of the function's parameters.
        state: Parameters and buffers, which the function reads and changes in place.
        constants: Tensors that never change.
        generators: Random generators that the step may use beside torch's default ones.
    """

    def __init__(
        self,
        inputs: list[Tensor],
        state: Iterable[Tensor],
        constants: Iterable[Tensor],
        generators: Iterable[torch.Generator] = (),
    ):
        # by address: operator calls receive a new Python object for the same generator
        self.generators = {generator_address(each): each for each in generators}
        parameters = [f"a{position}" for position in range(len(inputs))]
        self.writer = FunctionWriter("step", parameters, "step")
        self.names = {id(tensor): name for tensor, name in zip(inputs, parameters, strict=True)}
        self.state = {id(tensor): tensor for tensor in state}
        self.fixed = {id(tensor): tensor for tensor in constants}  # values known at recording time that never change
        self.transposed: dict[str, str] = {}

    def write(self, calls: list[Call], outputs: list[Any]) -> tuple[Callable[..., Any], str]:
        """Returns the function `batch -> outputs` (tensors, None, or lists of them), and its source.

        Raises: CannotRecordError: if a call depends on anything but the batch, state and constants.
        """
        for call in calls:
            self._take(call)
        reads: list[str] = []
        return self.writer.finish(self._render(outputs, reads), reads)

    def _take(self, call: Call) -> None:
        function, args, kwargs, result = call
        name = str(function)
        if name.startswith(UNRECORDABLE) or (
            any(tag in UNRECORDABLE_TAGS for tag in function.tags) and not _picks(name, args)
        ):
            raise CannotRecordError(f"{name} depends on values, not only on shapes")
        if name in ALIASES and self._known(args[0], name):
            self._alias(result, args[0])
            return
        must_run = schema_of(function).is_mutable or torch.Tag.nondeterministic_seeded in function.tags
        tensors = list(tensors_in((args, kwargs)))
        if not tensors and not must_run and not any(True for _ in tensors_in(result)):
            return  # a query of dtypes: its result is constant
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
        if name == "aten.lift_fresh.default":  # torch.tensor(...) of literals in the code
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
        ):  # whose defaults differ from the operator's
            args = (*args, *[each.default_value for each in positional(function)[len(args) :]])
        values = [self._render(value, reads) for value in args]
        named = {key: self._render(value, reads) for key, value in kwargs.items()}
        code = self.writer.call(self.writer.bind(run, "c"), values, named)
        if isinstance(result, (bool, int, float)):
            raise CannotRecordError(f"{base_name(function)} returns a {type(result).__name__} to Python")
        parts = list(result) if isinstance(result, (tuple, list)) else [result]
        targets = [self._target(part) for part in parts]
        if isinstance(result, (tuple, list)):
            code = f"{', '.join(targets)}{',' * (len(targets) == 1)} = {code}" if targets else code
        elif targets != ["_"]:
            code = f"{targets[0]} = {code}"
        self.writer.write(code, reads, targets, optional=not must_run)

    def _target(self, part: Any) -> str:
        """Returns the variable for a result; `_` for None, and for tensors changed in place, which have one already.

        Integers among the results, such as the sequence length that attention kernels on CUDA return, depend on shapes
        alone, since operators that depend on values carry a tag. They appear as literals where they are used.
        """
        if type(part) is int or part is None or (isinstance(part, Tensor) and self._has_name(part)):
            return "_"
        if not isinstance(part, Tensor):
            raise CannotRecordError(f"a call returns a {type(part).__name__} to Python")
        if part.layout is not torch.strided or type(part) not in ORDINARY:
            raise CannotRecordError(f"a call returns a {part.layout} {type(part).__name__}")
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
            return self._render([*value], reads)  # operators take lists for all sequences
        if isinstance(value, torch.Generator):
            if generator_address(value) not in self.generators:
                raise CannotRecordError("a random generator is used that is not an attribute of a layer")
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
    """Returns the positional arguments of an operator's schema."""
    return [argument for argument in schema_of(function).arguments if not argument.kwarg_only]


def binding_of(function: Any) -> Any:
    """Returns the fastest callable for an operator: its Python binding, which parses arguments faster, if there is one."""
    if function is torch.ops.aten.binary_cross_entropy.default:
        return safe_kernel  # used by the losses too: it accepts values for which the operator raises
    if function.namespace == "aten" and not str(function).endswith("out"):
        for home in BINDINGS:
            if hasattr(home, base_name(function)):
                return getattr(home, base_name(function))
    return plain_operator(function)


def written_by(function: Any, args: Any, kwargs: Any) -> Iterator[Tensor]:
    """Yields the arguments that a call changes in place."""
    for place, argument in enumerate(schema_of(function).arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield from tensors_in(args[place] if place < len(args) else kwargs.get(argument.name))


def _picks(name: str, args: Any) -> bool:
    """Returns whether a call indexes with integers, so that its output shape is known, rather than with a boolean mask."""
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
