"""What it takes to see a training step as a pure function: its state, and other tensors in the places of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


class CannotCompileError(Exception):
    """Why an epoch of this model cannot be one call."""


class State(NamedTuple):
    """What a step changes, or the tensors that stand for it."""

    weights: list[Tensor]
    slots: list[Tensor]  # of the optimizer
    buffers: list[Tensor]
    counts: list[Tensor]  # of the metrics
    loss: list[Tensor]  # sum so far; first step where it was not finite, and what it was there

    @property
    def flat(self) -> list[Tensor]:
        """All tensors in order."""
        return [tensor for group in self for tensor in group]

    def like(self, flat: Any) -> State:
        """The same groups, of other tensors."""
        ends = accumulate([len(group) for group in self], initial=0)
        return State(*(list(flat[start:stop]) for start, stop in pairwise(ends)))


class NoRandomNumbers(TorchDispatchMode):
    """Does not let torch draw: every step of a compiled loop would have the same numbers, or others than ordinary steps."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise CannotCompileError("its layers draw random numbers, as Dropout does")
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def replaced(model: nn.Module, pairs: list[tuple[Any, Tensor]]) -> Iterator[None]:
    """Puts other tensors in the places of parameters and buffers."""
    by_id = {id(old): new for old, new in pairs}
    owners = [owner for module in model.modules() for owner in (module._parameters, module._buffers)]
    before = [dict(owner) for owner in owners]
    try:
        for owner in owners:
            for name, tensor in owner.items():
                owner[name] = by_id.get(id(tensor), tensor)  # type: ignore[assignment]
        yield
    finally:
        for owner, held in zip(owners, before, strict=True):
            owner.update(held)  # type: ignore[arg-type]
