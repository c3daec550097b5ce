"""Inference of output shapes by running the call: on zero rows, in eval mode, without gradients, on the real device.

An output size of 0 depends on the batch. Other unknown sizes are tried twice; output sizes that differ are unknown. A call
that fails on zero rows is tried on two and three rows of zeros, and one that fails then too at other sizes (`probes`): if
it can be run at one size only, the unknown size is that one.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import CellType, FunctionType, MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from kstyle_torch import config, tree
from kstyle_torch._torch import WRAPPERS
from kstyle_torch.dtype_policies import STRING
from kstyle_torch.errors import WrongTypeError
from kstyle_torch.mode import (
    HasMode,
    all_modules,
    in_mode,
    is_used_elsewhere,
    passing,
    running,
    sharing_copy,
    used_elsewhere,
)
from kstyle_torch.ownership import is_ours
from kstyle_torch.symbolic.probes import (
    LONGEST,
    MOST_ELEMENTS,
    MOST_TRIES,
    SHORT,
    SMALL,
    SMALLEST,
    USUAL,
    Hints,
    Probe,
    Unknown,
    fallbacks,
    groups_to_vary,
    unknowns_in,
    varied,
)
from kstyle_torch.variables import Variable

UNSEPARABLE = (*WRAPPERS, "torch.distributed")  # homes of modules whose copies are tied to the original
KEPT = (TypeError, AttributeError, NotImplementedError)  # errors whose type is kept, as in Keras

# Modules whose calls broadcast sizes of 1, and run no code of users.
BROADCASTING = (
    "torch",
    "builtins",
    "kstyle_torch.ops",
    "kstyle_torch.layers.merging",
    "kstyle_torch.layers.reshaping",
    "kstyle_torch.layers.attention",
)

HOOKS = ("_forward_pre_hooks", "_forward_hooks")


class Probing(threading.local):
    """Flag of threads that run calls on made-up data, for which loops that depend on values may not end."""

    active = False

    def mark(self, x: Tensor, axis: int) -> Tensor:
        """Marks an axis whose size depends on values. Returns: The tensor."""
        if self.active:
            x._kstyle_depends_on_values = axis  # type: ignore[attr-defined]
        return x


probing = Probing()


class Spec(NamedTuple):
    """Shape (None where unknown) and dtype of one output, and the number of axes of its mask, if it has one."""

    shape: tuple[int | None, ...]
    dtype: torch.dtype
    mask_axes: int | None = None


@contextlib.contextmanager
def _without_users_hooks(target: Any) -> Iterator[None]:
    """Keeps hooks of users from seeing made-up data; those that torch needs, as for weight normalization, run."""
    changed = []
    for module in target.modules() if isinstance(target, nn.Module) else ():
        fields = module.__dict__
        for name in HOOKS:
            hooks = fields[name]
            if hooks and not all(map(is_ours, hooks.values())):
                fields[name] = type(hooks)((key, hook) for key, hook in hooks.items() if is_ours(hook))
                changed.append((fields, name, hooks))
    try:
        yield
    finally:
        for fields, name, hooks in changed:
            fields[name] = hooks


def infer(
    target: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    is_symbolic: Callable[[Any], bool],
    tags: Mapping[Any, Any] = MappingProxyType({}),
) -> tuple[list[Any], Any]:
    """Infers the output of `target(*args, **kwargs)`, with masks (`tags`) on some of the arguments.

    Returns: The leaves of its output, tensors as `Spec`, and the output's nest (with `...` for each leaf).
    Raises: ValueError: if the call fails; it names the target and the shapes.
    """
    symbols = [*dict.fromkeys(filter(is_symbolic, tree.flatten((args, kwargs))))]
    refuse_text(target, symbols)
    numbers = {leaf: number for number, leaf in enumerate(symbols)}

    # A graph bypasses the `__call__` of layers unless a mode was passed; its effects have taken place by now.
    past_own = isinstance(target, HasMode) and "training" not in kwargs

    def call(probe: Probe, value: int) -> Any:
        device = _device_of(target)

        def stand_in(leaf: Any) -> Any:
            if is_symbolic(leaf):
                sizes = probe.fill(leaf.shape, numbers[leaf])
                if leaf.torch_dtype is STRING:
                    return np.full(sizes, "", dtype=object)
                tensor: Any = torch.full(sizes, value, dtype=leaf.torch_dtype, device=device)
                if leaf in tags:
                    mask_sizes = probe.fill(tags[leaf].shape, numbers[leaf])
                    tensor._keras_mask = torch.ones(mask_sizes, dtype=torch.bool, device=device)
                return tensor
            return leaf.to(device) if isinstance(leaf, Tensor) and not isinstance(leaf, nn.Parameter) else leaf

        real_args, real_kwargs = tree.map_structure(stand_in, (args, kwargs))
        return entry(*real_args, **real_kwargs)

    runs = _Runs(call, [leaf.shape for leaf in symbols])
    num_weights = _count_weights(target)
    with undisturbed(target) as held, _without_users_hooks(held), torch.no_grad(), _probing():
        entry = functools.partial(nn.Module.__call__, held) if past_own else held
        fits = runs.at_usual_sizes() or runs.at_other_sizes(_hints(target, args, kwargs, is_symbolic))
        if not fits or (_count_weights(target) > num_weights and runs.has_fixed_size()):
            shapes = _listed([leaf.shape for leaf in tree.flatten((args, kwargs)) if is_symbolic(leaf)])
            kind: Any = type(runs.error) if type(runs.error) in KEPT else ValueError
            raise kind(f"{describe(target)} cannot be called on {shapes}: {runs.error}") from runs.error
    runs.error = None  # its traceback refers to these objects, in a cycle
    outputs = [output for _, output in runs.found]
    leaves = zip(*map(tree.flatten, outputs))
    return [_merge(each, zero_rows=runs.found[0][0].rows == 0) for each in leaves], _nest(outputs[0])


def takes_text(target: Any) -> bool:
    """Returns whether a layer or model takes symbolic text: it is called on arrays of strings when the graph runs."""
    return bool(getattr(target, "_takes_text", False))


def refuse_text(target: Any, symbols: Iterable[Any]) -> None:
    """Raises a TypeError if one of the symbolic tensors is text, and the target works on numbers."""
    text = next((leaf for leaf in symbols if leaf.torch_dtype is STRING), None)
    if text is not None and not takes_text(target):
        raise WrongTypeError(
            f"{describe(target)} works on numbers; got {text.name!r}, which is text (dtype 'string'). Convert it first, by a "
            "TextVectorization, StringLookup or Hashing layer."
        )


@contextlib.contextmanager
def _probing() -> Iterator[None]:
    before, probing.active = probing.active, True
    try:
        yield
    finally:
        probing.active = before


class _Runs:
    """Runs of one call at several sizes.

    Args:
        call: Runs the call on constant tensors with the sizes of a probe.
        shapes: Shapes of its symbolic arguments.
    """

    def __init__(self, call: Callable[[Probe, int], Any], shapes: list[tuple[int | None, ...]]):
        self.call, self.shapes, self.unknowns = call, shapes, unknowns_in(shapes)
        self.found: list[tuple[Probe, Any]] = []  # successful runs, with outputs of the same structure
        self.elements_left = MOST_ELEMENTS
        self.value = 0  # value of all made-up data
        self.error: Exception | None = None  # error of the last failed run

    def run(self, probe: Probe) -> bool:
        """Runs the call. Returns: Whether it succeeded."""
        try:
            output = self.call(probe, self.value)
        except Exception as error:  # user code may raise anything on made-up data  # noqa: BLE001
            self.error = error
            if self.value == 1 or "ZeroDivisionError" not in f"{type(error)}{error}":  # torch raises a RuntimeError
                return False
            self.value = 1
            return self.run(probe)
        if not self.found or _form(output) == _form(self.found[0][1]):
            self.found.append((probe, output))
        return True

    def at_usual_sizes(self) -> bool:
        """Runs the call at two sizes, on zero rows or else on two and three. Returns: Whether both runs succeeded."""
        num_sizes = 1 + any(axis > 0 for _, axis in self.unknowns)
        at_all = [self.run(Probe(0, size)) for size in self._sizes(rows=0)[:num_sizes]]
        if all(at_all):
            self._check_rows()
            return True
        on_zero_rows, self.found = self.found, []
        sizes = self._sizes(rows=3)
        if self.run(Probe(2, sizes[0])) and self.run(Probe(3, sizes[num_sizes - 1])):
            return True
        self.found = on_zero_rows or self.found
        return False

    def _sizes(self, rows: int) -> tuple[int, int]:
        """Returns two sizes to replace None: the usual ones unless the tensors would be huge."""
        for sizes in (USUAL, SHORT, SMALL):
            if Probe(rows, sizes[1]).count_elements(self.shapes) < MOST_ELEMENTS:
                return sizes
        return SMALLEST

    def at_other_sizes(self, hints: Hints) -> bool:
        """Searches for sizes at which the call succeeds, and varies them. Returns: Whether there are any."""
        error = self.error
        if self.unknowns and not self.found and type(error) not in KEPT:  # errors of KEPT do not depend on sizes
            probes = itertools.islice(fallbacks(hints, self.shapes), MOST_TRIES)
            any(map(self._run_within_bounds, probes))
        if self.found:
            base = self.found[0][0]
            for members in groups_to_vary(base, self.unknowns):
                self._vary(base, members)
            self._check_rows()
        self.error = error
        return bool(self.found)

    def has_fixed_size(self) -> bool:
        """Returns whether an unknown axis other than the first has only one size at which the call succeeds.

        If it has built weights, they were made for that size.
        """
        probes = [probe for probe, _ in self.found]
        return any(axis > 0 and len({probe.size_of((n, axis)) for probe in probes}) == 1 for n, axis in self.unknowns)

    def _run_within_bounds(self, probe: Probe) -> bool:
        """Runs the call unless the search has used too much data. Returns: Whether it ran and succeeded."""
        count = probe.count_elements(self.shapes)
        quadratic = count * probe.open_size if probe.open_size > USUAL[1] else 0  # attention matrices
        if count > self.elements_left or quadratic > 4 * MOST_ELEMENTS:
            return False
        self.elements_left -= count
        return self.run(probe)

    def _vary(self, base: Probe, members: list[Unknown]) -> None:
        """Runs the call with other sizes for unknown axes of equal size: for all of them, or else for as many as can change."""
        varies: set[Unknown] = set()
        counts = range(len(members), 0, -1) if len(members) <= 4 else (len(members), len(members) - 1, 1)
        for count in counts:
            for some in itertools.combinations(members, count):
                if not varies.issuperset(some):
                    # runs all of them, since a stride of 2 hides a change of 1
                    can = [self.run(probe) for probe in varied(base, some)]
                    varies.update(some if any(can) else ())

    def _check_rows(self) -> None:
        """Runs the call on two rows too if no output size is 0, since one may be, for example, the batch plus one."""
        base, output = self.found[0]
        sizes = [leaf.shape for leaf in tree.flatten(output) if isinstance(leaf, Tensor) and leaf.dim() > 0]
        rows = [each for each in self.unknowns if base.size_of(each) == 0]
        if rows and not all(0 in shape for shape in sizes):
            probe = base._replace(rows=2)
            fits = probe.count_elements(self.shapes) < MOST_ELEMENTS
            self.run(probe if fits else probe._replace(open_size=SMALL[0]))


def _form(output: Any) -> list[int | None]:
    """Returns the number of axes of each leaf."""
    return [leaf.dim() if isinstance(leaf, Tensor) else None for leaf in tree.flatten(output)]


def _hints(target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], is_symbolic: Callable[[Any], bool]) -> Hints:
    leaves = [leaf for leaf in tree.flatten((args, kwargs)) if not is_symbolic(leaf)]
    shapes = [tuple(leaf.shape) for leaf in leaves if hasattr(leaf, "shape")]
    numbers: list[int] = []
    settings = vars(target).values() if isinstance(target, nn.Module) else ()
    for value in (*args, *kwargs.values(), *settings):
        items = value if isinstance(value, (list, tuple)) else [value]
        if items and all(type(item) is int and item > 0 for item in items):
            numbers += [math.prod(items), *items]
        numbers.append(len(items))
    if isinstance(target, nn.Module):
        numbers += [size for weight in itertools.chain(target.parameters(), target.buffers()) for size in weight.shape]
    home = getattr(type(target) if isinstance(target, nn.Module) else target, "__module__", None)
    broadcasts = home is None or home.startswith(BROADCASTING)  # None for torch's functions
    return Hints(shapes, [number for number in numbers if number <= LONGEST[0]], broadcasts)


def describe(target: Any) -> str:
    """Returns the name of a layer, module or function, for messages."""
    name = getattr(target, "name", None)
    if isinstance(target, nn.Module):
        kind = type(target).__name__
        return f"Layer {name!r} ({kind})" if isinstance(name, str) else kind
    return getattr(target, "__name__", repr(target))


def _merge(leaves: tuple[Any, ...], zero_rows: bool) -> Any:
    first = leaves[0]
    if not isinstance(first, Tensor):
        return first
    depends = getattr(first, "_kstyle_depends_on_values", None)
    shape = tuple(
        None if len(sizes) > 1 or (zero_rows and 0 in sizes) or axis == depends else next(iter(sizes))
        for axis, sizes in enumerate(map(set, zip(*[leaf.shape for leaf in leaves])))
    )
    mask = getattr(first, "_keras_mask", None)
    return Spec(shape, first.dtype, None if mask is None else mask.dim())


def _nest(output: Any) -> Any:
    # not None, which the named outputs of `transformers` leave out
    return tree.map_structure(lambda leaf: ..., output)


def _listed(shapes: list[tuple[int | None, ...]]) -> str:
    return f"shape {shapes[0]}" if len(shapes) == 1 else f"shapes {', '.join(map(str, shapes))}"


def _count_weights(target: Any) -> int:
    return sum(1 for _ in target.parameters()) if isinstance(target, nn.Module) else 0


def _device_of(target: Any) -> torch.device:
    weight = next(target.parameters(), None) if isinstance(target, nn.Module) else None
    return config.device() if weight is None else weight.device


def undisturbed(target: Any) -> contextlib.AbstractContextManager[Any]:
    """Returns a context for a run without side effects: `isolated` if another thread runs the module."""
    apart = isinstance(target, nn.Module) and is_used_elsewhere(target) and is_separable(target)
    return isolated(target) if apart else untouched(target)


@contextlib.contextmanager
def untouched(target: Any, is_shared: Callable[[], bool] = lambda: False) -> Iterator[Any]:
    """Runs the block in inference mode, and restores mode, buffers, losses and random state afterwards.

    The random state is not restored if the block has created weights from it.

    Args:
        target: A module; for anything else, only the random state is restored.
        is_shared: Returns whether another thread has begun to change the same state, which is not restored then.
    Yields: The target to call, or a copy if another thread holds its flags in training mode.
    """
    module: Any = target if isinstance(target, nn.Module) else nn.Identity()
    buffers = [(owner, key, buffer, buffer.clone()) for owner, key, buffer in own_buffers(module)]
    seeds = [(seed, seed.value) for seed in seed_states(module)]
    losses = {id(each): [*getattr(each, "_losses", ())] for each in module.modules()}
    num_weights = _count_weights(module)
    random_state = torch.get_rng_state()
    try:
        with in_mode(module, False) as held:
            yield held if module is target else target
    finally:
        if not is_shared():
            for owner, key, buffer, before in buffers:
                owner._buffers[key] = buffer.copy_(before)
            for seed, value in seeds:
                seed.assign(value)
            if _count_weights(module) == num_weights:
                _restore_random(random_state)
        for each in module.modules():
            if getattr(each, "_losses", None) or losses.get(id(each)):
                each._losses[:] = losses.get(id(each), [])


def _restore_random(state: Tensor) -> None:
    """Restores a random state, unless another thread runs a model and may have drawn numbers since."""
    if not used_elsewhere():
        torch.set_rng_state(state)


def is_separable(target: nn.Module) -> bool:
    """Returns whether a copy of a module and its children is independent of the original, as `isolated` requires.

    It is not if weights are not built yet, or a compiled, replaced or user's function refers to the original.
    """
    modules = all_modules(target)
    ids = {*map(id, modules)}
    for module in modules:
        fields = vars(module)
        forward, home = fields.get("forward"), type(module).__module__
        compiled = fields.get("_compiled_call_impl") is not None or home.startswith(UNSEPARABLE)
        replaced = forward is not None and getattr(forward, "__self__", getattr(forward, "layer", None)) is not module
        tensors: list[Any] = [*module._parameters.values(), *module._buffers.values()]
        if compiled or replaced or not getattr(module, "built", True) or any(map(is_lazy, tensors)):
            return False
        if any(_is_bound_to(value, ids) for value in fields.values()):
            return False
    return True


def _is_bound_to(value: Any, ids: set[int]) -> bool:
    """Returns whether an attribute is, or contains, a function or an object of a user's that holds one of the modules."""
    if type(value) in (dict, list, tuple):  # a copy gets its own, with copies of the modules in it
        return any(_is_bound_to(item, ids) for item in _parts_of(value))
    return any(_holds(part, ids) for part in _parts_of(value))


def _holds(value: Any, ids: set[int], depth: int = 3) -> bool:
    if id(value) in ids or id(getattr(value, "__self__", None)) in ids:
        return True
    return depth > 0 and any(_holds(part, ids, depth - 1) for part in _parts_of(value))


def _parts_of(value: Any) -> list[Any]:
    """Returns what a container holds, a function was made with, or an object of a user's has as attributes."""
    kind = type(value)
    if kind in (list, tuple, set):
        return [*value]
    if kind is dict:
        return [*value.values()]
    if kind is FunctionType:
        return [*(value.__defaults__ or ()), *(part for cell in value.__closure__ or () for part in _content(cell))]
    if kind is functools.partial:
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, (nn.Module, Tensor)) or kind.__module__.startswith(("torch", "kstyle_torch.")):
        return []
    return [*getattr(value, "__dict__", {}).values()]


def _content(cell: CellType) -> list[Any]:
    try:
        return [cell.cell_contents]
    except ValueError:  # it is empty
        return []


@contextlib.contextmanager
def isolated(target: nn.Module) -> Iterator[Any]:
    """Runs the block in inference mode on a copy, while other threads may train the module.

    Yields: The copy. It shares the parameters, which may be replaced in it, but not buffers, seeds, flags and hooks.
    """
    held = sharing_copy(target, [(module, False) for module in all_modules(target)])
    known: dict[int, Any] = {}
    for module in all_modules(held):
        fields = vars(module)
        buffers = {key: buffer if buffer is None else buffer.clone() for key, buffer in module._buffers.items()}
        hooks = {key: OrderedDict(fields[key]) for key in fields if "_hooks" in key and isinstance(fields[key], dict)}
        seeds = {key: copy.deepcopy(value, known) for key, value in fields.items() if _seed_of(value) is not None}
        fields.update(hooks, _parameters={**module._parameters}, _buffers=buffers, **seeds)
    random_state = torch.get_rng_state()
    losses, running.losses = running.losses, {}
    try:
        with passing(False):
            yield held
    finally:
        running.losses = losses
        _restore_random(random_state)


def _seed_of(value: Any) -> Variable | None:
    state = getattr(value, "__dict__", {}).get("state")
    return state if isinstance(state, Variable) else None


def seed_states(target: nn.Module) -> Iterator[Variable]:
    """Yields the states of the seed generators that modules have as attributes."""
    for module in target.modules():
        for value in vars(module).values():
            state = _seed_of(value)
            if state is not None:
                yield state


def own_buffers(target: nn.Module) -> Iterator[tuple[nn.Module, str, Tensor]]:
    """Yields the buffers of a module and its children, each with its owner and its name there."""
    for module in target.modules():
        for key, buffer in module._buffers.items():
            if buffer is not None:
                yield module, key, buffer
