"""TorchModule: any `nn.Module` as a layer."""

from __future__ import annotations

from typing import Any

from torch import nn

from kstyle_torch.layer.base import Layer, layer_registry
from kstyle_torch.mode import holding

register = layer_registry.register


@register("TorchModuleWrapper")
class TorchModule(Layer):
    """Any `nn.Module` as a layer, so that it has a name and can be called on symbolic tensors.

    Args:
        module: The module; it is used itself, not copied.

    Example:
        >>> TorchModule(torch.nn.Linear(3, 2))(torch.ones(1, 3)).shape
        torch.Size([1, 2])
    """

    _has_nothing_to_build = True
    _allow_non_tensor_positional_args = True
    _says_where_masks_end = False  # torch's modules know of no masks

    def __init__(self, module: nn.Module, name: str | None = None, **kwargs: Any):
        if not isinstance(module, nn.Module):
            raise TypeError(f"TorchModule wraps an nn.Module; got {type(module).__name__}.")
        super().__init__(name=name, **kwargs)
        self.module = module
        if kwargs.get("dtype") is None:
            self._follow_weights_of(module)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if self.module.training and not self.trainable:  # normalization below runs in inference mode
            with holding(self, True) as held:
                return held.module(*args, **kwargs)
        return self.module(*args, **kwargs)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Returns a layer from what `get_config` gave.

        Raises: ValueError: for Keras' config of such a layer, which holds the module as a pickle.
        """
        if isinstance(config.get("module"), str):
            raise ValueError(
                f"The torch module of layer {config.get('name')!r} is stored as a pickle, which could do anything when loaded, "
                "so it is not. Make the model in code and load its weights."
            )
        return super().from_config(config)
