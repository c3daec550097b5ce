"""Wrapper layers: Wrapper and TimeDistributed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kstyle_torch import tree
from kstyle_torch._torch import BATCH_NORM
from kstyle_torch.layer.base import Layer, layer_registry
from kstyle_torch.layer.custom_objects import TakesCustomObjects
from kstyle_torch.layer.shapes import Shape
from kstyle_torch.layers.batch_normalization import BatchNormalization

register = layer_registry.register
BATCH_NORMS = (BatchNormalization, BATCH_NORM)


@register()
class Wrapper(TakesCustomObjects, Layer):
    """Base of wrapper layers; a subclass uses `self.layer` in its `call`.

    Args:
        layer: The layer.
    Raises: ValueError: if it is not a layer.

    Example:
        >>> from kstyle_torch.layers import Dense
        >>> class Twice(Wrapper):
        ...     def call(self, x):
        ...         return self.layer(self.layer(x))
        >>> Twice(Dense(3))(torch.ones(1, 3)).shape
        torch.Size([1, 3])
    """

    _has_precision = False  # the inner layer handles it
    _opens_call = True

    def __init__(self, layer: Layer, **kwargs: Any):
        super().__init__(**kwargs)
        if not isinstance(layer, Layer):
            hint = " Wrap it: TorchModule(module)." if isinstance(layer, nn.Module) else ""
            raise ValueError(f"{self.name}: expected a layer; got {layer!r}.{hint}")
        self.layer = layer

    def build(self, input_shape: Any = None) -> None:
        self._build_child(self.layer, input_shape)


@register()
class TimeDistributed(Wrapper):
    """Wrapper that applies a layer or a model to each step of a sequence.

    All steps are one large batch, except for layers whose output depends on the batch, that is, with batch normalization
    in training.

    Args:
        layer: The layer or model; its input is one step.
    Input shape: (batch, timesteps, ...). Output shape: likewise, each step replaced by the layer's output for it.
    Raises: ValueError: if the input has fewer than three axes, or the mask does not fit it.

    Example:
        >>> from kstyle_torch.layers import Conv2D
        >>> TimeDistributed(Conv2D(8, 3))(torch.ones(2, 10, 28, 28, 1)).shape
        torch.Size([2, 10, 26, 26, 8])
    """

    supports_masking = True

    def build(self, input_shape: Any) -> None:  # type: ignore[override]
        self._check_rank(input_shape)
        super().build((input_shape[0], *input_shape[2:]))

    def _check_rank(self, shape: Shape) -> None:
        if len(shape) < 3:
            raise ValueError(f"{self.name}: expected an input of shape (batch, timesteps, ...); got {tuple(shape)}.")

    def forward(self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None) -> Any:
        self._check_rank(tuple(inputs.shape))
        if mask is not None and mask.shape[:2] != inputs.shape[:2]:
            raise ValueError(
                f"{self.name}: expected a mask of shape (batch, timesteps, ...), {tuple(inputs.shape[:2])}; got "
                f"{tuple(mask.shape)}."
            )
        mask = mask if "mask" in self.layer._parameter_names else None
        if training and any(isinstance(module, BATCH_NORMS) for module in self.layer.modules()):
            return self._step_by_step(inputs, mask)
        rows = {} if mask is None else {"mask": mask.flatten(0, 1)}
        outputs = self.layer(inputs.flatten(0, 1), **rows)
        return tree.map_structure(lambda y: y.unflatten(0, inputs.shape[:2]), outputs)

    def _step_by_step(self, inputs: Tensor, mask: Tensor | None) -> Any:
        steps = range(inputs.shape[1])
        outputs = [self.layer(inputs[:, i], **({} if mask is None else {"mask": mask[:, i]})) for i in steps]
        return tree.map_structure(lambda *ys: torch.stack(ys, 1), *outputs)
