"""Forward functions generated from a model's graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from kstyle_torch.layer.base import Layer


class Emitted:
    """The functions, each generated on first use.

    Args:
        run: `run(model, inputs)`.
        modules: The modules that it calls.
    """

    __slots__ = ("classes", "integer_readers", "masked", "run", "straight")

    def __init__(self, run: Callable[[Any, Any], Any], modules: Iterable[Any] = ()):
        self.run = run
        self.classes = tuple({type(module): None for module in modules if isinstance(module, Layer)})
        self.masked: dict[Any, Callable[..., Any]] = {}  # by the axes of the masks
        self.straight: dict[Any, Callable[[Any, Any], Any] | None] = {}  # for the inner loops
        self.integer_readers: dict[int, Layer] | None = None
