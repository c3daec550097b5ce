"""Computing in a layer's own dtype: what `dtype=` and mixed precision do at a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kstyle_torch import tree


class PreciseForward:
    """The `forward` of a layer whose dtype was chosen: float inputs and outputs are in its compute dtype.

    With a mixed policy the layer runs under `torch.autocast`, so that its float32 weights meet inputs of fewer bits.

    Args:
        layer: Whose.
        compute_dtype: Of inputs and outputs.
        mixed: Whether the weights are in another.
    """

    def __init__(self, layer: Any, compute_dtype: torch.dtype, mixed: bool):
        self.layer, self.dtype, self.mixed = layer, compute_dtype, mixed

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.around(type(self.layer).forward, args, kwargs)

    def around(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The call `function(layer, *args, **kwargs)`, likewise."""
        if len(args) == 1 and not kwargs and isinstance(args[0], Tensor):
            args = (self._cast(args[0]),)
        else:
            args, kwargs = tree.map_structure(self._cast, (args, kwargs))
        if not self.mixed:
            return function(self.layer, *args, **kwargs)
        device = next((leaf.device.type for leaf in tree.flatten(args) if isinstance(leaf, Tensor)), "cpu")
        with torch.autocast(device, dtype=self.dtype):
            outputs = function(self.layer, *args, **kwargs)
        return tree.map_structure(self._cast, outputs)

    def _cast(self, leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or not leaf.is_floating_point() or leaf.dtype == self.dtype:
            return leaf
        cast: Any = leaf.to(self.dtype)
        if hasattr(leaf, "_keras_mask"):
            cast._keras_mask = leaf._keras_mask
        return cast
