"""Identity."""

from __future__ import annotations

from typing import Any

from kstyle_torch.layer.base import Layer, layer_registry

register = layer_registry.register


@register()
class Identity(Layer):
    """Layer that returns its input.

    Output shape: that of the input.

    Example:
        >>> Identity()(torch.ones(2))
        tensor([1., 1.])
    """

    _has_nothing_to_build = True
    supports_masking = True

    def __init__(self, **kwargs: Any):  # no activity_regularizer in the config, as in Keras'
        super().__init__(**kwargs)

    def forward(self, inputs: Any) -> Any:
        return inputs
