"""The symbolic ends of a layer in a graph: `layer.input` and `layer.output`."""

from __future__ import annotations

from typing import Any


class SymbolicEnd:
    """Descriptor of `input` and `output` of a layer in a graph. A child or weight of the same name takes precedence."""

    def __init__(self, which: str):
        self.which = which

    def __get__(self, layer: Any, owner: type) -> Any:
        if layer is None:
            return self
        for children in (layer._modules, layer._parameters, layer._buffers):
            if self.which in children:
                return children[self.which]
        return layer._symbols(self.which)
