"""What it takes to see a training step as a pure function: its state, and other tensors in the places of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kstyle_torch.draws import random_state


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


def has_drawn(before: dict[str, Any]) -> bool:
    """Whether there were random numbers since `random_state()` gave this: torch's, NumPy's or Python's."""
    now = random_state()
    torch_same = torch.equal(now["torch"], before["torch"])
    numpy_same = torch.equal(now["numpy"][1], before["numpy"][1]) and now["numpy"][2:] == before["numpy"][2:]
    return not (torch_same and numpy_same and now["python"] == before["python"])


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
