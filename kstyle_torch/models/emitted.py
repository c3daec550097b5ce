"""Forward functions generated from a model's graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from kstyle_torch import tree
from kstyle_torch.layer.base import Layer
from kstyle_torch.symbolic.graph import Graph, trace
from kstyle_torch.symbolic.replay import replay
from kstyle_torch.symbolic.tensor import SymbolicTensor, mask_on


class Emitted:
    """The functions, each generated on first use.

    Args:
        run: `run(model, inputs)`.
        modules: The modules that it calls.
    """

    __slots__ = ("classes", "integer_readers", "masked", "run", "straight", "types", "users")

    def __init__(self, run: Callable[[Any, Any], Any], modules: Iterable[Any] = ()):
        self.run = run
        self.types = tuple({type(module): None for module in modules})
        self.classes = tuple([cls for cls in self.types if issubclass(cls, Layer)])
        self.users: dict[Any, Callable[[Any, Any], Any]] = {}  # by the classes whose `__call__` is a user's
        self.masked: dict[Any, Callable[..., Any]] = {}  # by the axes of the masks, and by the same classes
        self.straight: dict[Any, Callable[[Any, Any], Any] | None] = {}  # for the inner loops
        self.integer_readers: dict[int, Layer] | None = None


def masked_graph(graph: Graph, axes: tuple[int | None, ...]) -> Graph:
    """Returns a graph whose inputs have masks of that many axes, None for none; layers get them and hand them on."""
    inputs = []
    for ref, source, num_axes in zip(tree.flatten(graph.inputs), graph.sources, axes, strict=True):
        spec = graph.specs[ref.index]
        tensor = SymbolicTensor(spec.shape, spec.dtype, name=source.name)
        tensor.mask = None if num_axes is None else mask_on(tensor, num_axes)
        inputs.append(tensor)
    return trace(inputs, replay(graph, inputs), graph.sources)
