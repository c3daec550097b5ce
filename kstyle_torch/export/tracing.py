"""Tracing of a model while other threads train or run it, or layers that it has in common with other models."""

from __future__ import annotations

import contextlib
import copy
import functools
import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec

import torch
from torch import nn

from kstyle_torch.mode import HasMode, all_modules, in_mode, is_used_elsewhere
from kstyle_torch.symbolic.infer import describe, is_separable, isolated
from kstyle_torch.training.run import sole_run

P = ParamSpec("P")

_turns = threading.RLock()  # what torch.export sets meanwhile is the process's: two threads take turns


def leaves_nothing(write: Callable[P, None]) -> Callable[P, None]:
    """Wraps a function that writes a program of torch.export: what it leaves is collected when it is done.

    Closures of torch.export that refer to themselves hold the model, and would keep its weights after `del model` until
    the collector looks at old objects, which can be never. A collection takes a few tenths of a second, less than an export.
    """

    @functools.wraps(write)
    def write_and_collect(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            write(*args, **kwargs)
        finally:
            gc.collect()

    return write_and_collect


@contextlib.contextmanager
def to_trace(model: nn.Module) -> Iterator[Any]:
    """Keeps other threads away from what is traced: tracing hooks modules, and puts stand-ins in the place of weights.

    Yields: The model, whose runs in other threads wait; or a copy of its current state where such a run is active.
    Raises: RuntimeError: if such a run is active, and a copy would run parts of the original.
    """
    has_runs: Any = model if hasattr(model, "_fit") else None
    with _turns, contextlib.nullcontext() if has_runs is None else sole_run(has_runs):
        if not is_used_elsewhere(model):
            yield model
            return
        if not is_separable(model):
            raise RuntimeError(
                f"{describe(model)} cannot be exported while another thread runs it, since its code refers to the model "
                "itself, in a function or an object among its attributes. Export it before or after that run."
            )
        with isolated(model) as held:
            _take_own_weights(held)
            yield held


def _take_own_weights(root: nn.Module) -> None:
    """Gives an isolated copy weights that training in another thread does not change: they are compared and written."""
    copies: dict[int, Any] = {}
    for module in all_modules(root):
        for key, parameter in [*module._parameters.items()]:
            own = copy.deepcopy(parameter, copies)
            if isinstance(module, HasMode):
                module._parameters[key] = own
            else:
                setattr(module, key, own)  # torch's recurrent modules keep a second list


@contextlib.contextmanager
def inference(model: nn.Module) -> Iterator[Any]:
    """Enters inference mode without gradients. Yields: What to trace; see `to_trace`."""
    with to_trace(model) as held, in_mode(held, False) as ready, torch.no_grad():
        yield ready
