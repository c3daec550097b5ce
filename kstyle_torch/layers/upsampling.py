"""Upsampling of sequences, images and volumes by integer factors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from kstyle_torch.layer.base import layer_registry
from kstyle_torch.layer.spatial import SpatialLayer, defaults, sizes, to_channels_first, to_channels_last
from kstyle_torch.registry import did_you_mean

register = layer_registry.register

INTERPOLATIONS = ("nearest", "bilinear", "bicubic")


class UpSampling(SpatialLayer):
    """Base of the layers that repeat each value along each axis.

    Args:
        size: Number of repeats; an int or one for each axis.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
    """

    def __init__(self, size: int | Sequence[int] = 2, data_format: str | None = None, **kwargs: Any):
        super().__init__(data_format, **kwargs)
        self._factors = sizes(size, self.rank, "size", self)
        self.size: Any = self._factors if self.rank > 1 else self._factors[0]
        with_repeats = (slice(None), None)  # an axis of size 1 after each axis that is repeated
        self._spread = (*(slice(None),) * self._first_axis, *with_repeats * self.rank)

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.ndim != self.rank + 2:
            self._check_rank(inputs.shape)
        # one copy for all axes, and exact: torch's nearest interpolation is off by one for some large factors
        first, last = self._first_axis, self._first_axis + self.rank
        before, lengths, after = inputs.shape[:first], inputs.shape[first:last], inputs.shape[last:]
        spread = [n for pair in zip(lengths, self._factors) for n in pair]
        grown = [length * factor for length, factor in zip(lengths, self._factors)]
        return inputs[self._spread].expand(*before, *spread, *after).reshape(*before, *grown, *after)


@register()
class UpSampling1D(UpSampling):
    """Repetition of each step of a sequence.

    Args:
        size: Number of repeats, a positive int.
    Input shape: (batch, steps, channels). Output shape: (batch, size * steps, channels).
    Raises: ValueError: if `size` is not a positive int.

    Example:
        >>> UpSampling1D(2)(torch.tensor([[[1.0], [2.0]]])).flatten()
        tensor([1., 1., 2., 2.])
    """

    rank = 1

    def __init__(self, size: int = 2, **kwargs: Any):
        super().__init__(size, "channels_last", **kwargs)


@register()
class UpSampling2D(UpSampling):
    """Enlargement of images.

    Args:
        size: Factor; an int, or one for height and one for width.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
        interpolation: `"nearest"` (each pixel is repeated), `"bilinear"` or `"bicubic"`.
    Input shape: (batch, height, width, channels), or (batch, channels, height, width) with channels_first.
    Raises: ValueError: for an interpolation that torch does not have, Keras' lanczos3 and lanczos5 among them.

    Example:
        >>> UpSampling2D((1, 2))(torch.ones(1, 8, 8, 3)).shape
        torch.Size([1, 8, 16, 3])
    """

    rank = 2

    def __init__(
        self,
        size: int | Sequence[int] = (2, 2),
        data_format: str | None = None,
        interpolation: str = "nearest",
        **kwargs: Any,
    ):
        super().__init__(size, data_format, **kwargs)
        self.interpolation = str(interpolation).lower()
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(
                f"{self.name}: unknown interpolation {interpolation!r}.{did_you_mean(interpolation, INTERPOLATIONS)}"
            )

    def forward(self, inputs: Tensor) -> Tensor:
        if self.interpolation == "nearest" or inputs.ndim != 4:
            return super().forward(inputs)
        if not self._permutes:
            return self._interpolate(inputs)
        return to_channels_last(self._interpolate(to_channels_first(inputs)))

    def _interpolate(self, x: Tensor) -> Tensor:
        size = [length * factor for length, factor in zip(x.shape[2:], self.size)]
        if x.dtype.is_floating_point:
            return F.interpolate(x, size, mode=self.interpolation, align_corners=False)
        return F.interpolate(x.float(), size, mode=self.interpolation, align_corners=False).round().to(x.dtype)


@register()
@defaults(size=(2, 2, 2))
class UpSampling3D(UpSampling):
    """Repetition of each value of a volume. The arguments are those of `UpSampling`.

    Input shape: (batch, depth, height, width, channels), or with the channels after the batch for channels_first.

    Example:
        >>> UpSampling3D(2)(torch.ones(1, 4, 4, 4, 3)).shape
        torch.Size([1, 8, 8, 8, 3])
    """

    rank = 3
