"""What `add_loss` collects belongs to one call of the outermost model: the next one starts again."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any


class _Running(threading.local):
    depth = 0


running = _Running()  # how many models' calls are going on, each within the one before
met = False  # whether a layer of this process has called add_loss: before that, nothing needs to be looked after


def note() -> None:
    """Says that a layer has called `add_loss`."""
    global met
    met = True


@contextlib.contextmanager
def one_call(model: Any) -> Iterator[None]:
    """The length of a model's call. The outermost forgets the losses of the call before, its sub-models keep theirs."""
    if not running.depth:
        for layer in model._flatten_layers():
            layer._losses.clear()
    running.depth += 1
    try:
        yield
    finally:
        running.depth -= 1
