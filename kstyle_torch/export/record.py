"""Recording of one run of a model: the calls of modules, and the torch functions in each of them.

The run is on fake tensors (shapes without values) with symbolic dynamic sizes, so that the code is valid for any size.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from kstyle_torch import tree
from kstyle_torch._torch import load_fake_tensor_mode, load_python_dispatcher, why_missing
from kstyle_torch.export.signature import Signature
from kstyle_torch.mode import in_mode
from kstyle_torch.symbolic.infer import untouched

ROWS, OPEN_SIZE = 6, 64  # hints for dynamic sizes; equal ones would become one symbol, so each axis gets its own
FUSED = ("lstm", "gru", "rnn_tanh", "rnn_relu")


@dataclass(frozen=True, slots=True)
class Ref:
    """Reference to a tensor of the run."""

    key: int


@dataclass(slots=True, eq=False)
class Step:
    """Call of a torch function or a module; `frame` records the steps in a module that is not torch's own."""

    target: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: Any
    frame: Frame | None = None
    autocast: torch.dtype | None = None
    has_gradient: bool = True


@dataclass(eq=False)
class Frame:
    """One call of a module.

    Args:
        module: The module.
        above: Weak reference to the call that it is part of, which holds this one; None for the model's.
        inputs: Name of each argument with tensors -> its nest.
        steps: The calls in it, in order.
        outputs: Its outputs.
        owned: Keys of the tensors that are arguments or were made here.
        taken: Keys of other tensors that it needs: further arguments.
        given: Keys of tensors made here that others need: further outputs.
    """

    module: nn.Module
    above: weakref.ref[Frame] | None
    inputs: dict[str, Any]
    steps: list[Step] = field(default_factory=list)
    outputs: Any = None
    owned: set[int] = field(default_factory=set)
    taken: list[int] = field(default_factory=list)
    given: list[int] = field(default_factory=list)

    @property
    def parent(self) -> Frame | None:
        """The call that it is part of; None for the model's."""
        return None if self.above is None else self.above()

    @parent.setter
    def parent(self, frame: Frame | None) -> None:
        self.above = None if frame is None else weakref.ref(frame)

    def chain(self) -> list[Frame]:
        """Returns this frame and its parents, up to the model's."""
        return [self, *([] if self.parent is None else self.parent.chain())]


class Recorder(TorchFunctionMode):
    """Recorder of torch functions, in the frame of the module that calls them."""

    def __init__(self, model: nn.Module, native: dict[int, Any], device: str) -> None:
        super().__init__()
        self.device = device
        self.plain = _without_methods(model)
        self.is_native = native  # ids of torch's own modules
        self.tensors: dict[int, Tensor] = {}  # kept alive, so that ids stay unique
        self.makers: dict[int, Frame] = {}  # tensor -> frame that made it
        self.frames: list[Frame] = []  # in the order in which they end
        self.stack: list[Frame] = []
        self.native: list[nn.Module] = []  # torch's own modules that run now

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        plain_args, plain_kwargs = tree.map_structure(lambda leaf: self.plain.get(id(leaf), leaf), (args, kwargs))
        plain_kwargs.pop("generator", None)  # random numbers come from torch's own state
        if name in FUSED:
            outputs = _fused_outputs(name, *plain_args)
        else:
            outputs = func(*plain_args, **plain_kwargs)
        writes = name == "__setitem__"
        if self.stack and not self.native and (writes or any(map(is_tensor, tree.flatten(outputs)))):
            self._add(Step(func, self.refs(args), self.refs(kwargs), self.refs(outputs)))
        return outputs

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Records the call of a module; a forward pre-hook."""
        if self.native or id(module) in self.is_native:
            self.native.append(module)
            return
        frame = Frame(
            module, weakref.ref(self.stack[-1]) if self.stack else None, self.refs(_named(module, args, kwargs))
        )
        frame.owned.update(ref.key for ref in refs_in(frame.inputs))
        if frame.parent is None:
            self.makers.update(dict.fromkeys(frame.owned, frame))
        self.stack.append(frame)

    def leave(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any) -> None:
        """Records the outputs of the call; a forward hook."""
        step = Step(module, self.refs(args), self.refs(kwargs), self.refs(outputs))
        if self.native:
            self.native.pop()
        else:
            step.frame = self.stack.pop()
            step.frame.outputs = step.outputs
            self.frames.append(step.frame)
        if self.stack and not self.native:
            self._add(step)

    def _add(self, step: Step) -> None:
        frame = self.stack[-1]
        frame.steps.append(step)
        step.has_gradient = torch.is_grad_enabled()
        if step.frame is None and torch.is_autocast_enabled(self.device):
            step.autocast = torch.get_autocast_dtype(self.device)
        for ref in refs_in(step.outputs):
            self.makers.setdefault(ref.key, frame)
            frame.owned.add(ref.key)

    def refs(self, structure: Any) -> Any:
        """Keeps the tensors of a nest alive, and replaces them by `Ref`s."""

        def ref(leaf: Any) -> Any:
            if not is_tensor(leaf):
                return leaf
            self.tensors[id(leaf)] = leaf
            return Ref(id(leaf))

        return tree.map_structure(ref, structure)


def record(model: nn.Module, signature: Signature, training: bool, native: dict[int, Any]) -> Recorder:
    """Records a run of the model; `native` has the ids of torch's own modules in it.

    Raises: The errors of the model, and torch's for data-dependent control flow.
    """
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    missing = why_missing("tracing")
    if missing is not None:
        raise RuntimeError(missing)
    recorder, shapes = Recorder(model, native, signature.device.type), ShapeEnv()
    fake = load_fake_tensor_mode()(shape_env=shapes, allow_non_fake_inputs=True)
    inputs = signature.pack([_stand_in(leaf, fake, signature.device) for leaf in signature.leaves])
    with contextlib.ExitStack() as around:
        contexts: list[Any] = [untouched(model), torch.enable_grad(), in_mode(model, training), _compiling()]
        contexts += [fake, load_python_dispatcher()(), _hooks(model, recorder), recorder]
        for context in contexts:
            around.enter_context(context)
        try:
            model(inputs)
        except Exception as error:
            if recorder.stack:  # for the message
                error.kstyle_layer = getattr(recorder.stack[-1].module, "name", None)  # type: ignore[attr-defined]
            raise
    for leaf in filter(is_tensor, tree.flatten(inputs)):
        for axis, size in enumerate(leaf.shape):
            if isinstance(size, torch.SymInt) and size.node.maybe_as_int() is not None:
                raise ValueError(f"axis {axis} of an input is dynamic, but the model supports only one size of it")
    return recorder


def is_tensor(leaf: Any) -> bool:
    """Returns whether it is a tensor."""
    return isinstance(leaf, Tensor)


def _without_methods(model: nn.Module) -> dict[int, Tensor]:
    """Returns the weights of `add_weight`, by id, as plain tensors, which fake tensors support."""
    weights = (*model.parameters(), *model.buffers())
    return {id(w): w.detach().as_subclass(Tensor) for w in weights if type(w) not in (Tensor, nn.Parameter)}


def refs_in(structure: Any) -> list[Ref]:
    """Returns the `Ref`s of a nest."""
    return [leaf for leaf in tree.flatten(structure) if isinstance(leaf, Ref)]


@contextlib.contextmanager
def _hooks(model: nn.Module, recorder: Recorder) -> Iterator[None]:
    handles = []
    for module in model.modules():
        handles.append(module.register_forward_pre_hook(recorder.enter, with_kwargs=True))
        handles.append(module.register_forward_hook(recorder.leave, with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def _compiling() -> Iterator[None]:
    """Makes layers use the code paths of compiled code, which work on every device and do not read data.

    Other threads are not affected; `to_trace` keeps two threads from doing this at once.
    """
    before, me = torch.compiler.is_compiling, threading.get_ident()
    torch.compiler.is_compiling = lambda: threading.get_ident() == me or before()
    try:
        yield
    finally:
        torch.compiler.is_compiling = before


def _stand_in(leaf: Any, fake: Any, device: Any) -> Tensor:
    from torch.fx.experimental.symbolic_shapes import DimDynamic, StatelessSymbolicContext

    hints = [ROWS, *(OPEN_SIZE * axis for axis in range(1, len(leaf.shape)))]
    sizes = [hint if size is None else size for hint, size in zip(hints, leaf.shape, strict=True)]
    kinds = [DimDynamic.DUCK if size is None else DimDynamic.STATIC for size in leaf.shape]
    real = torch.zeros(sizes, dtype=leaf.dtype, device=device)
    return fake.from_tensor(real, symbolic_context=StatelessSymbolicContext(dynamic_sizes=kinds))


def _named(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments with tensors, by parameter name."""
    bound = inspect.signature(type(module).forward).bind(module, *args, **kwargs).arguments
    named = dict(list(bound.items())[1:])
    for name, parameter in inspect.signature(type(module).forward).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            named.update(named.pop(name, {}))
        elif parameter.kind is parameter.VAR_POSITIONAL and name in named:
            named.update({f"{name}_{number}": value for number, value in enumerate(named.pop(name))})
    return {name: value for name, value in named.items() if any(map(is_tensor, tree.flatten(value)))}


def _fused_outputs(name: str, x: Tensor, states: Any, weights: Any, *options: Any) -> Any:  # noqa: ARG001
    """Returns fake results of torch's recurrent kernels; torch's own fake versions fix the number of steps."""
    directions = 2 if options[4] else 1
    first = states[0] if name == "lstm" else states
    outputs = x.new_empty(*x.shape[:-1], first.shape[-1] * directions)
    return (outputs, *(torch.empty_like(state) for state in (states if name == "lstm" else [states])))
