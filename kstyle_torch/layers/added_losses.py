"""What `add_loss` collects belongs to one outermost call: the next one starts again."""

from __future__ import annotations

from typing import Any

met = False  # whether a layer of this process has called add_loss: before that, nothing needs to be looked after


def note() -> None:
    """Says that a layer has called `add_loss`."""
    global met
    met = True


def forget(layer: Any) -> None:
    """Forgets what the layer and those below added in the call before."""
    for each in layer._flatten_layers():
        each._losses.clear()
