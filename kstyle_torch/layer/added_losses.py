"""Losses that `add_loss` collects: each outermost call starts again.

A run of `fit` or its like collects them in a dict of its own, so that threads do not disturb each other. When it ends, the
layers get those of its last call, detached.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from kstyle_torch.mode import running

# Layers that hold losses of a call, by id. While it is empty, as in nearly every program, calls need not look. Compiled
# code must not read it: torch's compiler guards on what it holds, and that may be freed while it compiles.
pending: dict[int, weakref.ref[Any]] = {}


def note(layer: Any) -> None:
    """Says that a layer holds losses."""
    key = id(layer)
    pending[key] = weakref.ref(layer, lambda _: pending.pop(key, None))


def forget(layer: Any) -> None:
    """Forgets what the layer and those below added in the call before."""
    by_layer = running.losses
    for each in layer._flatten_layers():
        if by_layer is not None:
            by_layer.pop(id(each), None)
        elif torch.compiler.is_compiling():
            if each._added_losses:
                each._added_losses.clear()
        elif pending.pop(id(each), None) is not None:
            each._added_losses.clear()


def keep(layers: Iterable[tuple[Any, Any]], by_layer: dict[int, list[Any]]) -> None:
    """Gives layers the losses that a run has collected.

    Args:
        layers: Pairs of the layer that has run, and the one that gets its losses: the same, or that which it is a copy of.
        by_layer: The losses, by the id of the layer that has run.
    """
    outer = running.losses  # of the run around, in a callback of which this one has ended
    for ran, layer in layers:
        found = [loss.detach() if isinstance(loss, Tensor) else loss for loss in by_layer.get(id(ran), ())]
        if found or id(layer) in pending:
            layer._added_losses[:] = found
            note(layer) if found else pending.pop(id(layer), None)
        if outer is not None and (found or id(layer) in outer):
            outer[id(layer)] = [*found]
