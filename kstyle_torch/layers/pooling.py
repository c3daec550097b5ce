"""Pooling: over windows, adaptive, and global."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from kstyle_torch.layer.base import layer_registry
from kstyle_torch.layer.casts import INTEGERS
from kstyle_torch.layer.shapes import Shape
from kstyle_torch.layer.spatial import SpatialLayer, check_padding, defaults, same_padding, sizes

register = layer_registry.register


class Pooling(SpatialLayer):
    """Base of the layers that pool over windows.

    It has no native module, which would hold no weights; and `padding="same"` depends on each input's size.

    Args:
        pool_size: Size of the window; an int or one for each axis.
        strides: Step of the window; `pool_size` if None.
        padding: `"valid"` (none) or `"same"` (as many windows as `size / stride`, rounded up).
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
    """

    kernel: ClassVar[Callable[..., Tensor]]
    options: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        pool_size: int | Sequence[int] = 2,
        strides: int | Sequence[int] | None = None,
        padding: str = "valid",
        data_format: str | None = None,
        name: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(data_format, name=name, **kwargs)
        self.pool_size = sizes(pool_size, self.rank, "pool_size", self)
        self.strides = self.pool_size if strides is None else sizes(strides, self.rank, "strides", self)
        self.padding = check_padding(padding, self)
        # an additional row before if one is needed after and `ceil_mode` adds none; its window is dropped
        self._extra = [int(step == 1 and size % 2 == 0) for size, step in zip(self.pool_size, self.strides)]
        dropped = (slice(None), slice(None), *(slice(n, None) for n in self._extra))
        self._kept = dropped if any(self._extra) else None

    def build(self, input_shape: Shape) -> None:
        self._check_rank(input_shape)
        if self.padding == "valid":
            self._check_window(input_shape, self.pool_size, "pool_size")

    def forward(self, inputs: Tensor) -> Tensor:
        return self.pool(inputs)

    def pool(self, x: Tensor, finish: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Returns the output; `finish` may change it in place."""
        if x.ndim != self.rank + 2:
            self._check_rank(x.shape)
        if self._permutes:
            x = x.permute(self._to_first)
        if self.padding == "valid":
            y = self.kernel(x, self.pool_size, self.strides, **self.options)
        else:
            y = self._pool_same(x)
        y = y if finish is None else finish(y)
        return y.permute(self._to_last) if self._permutes else y

    def _pool_same(self, x: Tensor) -> Tensor:
        """Pools without a padded copy: torch pads symmetrically, and `ceil_mode` covers Keras' padding at the end."""
        axes = zip(x.shape[2:], self.pool_size, self.strides, self._extra)
        padding = [same_padding(size, window, stride)[0] + extra for size, window, stride, extra in axes]
        y = self.kernel(x, self.pool_size, self.strides, padding, ceil_mode=True, **self.options)
        return y if self._kept is None else y[self._kept]


class AveragePooling(Pooling):
    """Base of the layers that average over windows; padding does not count. The arguments are those of `Pooling`."""

    options = {"count_include_pad": False}


class GlobalPooling(SpatialLayer):
    """Base of the layers that pool over all axes except batch and channels.

    Args:
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
        keepdims: Whether to keep the pooled axes with size 1.
    """

    def __init__(self, data_format: str | None = None, keepdims: bool = False, **kwargs: Any):
        super().__init__(data_format, **kwargs)
        self.keepdims = keepdims
        self._axes = tuple(range(self._first_axis, self._first_axis + self.rank))


class GlobalAveragePooling(GlobalPooling):
    """Base of the layers that take the mean. The arguments are those of `GlobalPooling`."""

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.ndim != self.rank + 2:
            self._check_rank(inputs.shape)
        if inputs.dtype in INTEGERS:
            inputs = inputs.to(self._dtype)
        return inputs.mean(self._axes, self.keepdims)


class GlobalMaxPooling(GlobalPooling):
    """Base of the layers that take the largest value. The arguments are those of `GlobalPooling`."""

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.ndim != self.rank + 2:
            self._check_rank(inputs.shape)
        return inputs.amax(self._axes, self.keepdims)


class AdaptivePooling(SpatialLayer):
    """Base of the layers that divide any input into the same number of windows.

    Args:
        output_size: Number of windows; an int or one for each axis.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
    """

    kernel: ClassVar[Callable[..., Tensor]]

    def __init__(self, output_size: int | Sequence[int], data_format: str | None = None, **kwargs: Any):
        super().__init__(data_format, **kwargs)
        self.output_size = sizes(output_size, self.rank, "output_size", self)

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.ndim != self.rank + 2:
            self._check_rank(inputs.shape)
        if self._permutes:
            return self.kernel(inputs.permute(self._to_first), self.output_size).permute(self._to_last)
        return self.kernel(inputs, self.output_size)


def _max_pool1d(
    x: Tensor, size: Sequence[int], strides: Sequence[int], padding: Sequence[int] = (0,), ceil_mode: bool = False
) -> Tensor:
    """Returns `torch.max_pool1d` of (batch, channels, steps), as an image of one row.

    Up to six times as fast without gradients, if the channels are last in memory.
    """
    return torch.max_pool2d(x.unsqueeze(2), (1, *size), (1, *strides), (0, *padding), ceil_mode=ceil_mode).squeeze(2)


def _max_pool3d(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Returns `torch.max_pool3d`; 8-bit integers run in int32, since torch's kernel also counts elements in their dtype."""
    if x.dtype in (torch.uint8, torch.int8):
        return torch.max_pool3d(x.int(), *args, **kwargs).to(x.dtype)
    return torch.max_pool3d(x, *args, **kwargs)


@register("MaxPool1D")
class MaxPooling1D(Pooling):
    """The largest value of every window of a sequence. The arguments are those of `Pooling`.

    Input shape: (batch, steps, channels), or (batch, channels, steps) with channels_first.

    Example:
        >>> MaxPooling1D()(torch.ones(1, 28, 3)).shape
        torch.Size([1, 14, 3])
    """

    rank = 1
    kernel = staticmethod(_max_pool1d)


@register("MaxPool2D")
@defaults(pool_size=(2, 2))
class MaxPooling2D(Pooling):
    """The largest value of every window of an image. The arguments are those of `Pooling`.

    Input shape: (batch, height, width, channels), or (batch, channels, height, width) with channels_first.

    Example:
        >>> MaxPooling2D()(torch.ones(1, 28, 28, 3)).shape
        torch.Size([1, 14, 14, 3])
    """

    rank = 2
    kernel = staticmethod(torch.max_pool2d)


@register("MaxPool3D")
@defaults(pool_size=(2, 2, 2))
class MaxPooling3D(Pooling):
    """The largest value of every window of a volume. The arguments are those of `Pooling`.

    Input shape: (batch, depth, height, width, channels), or (batch, channels, depth, height, width) with channels_first.

    Example:
        >>> MaxPooling3D()(torch.ones(1, 8, 8, 8, 3)).shape
        torch.Size([1, 4, 4, 4, 3])
    """

    rank = 3
    kernel = staticmethod(_max_pool3d)


@register("AvgPool1D")
class AveragePooling1D(AveragePooling):
    """The mean of every window of a sequence. The arguments are those of `Pooling`.

    Input shape: (batch, steps, channels), or (batch, channels, steps) with channels_first.

    Example:
        >>> AveragePooling1D(2)(torch.ones(1, 28, 3)).shape
        torch.Size([1, 14, 3])
    """

    rank = 1
    kernel = staticmethod(F.avg_pool1d)


@register("AvgPool2D")
class AveragePooling2D(AveragePooling):
    """The mean of every window of an image. The arguments are those of `Pooling`.

    Input shape: (batch, height, width, channels), or (batch, channels, height, width) with channels_first.

    Example:
        >>> AveragePooling2D(2)(torch.ones(1, 28, 28, 3)).shape
        torch.Size([1, 14, 14, 3])
    """

    rank = 2
    kernel = staticmethod(F.avg_pool2d)


@register("AvgPool3D")
class AveragePooling3D(AveragePooling):
    """The mean of every window of a volume. The arguments are those of `Pooling`.

    Input shape: (batch, depth, height, width, channels), or (batch, channels, depth, height, width) with channels_first.

    Example:
        >>> AveragePooling3D(2)(torch.ones(1, 8, 8, 8, 3)).shape
        torch.Size([1, 4, 4, 4, 3])
    """

    rank = 3
    kernel = staticmethod(F.avg_pool3d)


@register("GlobalMaxPool1D")
class GlobalMaxPooling1D(GlobalMaxPooling):
    """The largest value of every channel of a sequence. The arguments are those of `GlobalPooling`.

    Input shape: (batch, steps, channels), or (batch, channels, steps) with channels_first.

    Example:
        >>> GlobalMaxPooling1D()(torch.ones(1, 28, 3)).shape
        torch.Size([1, 3])
    """

    rank = 1


@register("GlobalMaxPool2D")
class GlobalMaxPooling2D(GlobalMaxPooling):
    """The largest value of every channel of an image. The arguments are those of `GlobalPooling`.

    Input shape: (batch, height, width, channels), or (batch, channels, height, width) with channels_first.

    Example:
        >>> GlobalMaxPooling2D()(torch.ones(1, 28, 28, 3)).shape
        torch.Size([1, 3])
    """

    rank = 2


@register("GlobalMaxPool3D")
class GlobalMaxPooling3D(GlobalMaxPooling):
    """The largest value of every channel of a volume. The arguments are those of `GlobalPooling`.

    Input shape: (batch, depth, height, width, channels), or (batch, channels, depth, height, width) with channels_first.

    Example:
        >>> GlobalMaxPooling3D()(torch.ones(1, 8, 8, 8, 3)).shape
        torch.Size([1, 3])
    """

    rank = 3


@register("GlobalAvgPool1D")
class GlobalAveragePooling1D(GlobalAveragePooling):
    """The mean of every channel of a sequence, over the steps that are not masked. The arguments are those of `GlobalPooling`.

    Input shape: (batch, steps, channels), or (batch, channels, steps) with channels_first.

    Example:
        >>> GlobalAveragePooling1D()(torch.ones(1, 28, 3)).shape
        torch.Size([1, 3])
    """

    rank = 1

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is None:
            return super().forward(inputs)
        mask = mask.bool().unsqueeze(2 if self._permutes else 1)
        axis = self._first_axis
        return inputs.masked_fill(~mask, 0).sum(axis, self.keepdims) / mask.sum(axis, self.keepdims)

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        """Returns None, since the output has no steps."""


GlobalAveragePooling1D._makes_mask = False  # its output has no mask, so calls may take the fast path


@register("GlobalAvgPool2D")
class GlobalAveragePooling2D(GlobalAveragePooling):
    """The mean of every channel of an image. The arguments are those of `GlobalPooling`.

    Input shape: (batch, height, width, channels), or (batch, channels, height, width) with channels_first.

    Example:
        >>> GlobalAveragePooling2D()(torch.ones(1, 28, 28, 3)).shape
        torch.Size([1, 3])
    """

    rank = 2


@register("GlobalAvgPool3D")
class GlobalAveragePooling3D(GlobalAveragePooling):
    """The mean of every channel of a volume. The arguments are those of `GlobalPooling`.

    Input shape: (batch, depth, height, width, channels), or (batch, channels, depth, height, width) with channels_first.

    Example:
        >>> GlobalAveragePooling3D()(torch.ones(1, 8, 8, 8, 3)).shape
        torch.Size([1, 3])
    """

    rank = 3


@register()
class AdaptiveAveragePooling1D(AdaptivePooling):
    """The means of a fixed number of windows of a sequence. The arguments are those of `AdaptivePooling`.

    Input shape: (batch, steps, channels), or (batch, channels, steps) with channels_first.

    Example:
        >>> AdaptiveAveragePooling1D(3)(torch.ones(1, 28, 3)).shape
        torch.Size([1, 3, 3])
    """

    rank = 1
    kernel = staticmethod(F.adaptive_avg_pool1d)


@register()
class AdaptiveAveragePooling2D(AdaptivePooling):
    """The means of a fixed number of windows of an image. The arguments are those of `AdaptivePooling`.

    Input shape: (batch, height, width, channels), or (batch, channels, height, width) with channels_first.

    Example:
        >>> AdaptiveAveragePooling2D(3)(torch.ones(1, 28, 28, 3)).shape
        torch.Size([1, 3, 3, 3])
    """

    rank = 2
    kernel = staticmethod(F.adaptive_avg_pool2d)


@register()
class AdaptiveAveragePooling3D(AdaptivePooling):
    """The means of a fixed number of windows of a volume. The arguments are those of `AdaptivePooling`.

    Input shape: (batch, depth, height, width, channels), or (batch, channels, depth, height, width) with channels_first.

    Example:
        >>> AdaptiveAveragePooling3D(3)(torch.ones(1, 8, 8, 8, 3)).shape
        torch.Size([1, 3, 3, 3, 3])
    """

    rank = 3
    kernel = staticmethod(F.adaptive_avg_pool3d)


@register()
class AdaptiveMaxPooling1D(AdaptivePooling):
    """The largest values of a fixed number of windows of a sequence. The arguments are those of `AdaptivePooling`.

    Input shape: (batch, steps, channels), or (batch, channels, steps) with channels_first.

    Example:
        >>> AdaptiveMaxPooling1D(3)(torch.ones(1, 28, 3)).shape
        torch.Size([1, 3, 3])
    """

    rank = 1
    kernel = staticmethod(F.adaptive_max_pool1d)


@register()
class AdaptiveMaxPooling2D(AdaptivePooling):
    """The largest values of a fixed number of windows of an image. The arguments are those of `AdaptivePooling`.

    Input shape: (batch, height, width, channels), or (batch, channels, height, width) with channels_first.

    Example:
        >>> AdaptiveMaxPooling2D(3)(torch.ones(1, 28, 28, 3)).shape
        torch.Size([1, 3, 3, 3])
    """

    rank = 2
    kernel = staticmethod(F.adaptive_max_pool2d)


@register()
class AdaptiveMaxPooling3D(AdaptivePooling):
    """The largest values of a fixed number of windows of a volume. The arguments are those of `AdaptivePooling`.

    Input shape: (batch, depth, height, width, channels), or (batch, channels, depth, height, width) with channels_first.

    Example:
        >>> AdaptiveMaxPooling3D(3)(torch.ones(1, 8, 8, 8, 3)).shape
        torch.Size([1, 3, 3, 3, 3])
    """

    rank = 3
    kernel = staticmethod(F.adaptive_max_pool3d)
