"""The mode of a call, training or inference.

The mode belongs to the call and not to the layer, so that threads may use one model in different modes. Within a thread
it is, for each layer: what the caller passed as `training`, else what a call around passed, else what `.train()` or
`.eval()` gave the layer, else the first default in the signature of `call` that is not None, from the outermost call on
and of layers that ran before it, else inference.

Modules that are not ours read their own flag, `module.training`. It is set for the length of a call; a second thread that
needs the other mode at the same time runs on a copy that shares parameters and buffers.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from kstyle_torch._torch import BATCH_OR_INSTANCE_NORM, DYNAMO, WRAPPERS

CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.Sequential)


class Running(threading.local):
    """The call of a layer that runs in this thread.

    An attribute of a thread-local is read without a call, and `torch.compile` guards on it.
    """

    def __init__(self) -> None:
        self.mode: bool | None = None  # that a caller passed
        self.default: bool | None = None  # of the outermost signature that has one
        self.inside = False  # whether this is within a call
        # whether `train(False)` gives inference mode, as `eval()` does; None where neither of them is running
        self.holds: bool | None = None
        self.losses: dict[int, list[Any]] | None = None  # by id of the layer that added them, within `fit` and its like
        self.thread = threading.get_ident()


running = Running()


class Active(Protocol):
    """A run of `fit`, `evaluate` or `predict`, in any thread."""

    thread: int
    kind: str  # "training", "evaluating" or "predicting"
    brief: bool  # whether it is a single step
    origin: Any  # the user's model


active: list[Active] = []


def used_elsewhere() -> list[nn.Module]:
    """Returns the models that other threads run, and modules that they have called directly."""
    me = threading.get_ident()
    called = [root for thread, root in [*modeless] if thread != me]
    held = [hold.module for hold in [*holds.values()] if {*hold.wanted} - {me}]
    return [*(run.origin for run in [*active] if run.thread != me), *called, *held]


def is_used_elsewhere(module: nn.Module) -> bool:
    """Returns whether a model that another thread runs has the module, or one below it, in it."""
    models = used_elsewhere()
    below = {id(each) for each in all_modules(module)} if models else set()
    return any(id(each) in below for model in models for each in all_modules(model))


def all_modules(root: nn.Module) -> list[nn.Module]:
    """Returns a module and all that it runs, each once: those below it, and those that are not among its children."""
    found: dict[int, nn.Module] = {}
    waiting = [root]
    while waiting:
        module = waiting.pop()
        if id(module) not in found:
            found[id(module)] = module
            waiting += [child for child in module._modules.values() if child is not None]
            waiting += module._unlisted if isinstance(module, HasMode) else ()
    return [*found.values()]


class HasMode(nn.Module):
    """A module whose mode is that of the running call, and otherwise what `.train()` or `.eval()` gave it.

    It starts with no mode given. `train(False)` goes back to that, so that code which saves `training`, calls `eval()` and
    sets it back leaves no trace.
    """

    __jit_unused_properties__ = ("training",)
    _mode: bool | None = None  # that it was given
    _evals = False  # whether `eval()` was called twice, the second time by code that will set back what it saw
    _follows = False  # whether it is the child of a module that is not ours, which is always in one of the two modes
    _training_default: bool | None = None  # in the signature of `call`
    _in_graph = False  # whether it was called on a symbolic tensor: Keras notes the default as if the caller passed it
    _unlisted: tuple[nn.Module, ...] = ()  # modules that it runs and that are not among its children

    @property
    def training(self) -> bool:
        """True in training mode: within a call, that of the call."""
        call = running
        mode = call.mode
        if mode is None:
            mode = self._mode
            if mode is None and call.inside:
                mode = call.default
        return mode is True

    @training.setter
    def training(self, value: bool) -> None:
        given: bool | None = bool(value)
        holds, before = running.holds, self._mode
        if not given:
            follows = self._follows and (holds is not None or before is not None)
            given = False if holds or follows or self._evals else None
        # past __setattr__, which would invalidate recorded steps: what they do does not depend on it
        object.__setattr__(self, "_mode", given)
        object.__setattr__(self, "_evals", bool(holds) and given is before is False)

    def _mode_of_call(self, given: Any = None) -> bool:
        """Returns the mode of the layer's running call, for which `training=given` was passed."""
        if given is not None:
            return bool(given)
        call = running
        mode = call.mode
        if mode is None:
            mode = self._mode
            if mode is None:
                mode = self._training_default
                if call.default is not None and (mode is None or not self._in_graph):
                    mode = call.default
                if call.inside:
                    call.default = mode
        return mode is True

    def train(self, mode: bool = True) -> Any:
        """Gives training mode to it and all below; with False, takes the mode that was given away again."""
        before, running.holds = running.holds, bool(mode or running.holds or self._follows)
        try:
            return super().train(mode)
        finally:
            running.holds = before

    def eval(self) -> Any:
        """Gives inference mode to it and all below."""
        before, running.holds = running.holds, True
        try:
            return super().eval()
        finally:
            running.holds = before

    def _hand_mode_to(self, child: nn.Module) -> None:
        """Gives a new child the mode that was given to this module; none to a layer where none was given."""
        mode = self._mode
        if isinstance(child, HasMode):
            if mode is not None and child._mode is not mode:
                child.train() if mode else child.eval()
            return
        if child._modules or isinstance(child, CONTAINERS):
            for module in child.modules():
                if isinstance(module, HasMode):
                    object.__setattr__(module, "_follows", False)
                else:
                    _below_ours.add(module)
        if child.training is not (mode is True):
            before, running.holds = running.holds, mode is False
            try:
                child.train(mode is True)
            finally:
                running.holds = before

    def _fields_of_copy(self) -> dict[str, Any]:
        """Returns the attributes of a copy that shares the weights which differ from this module's."""
        return {}


_below_ours: weakref.WeakSet[nn.Module] = weakref.WeakSet()  # modules that are not ours, in a layer


def _follow(parent: nn.Module, name: str, child: nn.Module | None) -> None:  # noqa: ARG001
    """Lets layers follow the mode of a foreign parent; torch calls it whenever a module gets a child."""
    if not isinstance(child, HasMode) or isinstance(parent, HasMode):
        return
    home = type(parent).__module__
    if home.startswith(DYNAMO):  # torch.compile's, which sets the mode that it finds, and has `eval()`
        object.__setattr__(child, "_follows", True)
        object.__setattr__(child, "_evals", child._mode is False)
    if home.startswith(WRAPPERS):  # they take a module for a moment; it keeps its mode there
        return
    object.__setattr__(child, "_follows", parent not in _below_ours)
    child.train(parent.training)


register_module_module_registration_hook(_follow)


def fills_training(call: Callable[..., Any], position: int | None = None) -> Callable[..., Any]:
    """Returns a function that does `call` with the mode of the call where that is omitted or None.

    Args:
        position: Of `training` among its arguments, the object itself included; found in its signature if None.
    """
    if position is None:
        position = list(inspect.signature(call).parameters).index("training")

    @functools.wraps(call)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if len(args) >= position:  # self is not among them
            if args[position - 1] is not None:
                return call(self, *args, **kwargs)
            args = (*args[: position - 1], self._mode_of_call(), *args[position:])
        elif kwargs.get("training") is None:
            kwargs["training"] = self._mode_of_call()
        if self._training_default is not None and self._mode is running.mode is None and running.default is not None:
            with holding(self, running.default) as held:
                return call(held, *args, **kwargs)
        return call(self, *args, **kwargs)

    return forward


def takes_training(default: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Returns a decorator that shows a default of `training` in the signature of a `call` that resolves the mode itself.

    None is what such a function gets where the caller passed nothing, and it must tell that from False.
    """

    def show(call: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(call)
        shown = [p.replace(default=default) if p.name == "training" else p for p in signature.parameters.values()]
        call.__signature__ = signature.replace(parameters=shown)  # type: ignore[attr-defined]
        return call

    return show


@contextlib.contextmanager
def passing(training: bool | None, inside: bool = True) -> Iterator[None]:
    """Passes a mode to the layers that are called in the block.

    Args:
        inside: Whether the block is one call; otherwise each call of a layer in it is one.
    """
    call = running
    before = call.mode, call.default, call.inside
    call.mode, call.default, call.inside = training, None, inside
    try:
        yield
    finally:
        call.mode, call.default, call.inside = before


@contextlib.contextmanager
def in_mode(module: nn.Module, training: bool) -> Iterator[Any]:
    """Runs the block in a mode, flags of modules that are not ours included. Gives what to call: the module, or a copy."""
    with holding(module, training) as held, passing(training):
        yield held


@contextlib.contextmanager
def keeping_modes(root: nn.Module) -> Iterator[None]:
    """Puts what `train()` and `eval()` give in the block back afterwards."""
    kept = [(module, module._mode, module._evals) for module in root.modules() if isinstance(module, HasMode)]
    flags = [(module, module.training) for module in root.modules() if not isinstance(module, HasMode)]
    try:
        yield
    finally:
        for layer, mode, evals in kept:
            object.__setattr__(layer, "_mode", mode)
            object.__setattr__(layer, "_evals", evals)
        for module, flag in flags:
            _set_flag(module, flag)


# -------------------------------------------------------------------------------- the flags of modules that are not ours

_reads: dict[type, bool] = {}


def _reads_mode(cls: type) -> bool:
    """Returns whether code of a module's class may read `training`; for all but torch's own that is taken for granted."""
    functions = [value for base in cls.__mro__ if base is not nn.Module for value in vars(base).values()]
    named = any("training" in value.__code__.co_names for value in functions if isinstance(value, types.FunctionType))
    return named or not cls.__module__.startswith("torch.nn.modules.")


def readers(root: nn.Module, training: bool = True) -> list[tuple[nn.Module, bool]]:
    """Returns the modules below that read their flag, each with what it should be.

    Frozen normalization runs in inference mode, as ours does.
    """
    found: list[tuple[nn.Module, bool]] = []
    _gather(root, training, False, found, {})
    return found


def _gather(
    module: Any, training: bool, frozen: bool, found: list[tuple[nn.Module, bool]], seen: dict[nn.Module, None]
) -> None:
    """Looks at a module and all below. It runs in every call of `predict`, so it makes few calls."""
    seen[module] = None
    if isinstance(module, HasMode):
        fields: Any = module
        frozen = not fields._trainable or fields._frozen_above
        for child in module._unlisted:
            if child not in seen:
                _gather(child, training, frozen, found, seen)
    else:
        cls = type(module)
        if cls not in _reads:
            _reads[cls] = _reads_mode(cls)
        if _reads[cls]:
            found.append((module, training and not (frozen and isinstance(module, BATCH_OR_INSTANCE_NORM))))
    for child in module._modules.values():
        if child is None or child in seen:
            continue
        if child._modules or type(child) not in _reads or _reads[type(child)]:
            _gather(child, training, frozen, found, seen)


class _Hold:
    """A flag that is set for running calls: what it was before, and the modes that each thread wants, innermost last."""

    __slots__ = ("before", "module", "wanted")

    def __init__(self, module: nn.Module):
        self.module, self.before = module, module.training
        self.wanted: dict[int, list[bool]] = {}


class HeldFlags:
    """Flags of modules as they are outside of the running calls, for a copy or a pickle that is made during one.

    Args:
        flags: Modules, each with its flag.
        is_copied: Whether the modules were copied with it; `copy.copy` shares them.
    """

    def __init__(self, flags: list[tuple[nn.Module, bool]], is_copied: bool = False):
        self.flags, self.is_copied = flags, is_copied

    def __deepcopy__(self, memo: dict[int, Any]) -> HeldFlags:
        return HeldFlags(copy.deepcopy(self.flags, memo), is_copied=True)

    def __reduce__(self) -> Any:
        return HeldFlags, (self.flags, True)

    def set(self) -> None:
        """Sets the flags of copied modules."""
        for module, flag in self.flags if self.is_copied else ():
            _set_flag(module, flag)


def flags_outside(root: nn.Module) -> dict[str, Any]:
    """Returns the flags that running calls have changed below a module, as an item of its state; nothing if there are none."""
    before = {key: hold.before for key, hold in [*holds.items()]}
    flags = [(module, before[id(module)]) for module in all_modules(root) if id(module) in before] if before else []
    return {"_held_flags": HeldFlags(flags)} if flags else {}


_lock = threading.Lock()
holds: dict[int, _Hold] = {}
# Outermost calls without a given mode, each with its thread. They hold no flags: that would cost too much per call.
modeless: list[tuple[int, nn.Module]] = []


def apart_from_holds(module: nn.Module) -> Any:
    """Returns what a call without a mode runs: the module, or a copy where another thread holds flags in another mode."""
    me = threading.get_ident()
    with _lock:
        before = {
            key: hold.before
            for key, hold in holds.items()
            if me not in hold.wanted
            and any(mode is not hold.before for modes in hold.wanted.values() for mode in modes)
        }
    flags = [(each, before.get(id(each), each.training)) for each, _ in readers(module)] if before else []
    return sharing_copy(module, flags) if any(id(each) in before for each, _ in flags) else module


def _read_by_others(flags: list[tuple[nn.Module, bool]]) -> bool:
    """Returns whether a call in another thread, which holds no flags, reads one that would change."""
    me = threading.get_ident()
    changed = {id(module) for module, mode in flags if module.training is not mode}
    return any(id(each) in changed for thread, root in [*modeless] if thread != me for each in all_modules(root))


@contextlib.contextmanager
def holding(module: nn.Module, training: bool) -> Iterator[Any]:
    """Holds the flags below in a mode for the length of a call. Gives what to call: the module, or a copy."""
    held, taken = take(module, training)
    try:
        yield held
    finally:
        give_back(taken)


Flags = list[tuple[nn.Module, bool]]


def take(module: nn.Module, training: bool, alone: bool = True) -> tuple[Any, Flags]:
    """Takes the flags below into a mode, until `give_back`.

    Args:
        alone: Whether nothing else forbids to run on the module itself.
    Returns: The module, or a copy where another thread holds a flag in the other mode or the call is not alone; and what
        was taken.
    """
    flags = readers(module, training)
    if not alone or (flags and not _take(flags)):
        return sharing_copy(module, flags), []
    return module, flags


def _take(flags: list[tuple[nn.Module, bool]]) -> bool:
    me = threading.get_ident()
    with _lock:
        for module, mode in flags:
            hold = holds.get(id(module))
            others = {each for thread, modes in hold.wanted.items() if thread != me for each in modes} if hold else ()
            if (not mode) in others:
                return False
        for module, mode in flags:
            hold = holds.get(id(module))
            if hold is None:
                hold = holds[id(module)] = _Hold(module)
            hold.wanted.setdefault(me, []).append(mode)
        # not before: a call that begins now sees what is held
        is_read = bool(modeless) and _read_by_others(flags)
        for module, mode in () if is_read else flags:
            _set_flag(module, mode)
    if is_read:
        give_back(flags)
    return not is_read


def give_back(flags: Flags) -> None:
    """Puts the flags back to what they were."""
    if not flags:
        return
    me = threading.get_ident()
    with _lock:
        for module, _ in flags:
            hold = holds[id(module)]
            mine = hold.wanted[me]
            mine.pop()
            if not mine:
                del hold.wanted[me]
            if not hold.wanted:
                del holds[id(module)]
            _set_flag(module, (mine or next(iter(hold.wanted.values()), [hold.before]))[-1])


def _set_flag(module: nn.Module, mode: bool) -> None:
    if module.training is not mode:
        module.training = mode


def take_again(module: nn.Module, training: bool, taken: Flags) -> tuple[Any, Flags]:
    """Takes the flags below as they should be now, in the place of those taken: modules may be new, or newly frozen.

    Only for the innermost call of a thread, between its steps: the flags that it gives back are free for a moment.
    """
    flags = readers(module, training)
    if [(id(each), mode) for each, mode in flags] != [(id(each), mode) for each, mode in taken]:
        give_back(taken)
        return take(module, training)
    for each, mode in flags:  # users may have set one
        _set_flag(each, mode)
    return module, taken


def sharing_copy(root: nn.Module, flags: list[tuple[nn.Module, bool]]) -> Any:
    """Returns a copy of a module that shares parameters and buffers, and has these flags.

    Only modules on the way to one of `flags`, or to a metric, are copied; all others are shared.
    """
    modes = {id(module): mode for module, mode in flags}
    apart: dict[int, Any] = {}
    _mark(root, modes, apart)
    apart[id(root)] = root
    copies: dict[int, Any] = {key: object.__new__(type(module)) for key, module in apart.items()}
    for key, module in apart.items():
        own = module._fields_of_copy() if isinstance(module, HasMode) else {"training": modes.get(key, module.training)}
        fields = {
            name: value if name in ("_parameters", "_buffers", *own) else _exchanged(value, copies, name == "forward")
            for name, value in [*vars(module).items()]  # another thread may add to them
        }
        vars(copies[key]).update(fields, **own)
    return copies[id(root)]


def _mark(module: Any, modes: dict[int, bool], apart: dict[int, Any]) -> bool:
    """Notes a module where it or one below is to be copied."""
    below = [*module._modules.values(), *(module._unlisted if isinstance(module, HasMode) else ())]
    marked = [_mark(child, modes, apart) for child in below if child is not None and child is not module]
    if any(marked) or id(module) in modes or vars(module).get("_holds_metrics"):
        apart[id(module)] = module
    return id(module) in apart


def _exchanged(value: Any, copies: dict[int, Any], is_forward: bool = False) -> Any:
    """Returns an attribute of a copy: with copies in the place of modules, also in containers; metrics with their own state."""
    if isinstance(value, nn.Module):
        return copies.get(id(value), value)
    if isinstance(value, dict) and value:
        return {key: _exchanged(item, copies) for key, item in [*value.items()]}
    if isinstance(value, list) and value:
        return [_exchanged(item, copies) for item in value]
    if type(value) is tuple:
        return tuple(_exchanged(item, copies) for item in value)
    if isinstance(value, types.MethodType) and id(value.__self__) in copies:
        return types.MethodType(value.__func__, copies[id(value.__self__)])
    if getattr(value, "is_metric", None) is True:
        return copy.deepcopy(value)
    if is_forward and id(getattr(value, "layer", None)) in copies:  # of another precision than usual
        other = copy.copy(value)
        other.layer = copies[id(value.layer)]
        return other
    return value
