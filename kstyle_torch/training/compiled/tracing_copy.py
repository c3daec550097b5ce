"""Copies of models in which traced tensors replace weights, statistics and metric state.

The model itself never holds a traced tensor, since other threads may use it at the same time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from kstyle_torch.layer.module_walk import set_unnoticed
from kstyle_torch.mode import sharing_copy
from kstyle_torch.training import step as steps
from kstyle_torch.training.protocols import Trainable


def tracing_copy(model: Trainable) -> Any:
    """Returns a copy of a compiled model that shares all tensors, with its own tables of them and its own metrics."""
    holders = [(each, each.training) for each in model.modules() if each._parameters or each._buffers]
    copy = sharing_copy(model, holders)
    for module in copy.modules():
        if module._parameters or module._buffers:
            places = {"_parameters": {**module._parameters}, "_buffers": {**module._buffers}}
            vars(module).update(places)
    set_unnoticed(copy, _compiled=model._compiled.with_own_metrics())
    steps.note_losses(copy)
    return copy


@contextlib.contextmanager
def replaced(copy: nn.Module, pairs: list[tuple[Any, Tensor]]) -> Iterator[None]:
    """Replaces parameters and buffers of a tracing copy in the block."""
    by_id = {id(old): new for old, new in pairs}
    owners = [owner for module in copy.modules() for owner in (module._parameters, module._buffers)]
    before = [dict(owner) for owner in owners]
    try:
        for owner in owners:
            for name, tensor in owner.items():
                owner[name] = by_id.get(id(tensor), tensor)  # type: ignore[assignment]
        yield
    finally:
        for owner, held in zip(owners, before, strict=True):
            owner.update(held)  # type: ignore[arg-type]
