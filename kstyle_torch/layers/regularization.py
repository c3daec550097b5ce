"""Regularization layers: dropout, noise and activity penalties."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kstyle_torch import regularizers
from kstyle_torch._torch import is_compiling
from kstyle_torch.draws import skip_default_seed
from kstyle_torch.initializers import DType
from kstyle_torch.layer.base import Layer, layer_registry
from kstyle_torch.layer.checks import not_negative
from kstyle_torch.layer.random_layer import RandomLayer
from kstyle_torch.layer.shapes import Shape
from kstyle_torch.layer.spatial import check_data_format
from kstyle_torch.mode import takes_training

register = layer_registry.register


@register()
class Dropout(RandomLayer):
    """Dropout: in training, a random part of the input is set to 0, and the rest scaled by `1 / (1 - rate)`.

    Args:
        rate: Share of elements, 0 to 1.
        noise_shape: Shape of the drawn mask, broadcast over the input; None in it means the input's size.
        seed: Int for reproducible masks.
    Output shape: that of the input.
    Raises: ValueError: if `rate` is not within 0 and 1, or `noise_shape` no sequence of positive ints and None.
    Source: Srivastava et al. 2014.

    Example:
        >>> Dropout(0.5)(torch.ones(2))  # nothing is dropped outside training
        tensor([1., 1.])
    """

    _has_nothing_to_build = True
    supports_masking = True
    _resolves_mode = True
    _training_default = False

    def __init__(
        self, rate: float, noise_shape: Sequence[int | None] | None = None, seed: int | None = None, **kwargs: Any
    ):
        super().__init__(seed, **kwargs)
        if not isinstance(rate, Real) or not 0 <= rate <= 1:
            raise ValueError(f"{self.name}: rate must be a number from 0 to 1; got {rate!r}.")
        self.rate: float = rate
        if rate:
            skip_default_seed(seed)
        self.noise_shape: Any = noise_shape
        if noise_shape is not None and not all(size is None or _is_size(size) for size in noise_shape):
            raise ValueError(f"{self.name}: noise_shape must hold positive ints and None; got {noise_shape!r}.")

    @takes_training(False)
    def forward(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        if not self._mode_of_call(training) or self.rate == 0:
            return inputs
        if self.noise_shape is None and self.seed is None and _is_fused(inputs):
            return F.dropout(inputs, self.rate)
        scale = 1 / (1 - self.rate) if self.rate < 1 else 0.0
        return inputs * (self._kept(inputs).to(inputs.dtype) * scale)

    def _kept(self, x: Tensor) -> Tensor:
        """Returns the mask of elements that are kept."""
        shape = _noise_shape(x, self.noise_shape)
        if self.seed is None and not _is_fused(x):
            return _random_int16(shape) >= min(round(self.rate * 2**16) - 2**15, 2**15 - 1)
        return self._uniform(shape, x.device) >= self.rate


def _is_size(size: Any) -> bool:
    return hasattr(size, "__index__") and size > 0


def _is_fused(x: Tensor) -> bool:
    """Returns whether the mask is drawn and applied in one fast kernel: on accelerators, and in compiled code."""
    return x.device.type != "cpu" or is_compiling()


def _random_int16(shape: Sequence[int]) -> Tensor:
    """Draws the mask from random bits, four elements per draw: a quarter of the time of torch's `bernoulli_` on the CPU."""
    numel = math.prod(shape)
    bits = torch.empty(-(-numel // 4), dtype=torch.int64, device="cpu").random_(-(2**63), None)
    return bits.view(torch.int16)[:numel].view(*shape)


def _noise_shape(x: Tensor, wanted: Sequence[int | None] | None) -> Sequence[int]:
    if wanted is None:
        return x.shape
    return [size if n is None else n for n, size in zip(wanted, x.shape, strict=True)]


class SpatialDropout(Dropout):
    """Base of the layers that drop whole channels, since neighbors in a feature map are correlated.

    Args:
        rate: Share of the channels, 0 to 1.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None. Not for 1D, which is
            channels_last.
        seed: Int for reproducible masks.
    Output shape: that of the input.
    Source: Tompson et al. 2015.

    Example:
        >>> SpatialDropout1D(0.5)(torch.ones(1, 2, 3)).shape
        torch.Size([1, 2, 3])
    """

    rank: int
    data_format = "channels_last"

    def build(self, input_shape: Shape) -> None:
        if len(input_shape) != self.rank + 2:
            raise ValueError(f"{self.name}: expected an input of rank {self.rank + 2}; got shape {input_shape}.")
        ones = (1,) * self.rank
        self.noise_shape = (None, *ones, None) if self.data_format == "channels_last" else (None, None, *ones)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments as plain data."""
        config = super().get_config()
        del config["trainable"]  # Keras' constructor does not take it
        return config


@register()
class SpatialDropout1D(SpatialDropout):
    """Dropout of whole channels of sequences, in training.

    Input shape: (batch, steps, channels).
    """

    rank = 1

    def __init__(
        self, rate: float, seed: int | None = None, name: str | None = None, dtype: DType = None, **kwargs: Any
    ):
        super().__init__(rate, seed=seed, name=name, dtype=dtype, **kwargs)


class ImageDropout(SpatialDropout):
    """Base of the layers with two or three spatial axes, which have a data format.

    Example:
        >>> SpatialDropout2D(0.5)(torch.ones(1, 4, 4, 3)).shape
        torch.Size([1, 4, 4, 3])
    """

    def __init__(
        self,
        rate: float,
        data_format: str | None = None,
        seed: int | None = None,
        name: str | None = None,
        dtype: DType = None,
        **kwargs: Any,
    ):
        super().__init__(rate, seed=seed, name=name, dtype=dtype, **kwargs)
        self.data_format = check_data_format(data_format, self)


@register()
class SpatialDropout2D(ImageDropout):
    """Dropout of whole channels of images, in training.

    Input shape: (batch, height, width, channels), or (batch, channels, height, width).
    """

    rank = 2


@register()
class SpatialDropout3D(ImageDropout):
    """Dropout of whole channels of volumes, in training.

    Input shape: (batch, depth, height, width, channels), or (batch, channels, depth, height, width).
    """

    rank = 3


@register()
class GaussianDropout(RandomLayer):
    """Noise of mean 1 and standard deviation `sqrt(rate / (1 - rate))` that the input is multiplied by in training.

    Args:
        rate: 0 to 1, exclusive; the noise has the variance of a Dropout with that rate.
        seed: Int for reproducible noise.
    Output shape: that of the input.
    Raises: ValueError: if `rate` is not within 0 and 1.
    Source: Srivastava et al. 2014.

    Example:
        >>> GaussianDropout(0.5)(torch.ones(2))  # nothing changes outside training
        tensor([1., 1.])
    """

    _has_nothing_to_build = True
    supports_masking = True
    _resolves_mode = True
    _training_default = False

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any):
        super().__init__(seed, **kwargs)
        self.rate = _rate_below_one(rate, self)
        self._stddev = math.sqrt(self.rate / (1 - self.rate))
        if self.rate:
            skip_default_seed(seed)

    @takes_training(False)
    def forward(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        if not self._mode_of_call(training) or self.rate == 0:
            return inputs
        return torch.addcmul(
            inputs, inputs, self._normal(inputs.shape, inputs.device).to(inputs.dtype), value=self._stddev
        )


@register()
class GaussianNoise(RandomLayer):
    """Noise of mean 0 that is added to the input in training.

    Args:
        stddev: Its standard deviation.
        seed: Int for reproducible noise.
    Output shape: that of the input.
    Raises: ValueError: if `stddev` is negative.

    Example:
        >>> GaussianNoise(0.1)(torch.ones(2))  # nothing changes outside training
        tensor([1., 1.])
    """

    _has_nothing_to_build = True
    supports_masking = True
    _resolves_mode = True
    _training_default = False

    def __init__(self, stddev: float, seed: int | None = None, **kwargs: Any):
        super().__init__(seed, **kwargs)
        self.stddev = not_negative(stddev, "stddev", self)
        if self.stddev:
            skip_default_seed(seed)

    @takes_training(False)
    def forward(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        if not self._mode_of_call(training) or self.stddev == 0:
            return inputs
        return torch.add(inputs, self._normal(inputs.shape, inputs.device).to(inputs.dtype), alpha=self.stddev)


@register()
class AlphaDropout(RandomLayer):
    """Dropout for `selu`: in training, a random part of the input is set to its lowest value, and mean and variance are kept.

    Args:
        rate: Share of elements, 0 to 1, exclusive.
        noise_shape: Shape of the drawn mask, broadcast over the input; None in it means the input's size.
        seed: Int for reproducible masks.
    Output shape: that of the input.
    Raises: ValueError: if `rate` is not within 0 and 1.
    Source: Klambauer et al. 2017.

    Example:
        >>> AlphaDropout(0.5)(torch.ones(2))  # nothing is dropped outside training
        tensor([1., 1.])
    """

    _has_nothing_to_build = True
    supports_masking = True
    _resolves_mode = True
    _training_default = False
    lowest = -1.6732632423543772 * 1.0507009873554805  # selu's alpha and scale

    def __init__(
        self, rate: float, noise_shape: Sequence[int | None] | None = None, seed: int | None = None, **kwargs: Any
    ):
        super().__init__(seed, **kwargs)
        self.rate = _rate_below_one(rate, self)
        self.noise_shape = noise_shape
        self._factor = ((1 - self.rate) * (1 + self.rate * self.lowest**2)) ** -0.5
        self._shift = -self._factor * self.lowest * self.rate
        if self.rate:
            skip_default_seed(seed)

    @takes_training(False)
    def forward(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        if not self._mode_of_call(training) or self.rate == 0:
            return inputs
        kept = self._uniform(_noise_shape(inputs, self.noise_shape), inputs.device) >= self.rate
        return torch.where(kept, inputs, self.lowest) * self._factor + self._shift


def _rate_below_one(rate: Any, layer: Layer) -> float:
    if not_negative(rate, "rate", layer) >= 1:
        raise ValueError(f"{type(layer).__name__}: rate must be a number of at least 0 and below 1; got {rate!r}.")
    return float(rate)


@register()
class ActivityRegularization(Layer):
    """Layer that returns its input and adds a penalty to the loss: the mean over samples of `l1 * sum(|x|) + l2 * sum(x**2)`.

    Args:
        l1: Factor of the first term, not negative.
        l2: Factor of the second term, not negative.
    Output shape: that of the input.

    Example:
        >>> layer = ActivityRegularization(l1=0.5)
        >>> _ = layer(torch.ones(2, 3))
        >>> layer.losses
        [tensor(1.5000)]
    """

    _has_nothing_to_build = True
    supports_masking = True

    def __init__(self, l1: float = 0.0, l2: float = 0.0, **kwargs: Any):
        super().__init__(activity_regularizer=regularizers.L1L2(l1, l2), **kwargs)
        self.l1, self.l2 = l1, l2

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs
