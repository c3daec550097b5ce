"""Layers that change the shape of their input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from kstyle_torch.layer.base import Layer, layer_registry
from kstyle_torch.layer.checks import positive_int
from kstyle_torch.layer.spatial import check_data_format

register = layer_registry.register


@register()
class Flatten(Layer):
    """Flattening of all axes except the batch, channels varying fastest.

    Args:
        data_format: `"channels_first"` moves the channels to the end before; `"channels_last"` if None.
    Input shape: (batch, ...). Output shape: (batch, product of the rest).

    Example:
        >>> Flatten()(torch.ones(2, 3, 4)).shape
        torch.Size([2, 12])
    """

    def __init__(self, data_format: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.data_format = check_data_format(data_format, self)

    def forward(self, inputs: Tensor) -> Tensor:
        if self.data_format == "channels_first" and inputs.ndim > 2:
            inputs = inputs.movedim(1, -1)
        return inputs.flatten(1) if inputs.ndim > 1 else inputs.unsqueeze(1)


@register()
class Reshape(Layer):
    """Layer that reshapes each sample.

    Args:
        target_shape: Shape of one sample; one size may be -1 or None, and is inferred.
    Input shape: (batch, ...). Output shape: (batch, *target_shape).
    Raises: ValueError: if a sample does not hold as many numbers as the shape.

    Example:
        >>> Reshape((3, -1))(torch.ones(2, 12)).shape
        torch.Size([2, 3, 4])
    """

    _has_nothing_to_build = True

    def __init__(self, target_shape: Sequence[int | None], **kwargs: Any):
        super().__init__(**kwargs)
        self.target_shape = (target_shape,) if isinstance(target_shape, int) else tuple(target_shape)
        if self.target_shape.count(-1) + self.target_shape.count(None) > 1:
            raise ValueError(f"Reshape: at most one size may be -1 or None; got {self.target_shape}.")

    def forward(self, inputs: Tensor) -> Tensor:
        size = math.prod(inputs.shape[1:])
        sizes = [-1 if n is None else n for n in self.target_shape]
        rest = math.prod([n for n in sizes if n != -1])  # dynamo does not support generators
        target = tuple(size // max(rest, 1) if n == -1 else n for n in sizes)
        if math.prod(target) != size:
            raise ValueError(
                f"{self.name}: a sample of shape {tuple(inputs.shape[1:])} cannot be reshaped to {self.target_shape}."
            )
        return inputs.reshape(inputs.shape[0], *target)


@register()
class Permute(Layer):
    """Permutation of the axes of each sample.

    Args:
        dims: New order of the axes, counted from 1: `(2, 1)` swaps the two axes of a sample.
    Input shape: (batch, ...), with as many axes as `dims`. Output shape: (batch, ...).
    Raises: ValueError: if `dims` is not a permutation of 1, 2, ...

    Example:
        >>> Permute((2, 1))(torch.ones(2, 10, 64)).shape
        torch.Size([2, 64, 10])
    """

    def __init__(self, dims: Sequence[int], **kwargs: Any):
        super().__init__(**kwargs)
        self.dims = (dims,) if isinstance(dims, int) else tuple(dims)
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ValueError(
                f"{self.name}: dims must contain each axis once, counted from 1, such as (2, 1); got {dims!r}."
            )
        self._order = (0, *self.dims)

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.ndim != len(self._order):
            raise ValueError(
                f"{self.name}: dims {self.dims} need an input of rank {len(self._order)}; got shape {tuple(inputs.shape)}."
            )
        return inputs.permute(self._order)


@register()
class RepeatVector(Layer):
    """Repetition of each vector as the steps of a sequence.

    Args:
        n: Number of steps, a positive int.
    Input shape: (batch, features). Output shape: (batch, n, features), a view that holds every vector once.
    Raises: ValueError: if `n` is not a positive int.

    Example:
        >>> RepeatVector(3)(torch.ones(2, 32)).shape
        torch.Size([2, 3, 32])
    """

    def __init__(self, n: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.n = positive_int(n, "n", self)

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.ndim != 2:
            raise ValueError(
                f"{self.name}: expected an input of shape (batch, features); got shape {tuple(inputs.shape)}."
            )
        return inputs.unsqueeze(1).expand(-1, self.n, -1)
