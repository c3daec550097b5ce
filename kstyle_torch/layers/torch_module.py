"""TorchModule: any `nn.Module` as a layer."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from kstyle_torch.layer.base import Layer, layer_registry
from kstyle_torch.mode import holding
from kstyle_torch.registry import custom_object_scope
from kstyle_torch.serialization import in_safe_mode

register = layer_registry.register


@register("TorchModuleWrapper")
class TorchModule(Layer):
    """Any `nn.Module` as a layer, so that it has a name and can be called on symbolic tensors.

    Args:
        module: The module, which is not copied.
        output_shape: Shape of one output sample, for `compute_output_shape`; inferred by running the module if None.

    Example:
        >>> TorchModule(torch.nn.Linear(3, 2))(torch.ones(1, 3)).shape
        torch.Size([1, 2])
    """

    _has_nothing_to_build = True
    _allow_non_tensor_positional_args = True
    _says_where_masks_end = False  # torch modules do not support masks
    _resolves_mode = True

    def __init__(
        self,
        module: nn.Module,
        name: str | None = None,
        output_shape: Sequence[int | None] | None = None,
        **kwargs: Any,
    ):
        if not isinstance(module, nn.Module):
            raise TypeError(f"TorchModule wraps an nn.Module; got {type(module).__name__}.")
        super().__init__(name=name, **kwargs)
        self.module, self.output_shape = module, output_shape
        if kwargs.get("dtype") is None:
            self._follow_weights_of(module)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the output's shape: `output_shape`, or that of a run on zero rows."""
        if self.output_shape is None:
            return super().compute_output_shape(input_shape)
        return tuple(self.output_shape)

    def forward(self, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        if training is not None:
            with holding(self, bool(training)) as held:
                return held.module(*args, **kwargs)
        if self.module.training and not self.trainable:  # normalization layers in it run in inference mode
            with holding(self, True) as held:
                return held.module(*args, **kwargs)
        return self.module(*args, **kwargs)

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None, safe_mode: bool | None = None
    ) -> Any:
        """Returns a layer for a `get_config` dict.

        Args:
            config: The config.
            custom_objects: Classes and functions by name, in addition to registered ones.
            safe_mode: Whether to refuse a pickle; if None, the setting of the function that loads the file.
        Raises: ValueError: in safe mode, for Keras' config of such a layer, which holds the module as a pickle.
        """
        stored = config.get("module")
        if isinstance(stored, str):
            if in_safe_mode() if safe_mode is None else safe_mode:
                raise ValueError(
                    f"The torch module of layer {config.get('name')!r} is stored as a pickle, which can run any code when "
                    "loaded, so it is refused. If you trust the file, pass safe_mode=False; otherwise make the model in "
                    "code and load its weights."
                )
            config = {**config, "module": torch.load(io.BytesIO(base64.b64decode(stored)), weights_only=False)}
        with custom_object_scope(custom_objects):
            return super().from_config(config)
