"""Pipeline: a chain of layers as a layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from kstyle_torch.layer.base import Layer, layer_registry

register = layer_registry.register


@register()
class Pipeline(Layer):
    """Chain of preprocessing layers as one layer, which calls them in turn.

    Args:
        layers: Layers or torch modules, in order.
    Output shape: that of the last layer.
    Raises: TypeError: if one is neither.

    Example:
        >>> scale = Rescaling(1 / 255)
        >>> Pipeline([scale, CategoryEncoding(2, output_mode="one_hot")])(torch.tensor([255.0, 0.0]))
        tensor([[0., 1.],
                [1., 0.]])
    """

    _allow_non_tensor_positional_args = True
    _has_precision = _autocast = False  # the inner layers handle it

    def __init__(self, layers: Sequence[nn.Module], name: str | None = None, **kwargs: Any):
        super().__init__(name=name, **kwargs)
        for layer in layers:
            if not isinstance(layer, nn.Module):
                raise TypeError(f"Pipeline takes a list of layers; got {layer!r} in it.")
        self.layers = list(layers)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments; Keras' layer takes no others."""
        return {key: value for key, value in super().get_config().items() if key in ("layers", "name")}

    def forward(self, inputs: Any, training: bool = True, mask: Any = None) -> Any:
        for layer in self.layers:
            outputs = layer(inputs, mask=mask) if "mask" in getattr(layer, "_parameter_names", ()) else layer(inputs)
            mask = layer.compute_mask(inputs, mask) if isinstance(layer, Layer) else None
            inputs = outputs
        return inputs
