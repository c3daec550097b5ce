"""`Merge` of Keras 1: joins branches, as the first layer of a `Sequential` with several inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from kstyle_torch.layer.base import Layer, layer_registry
from kstyle_torch.layers.merging import Add, Average, Concatenate, Dot, Maximum, Multiply

MODES = {"sum": Add, "mul": Multiply, "ave": Average, "max": Maximum, "concat": Concatenate, "dot": Dot, "cos": Dot}


@layer_registry.register()
class Merge(Layer):
    """Layer that runs a branch on each of its inputs and merges the outputs.

    Args:
        layers: Layers or models, one for each input.
        mode: `"sum"`, `"mul"`, `"ave"`, `"max"`, `"concat"`, `"dot"`, `"cos"` or a function of the list of tensors.
        concat_axis: Axis of `"concat"`.
        dot_axes: Axes of `"dot"` and `"cos"`.
    Call arguments:
        inputs: A list of tensors, one for each branch.
    Raises: ValueError: for fewer than two branches, or an unknown mode.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        mode: str | Callable[[list[Tensor]], Tensor] = "sum",
        concat_axis: int = -1,
        dot_axes: int | Sequence[int] = -1,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if not isinstance(layers, (list, tuple)) or len(layers) < 2:
            raise ValueError(f"{self.name}: Merge joins a list of two layers or more; got {layers!r}.")
        if not callable(mode) and mode not in MODES:
            raise ValueError(
                f"{self.name}: mode must be one of {', '.join(map(repr, MODES))}, or a function; got {mode!r}."
            )
        self.mode, self.concat_axis, self.dot_axes = mode, concat_axis, dot_axes
        self.branches = nn.ModuleList(layers)
        self.join: Any = mode if callable(mode) else self._layer_of(mode)

    def _layer_of(self, mode: str) -> Layer:
        if mode == "concat":
            return Concatenate(axis=self.concat_axis)
        if mode in ("dot", "cos"):
            return Dot(axes=self.dot_axes, normalize=mode == "cos")
        made: Layer = MODES[mode]()
        return made

    def call(self, inputs: Sequence[Tensor]) -> Any:
        outputs = [branch(x) for branch, x in zip(self.branches, inputs, strict=True)]
        return self.join(outputs)
