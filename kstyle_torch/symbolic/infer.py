"""Inference of output shapes by running the call: on zero rows, in eval mode, without gradients, on the real device.

An output size of 0 depends on the batch. Other unknown sizes are tried twice, at two sizes that can be halved five times
(83 and 89, which Keras tries, break a U-Net); output sizes that differ are unknown. A call that fails on zero rows is tried
on two and three rows of zeros.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from kstyle_torch import config, tree
from kstyle_torch._torch import WRAPPERS
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
from kstyle_torch.variables import Variable

UNSEPARABLE = (*WRAPPERS, "torch.distributed")  # homes of modules whose copies are tied to the original
OPEN_SIZES = (192, 320)
KEPT = (TypeError, AttributeError, NotImplementedError)  # errors of which Keras, too, keeps the type


class Spec(NamedTuple):
    """Shape (None where unknown) and dtype of one output, and the number of axes of its mask, if it has one."""

    shape: tuple[int | None, ...]
    dtype: torch.dtype
    mask_axes: int | None = None


class Probe(NamedTuple):
    """The sizes that replace None in one run."""

    rows: int
    open_size: int

    def fill(self, shape: tuple[int | None, ...]) -> list[int]:
        """Returns `shape` without None."""
        first = [self.rows if size is None else size for size in shape[:1]]
        return first + [self.open_size if size is None else size for size in shape[1:]]


def infer(
    target: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    is_symbolic: Callable[[Any], bool],
    tags: Mapping[Any, Any] = MappingProxyType({}),
) -> tuple[list[Any], Any]:
    """Infers the output of `target(*args, **kwargs)`, with masks (`tags`) on some of the arguments.

    Returns: The leaves of its output, tensors as `Spec`, and the output's nest (with None for each leaf).
    Raises: ValueError: if the call fails; it names the target and the shapes.
    """
    shapes = [leaf.shape for leaf in tree.flatten((args, kwargs)) if is_symbolic(leaf)]
    has_open_size = any(size is None for shape in shapes for size in shape[1:])

    # A graph calls layers past their own `__call__`, unless a mode was passed; what that does has been done by now.
    past_own = isinstance(target, HasMode) and "training" not in kwargs

    def run(probe: Probe) -> Any:
        call = functools.partial(nn.Module.__call__, held) if past_own else held
        device = _device_of(target)

        def stand_in(leaf: Any) -> Any:
            if is_symbolic(leaf):
                tensor: Any = torch.zeros(probe.fill(leaf.shape), dtype=leaf.torch_dtype, device=device)
                if leaf in tags:
                    tensor._keras_mask = torch.ones(probe.fill(tags[leaf].shape), dtype=torch.bool, device=device)
                return tensor
            return leaf.to(device) if isinstance(leaf, Tensor) and not isinstance(leaf, nn.Parameter) else leaf

        real_args, real_kwargs = tree.map_structure(stand_in, (args, kwargs))
        return call(*real_args, **real_kwargs)

    with undisturbed(target) as held, torch.no_grad():
        try:
            outputs = [run(Probe(0, size)) for size in OPEN_SIZES[: 1 + has_open_size]]
            zero_rows = True
        except Exception:  # user code may raise anything on zero rows; a run on real rows decides  # noqa: BLE001
            try:
                outputs = [run(Probe(2, OPEN_SIZES[0])), run(Probe(3, OPEN_SIZES[has_open_size]))]
                zero_rows = False
            except Exception as error:
                kind = type(error) if type(error) in KEPT else ValueError
                raise kind(f"{describe(target)} cannot be called on {_listed(shapes)}: {error}") from error
    runs = [tree.flatten(output) for output in outputs]
    return [_merge(leaves, zero_rows) for leaves in zip(*runs, strict=True)], _nest(outputs[0])


def describe(target: Any) -> str:
    """Returns the name of a layer, module or function, for messages."""
    name = getattr(target, "name", None)
    if isinstance(target, nn.Module):
        kind = type(target).__name__
        return f"Layer {name!r} ({kind})" if isinstance(name, str) else kind
    return getattr(target, "__name__", repr(target))


def _merge(leaves: tuple[Any, ...], zero_rows: bool) -> Any:
    first, last = leaves[0], leaves[-1]
    if not isinstance(first, Tensor):
        return first
    sizes = zip(first.shape, last.shape, strict=True)
    shape = tuple(None if a != b or (zero_rows and a == 0) else a for a, b in sizes)
    mask = getattr(first, "_keras_mask", None)
    return Spec(shape, first.dtype, None if mask is None else mask.dim())


def _nest(output: Any) -> Any:
    return tree.map_structure(lambda leaf: None, output)


def _listed(shapes: list[tuple[int | None, ...]]) -> str:
    return f"shape {shapes[0]}" if len(shapes) == 1 else f"shapes {', '.join(map(str, shapes))}"


def _device_of(target: Any) -> torch.device:
    weight = next(target.parameters(), None) if isinstance(target, nn.Module) else None
    return config.device() if weight is None else weight.device


def undisturbed(target: Any) -> contextlib.AbstractContextManager[Any]:
    """Returns a context for a run of a module or function that changes nothing: `isolated` beside another thread's run."""
    apart = isinstance(target, nn.Module) and is_used_elsewhere(target) and is_separable(target)
    return isolated(target) if apart else untouched(target)


@contextlib.contextmanager
def untouched(target: Any, is_shared: Callable[[], bool] = lambda: False) -> Iterator[Any]:
    """Runs the block in inference mode, and restores mode, buffers, losses and random state afterwards.

    The random state is not restored if the block has made weights from it.

    Args:
        target: A module; for anything else, only the random state is restored.
        is_shared: Returns whether another thread has begun to change the same state, which is not restored then.
    Yields: What to call: the target, or a copy where another thread holds its flags in training mode.
    """
    module: Any = target if isinstance(target, nn.Module) else nn.Identity()
    buffers = [(owner, key, buffer, buffer.clone()) for owner, key, buffer in own_buffers(module)]
    seeds = [(seed, seed.value) for seed in seed_states(module)]
    losses = {id(each): [*getattr(each, "_losses", ())] for each in module.modules()}
    num_weights = sum(1 for _ in module.parameters())
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
            if sum(1 for _ in module.parameters()) == num_weights:
                _restore_random(random_state)
        for each in module.modules():
            if getattr(each, "_losses", None) or losses.get(id(each)):
                each._losses[:] = losses.get(id(each), [])


def _restore_random(state: Tensor) -> None:
    """Goes back to a random state, unless another thread runs a model and may have drawn the numbers since."""
    if not used_elsewhere():
        torch.set_rng_state(state)


def is_separable(target: nn.Module) -> bool:
    """Returns whether a copy of a module, and of all below, runs nothing of the original: `isolated` needs that.

    It does not where weights are still to be made, or where a compiled or replaced function holds the original.
    """
    for module in all_modules(target):
        fields = vars(module)
        forward, home = fields.get("forward"), type(module).__module__
        compiled = fields.get("_compiled_call_impl") is not None or home.startswith(UNSEPARABLE)
        replaced = forward is not None and getattr(forward, "__self__", getattr(forward, "layer", None)) is not module
        tensors: list[Any] = [*module._parameters.values(), *module._buffers.values()]
        if compiled or replaced or not getattr(module, "built", True) or any(map(is_lazy, tensors)):
            return False
    return True


@contextlib.contextmanager
def isolated(target: nn.Module) -> Iterator[Any]:
    """Runs the block in inference mode on a copy, while other threads may train the module.

    Yields: The copy. It shares the parameters; buffers, seeds, flags and hooks are its own.
    """
    held = sharing_copy(target, [(module, False) for module in all_modules(target)])
    known: dict[int, Any] = {}
    for module in all_modules(held):
        fields = vars(module)
        buffers = {key: buffer if buffer is None else buffer.clone() for key, buffer in module._buffers.items()}
        hooks = {key: OrderedDict(fields[key]) for key in fields if "_hooks" in key and isinstance(fields[key], dict)}
        seeds = {key: copy.deepcopy(value, known) for key, value in fields.items() if _seed_of(value) is not None}
        fields.update(hooks, _buffers=buffers, **seeds)
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
    """Yields the buffers of a module and all below, each with the module that holds it and its name there."""
    for module in target.modules():
        for key, buffer in module._buffers.items():
            if buffer is not None:
                yield module, key, buffer
