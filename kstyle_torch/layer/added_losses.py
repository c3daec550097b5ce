"""Losses that `add_loss` collects outside of `fit`: each outermost call starts again."""

from __future__ import annotations

import weakref
from typing import Any

# Layers that hold losses of a call, by id. While it is empty, as in nearly every program, calls need not look.
pending: dict[int, weakref.ref[Any]] = {}


def note(layer: Any) -> None:
    """Says that a layer holds losses."""
    key = id(layer)
    pending[key] = weakref.ref(layer, lambda _: pending.pop(key, None))


def forget(layer: Any) -> None:
    """Forgets what the layer and those below added in the call before."""
    for each in layer._flatten_layers():
        if pending.pop(id(each), None) is not None:
            each._added_losses.clear()
