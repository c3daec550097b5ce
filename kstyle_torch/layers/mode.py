"""Training or inference mode for the length of a block."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn

from kstyle_torch.layers.walk import modules_of, set_unnoticed


@contextlib.contextmanager
def switched_mode(module: nn.Module, training: bool) -> Iterator[None]:
    """Puts a module and all below it into a mode, and each back into what it had. Not safe between threads."""
    switched = [child for child in modules_of(module) if child.training is not training]
    for child in switched:
        set_unnoticed(child, training=training)
    try:
        yield
    finally:
        for child in switched:
            set_unnoticed(child, training=not training)
