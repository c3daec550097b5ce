"""Cropping and zero padding of sequences, images and volumes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from kstyle_torch.layer.base import layer_registry
from kstyle_torch.layer.spatial import SpatialLayer, defaults, flat_pads, sizes

register = layer_registry.register

Pairs = tuple[tuple[int, int], ...]


def pairs(value: Any, rank: int, name: str, layer: Any) -> Pairs:
    """Returns (before, after) for each axis, from one number for all, one for each axis, or pairs.

    Raises: ValueError: if their number is not `rank` or one is negative.
    """
    entries = tuple(value) if isinstance(value, Iterable) else (value,) * rank
    if rank == 1:  # two numbers for a sequence are a pair
        entries = (value,)
    if len(entries) != rank:
        raise ValueError(
            f"{type(layer).__name__}: {name} must be an int, {rank} ints or {rank} pairs of ints; got {value!r}."
        )
    return tuple(sizes(entry, 2, name, layer, minimum=0) for entry in entries)  # type: ignore[misc]


class Cropping(SpatialLayer):
    """Base of cropping layers.

    Args:
        cropping: Amount; an int, one for each axis, or a pair (before, after) for each axis.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
    """

    def __init__(self, cropping: Any, data_format: str | None = None, **kwargs: Any):
        super().__init__(data_format, **kwargs)
        self._cuts = pairs(cropping, self.rank, "cropping", self)
        self.cropping = self._cuts if self.rank > 1 else self._cuts[0]
        inner = tuple(slice(before, -after if after else None) for before, after in self._cuts)
        self._inner = (*(slice(None),) * self._first_axis, *inner)

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.ndim != self.rank + 2:
            self._check_rank(inputs.shape)
        y = inputs[self._inner]
        if 0 in y.shape[1:]:
            raise ValueError(f"{self.name}: cropping {self.cropping} leaves nothing of shape {tuple(inputs.shape)}.")
        return y


@register()
class Cropping1D(Cropping):
    """Cropping of steps at both ends of a sequence.

    Args:
        cropping: Number of steps; an int, or a pair (before, after).
    Input shape: (batch, steps, channels).
    Raises: ValueError: if nothing is left of an input.

    Example:
        >>> Cropping1D((1, 2))(torch.ones(1, 10, 3)).shape
        torch.Size([1, 7, 3])
    """

    rank = 1

    def __init__(self, cropping: int | tuple[int, int] = (1, 1), **kwargs: Any):
        super().__init__(cropping, "channels_last", **kwargs)


@register()
class Cropping2D(Cropping):
    """Cropping of images.

    Args:
        cropping: Amount; an int, one for height and one for width, or ((top, bottom), (left, right)).
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
    Input shape: (batch, height, width, channels), or (batch, channels, height, width) with channels_first.
    Raises: ValueError: if nothing is left of an input.

    Example:
        >>> Cropping2D(((2, 2), (4, 4)))(torch.ones(1, 28, 28, 3)).shape
        torch.Size([1, 24, 20, 3])
    """

    rank = 2

    def __init__(self, cropping: Any = ((0, 0), (0, 0)), data_format: str | None = None, **kwargs: Any):
        super().__init__(cropping, data_format, **kwargs)


@register()
class Cropping3D(Cropping):
    """Cropping of volumes.

    Args:
        cropping: Amount; an int, one for each axis, or a pair (before, after) for each axis.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
    Input shape: (batch, depth, height, width, channels), or with the channels after the batch for channels_first.
    Raises: ValueError: if nothing is left of an input.

    Example:
        >>> Cropping3D((2, 4, 2))(torch.ones(1, 28, 28, 10, 3)).shape
        torch.Size([1, 24, 20, 6, 3])
    """

    rank = 3

    def __init__(self, cropping: Any = ((1, 1), (1, 1), (1, 1)), data_format: str | None = None, **kwargs: Any):
        super().__init__(cropping, data_format, **kwargs)


class ZeroPadding(SpatialLayer):
    """Base of zero-padding layers.

    Args:
        padding: How many; an int, one an axis, or a pair (before, after) an axis. For `ZeroPadding1D`, whose axis is one,
            two numbers are the pair.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
    """

    def __init__(self, padding: Any = 1, data_format: str | None = None, **kwargs: Any):
        super().__init__(data_format, **kwargs)
        around = pairs(padding, self.rank, "padding", self)
        self.padding = around if self.rank > 1 else around[0]
        self._pads = (0, 0, *flat_pads(around)) if self._permutes else flat_pads(around)

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.ndim != self.rank + 2:
            self._check_rank(inputs.shape)
        return F.pad(inputs, self._pads)


@register()
class ZeroPadding1D(ZeroPadding):
    """Padding of sequences with zeros. The arguments are those of `ZeroPadding`.

    Input shape: (batch, steps, channels), or (batch, channels, steps) with channels_first.

    Example:
        >>> ZeroPadding1D((1, 0))(torch.ones(1, 2, 1)).flatten()
        tensor([0., 1., 1.])
    """

    rank = 1


@register()
@defaults(padding=(1, 1))
class ZeroPadding2D(ZeroPadding):
    """Padding of images with zeros. The arguments are those of `ZeroPadding`.

    Input shape: (batch, height, width, channels), or (batch, channels, height, width) with channels_first.

    Example:
        >>> ZeroPadding2D(((1, 0), (2, 2)))(torch.ones(1, 8, 8, 3)).shape
        torch.Size([1, 9, 12, 3])
    """

    rank = 2


@register()
@defaults(padding=((1, 1), (1, 1), (1, 1)))
class ZeroPadding3D(ZeroPadding):
    """Padding of volumes with zeros. The arguments are those of `ZeroPadding`.

    Input shape: (batch, depth, height, width, channels), or with the channels after the batch for channels_first.

    Example:
        >>> ZeroPadding3D(2)(torch.ones(1, 8, 8, 8, 3)).shape
        torch.Size([1, 12, 12, 12, 3])
    """

    rank = 3
