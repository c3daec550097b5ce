"""Losses that `add_loss` collects. Each outermost call clears them.

A run of `fit`, `evaluate` or `predict` collects them in its own dict, so that threads do not interfere. When it ends, the
layers get the losses of its last call, detached.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from kstyle_torch._torch import is_compiling
from kstyle_torch.mode import running

# Layers that hold losses of a call, by id. It is empty in nearly every program, and calls then skip the search. Compiled
# code must not read it: torch's compiler would guard on its entries, which may be freed while it compiles.
pending: dict[int, weakref.ref[Any]] = {}


def note(layer: Any) -> None:
    """Registers a layer that holds losses."""
    key = id(layer)
    pending[key] = weakref.ref(layer, lambda _: pending.pop(key, None))


def forget(layer: Any) -> None:
    """Clears the losses that the layer and those inside it added in the previous call."""
    by_layer = running.losses
    for each in layer._flatten_layers():
        if by_layer is not None:
            by_layer.pop(id(each), None)
        elif is_compiling():
            if each._added_losses:
                each._added_losses.clear()
        elif pending.pop(id(each), None) is not None:
            each._added_losses.clear()


def keep(layers: Iterable[tuple[Any, Any]], by_layer: dict[int, list[Any]]) -> None:
    """Sets the losses that a run has collected on their layers.

    Args:
        layers: Pairs of the layer that has run and the layer that gets its losses: the same one, or its original.
        by_layer: The losses by the id of the layer that has run.
    """
    outer = running.losses  # of the outer run, if this one was started by a callback
    for ran, layer in layers:
        found = [loss.detach() if isinstance(loss, Tensor) else loss for loss in by_layer.get(id(ran), ())]
        if found or id(layer) in pending:
            layer._added_losses[:] = found
            note(layer) if found else pending.pop(id(layer), None)
        if outer is not None and (found or id(layer) in outer):
            outer[id(layer)] = [*found]
