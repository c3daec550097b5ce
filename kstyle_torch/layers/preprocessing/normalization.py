"""Normalization of features to mean 0 and variance 1 over a dataset."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kstyle_torch import config
from kstyle_torch.layer.base import layer_registry
from kstyle_torch.layer.checks import check_sizes
from kstyle_torch.layer.shapes import Shape
from kstyle_torch.layers.preprocessing.data_layer import DataLayer, batches_of

register = layer_registry.register


@register()
class Normalization(DataLayer):
    """Normalization by the mean and standard deviation of the data to which it was adapted.

    Args:
        axis: Axis or axes with a mean and variance for each entry; None for a single mean and variance.
        mean: The mean, instead of `adapt`; a number or one for each entry. Needs `variance`.
        variance: The variance, likewise.
        invert: Whether to convert normalized features back to the original ones.
    Output shape: that of the input.
    Raises: ValueError: if only one of `mean` and `variance` is given, or their shapes differ or do not fit `axis`.

    Example:
        >>> layer = Normalization()
        >>> layer.adapt(np.array([[0.0, 7.0], [2.0, 9.0]]))
        >>> layer(np.array([[0.0, 9.0]]))
        tensor([[-1.,  1.]])
    """

    supports_masking = True

    def __init__(
        self,
        axis: int | Sequence[int] | None = -1,
        mean: Any = None,
        variance: Any = None,
        invert: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.axis = () if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
        self.input_mean, self.input_variance, self.invert = _plain(mean), _plain(variance), invert
        self._arguments.update(mean=self.input_mean, variance=self.input_variance)  # lists, as in Keras' config
        if (mean is None) != (variance is None):
            raise ValueError(f"Normalization needs both mean and variance, or neither; got {mean} and {variance}.")
        if np.shape(self.input_mean) != np.shape(self.input_variance):
            raise ValueError(
                f"Normalization: mean and variance must have the same shape; got {np.shape(mean)} and {np.shape(variance)}."
            )
        if mean is not None and np.ndim(self.input_mean) > len(self.axis):
            raise ValueError(f"Normalization: a mean of shape {np.shape(mean)} does not fit axis={self.axis}.")

    def build(self, input_shape: Shape) -> None:
        ndim = len(input_shape)
        if any(not -ndim <= axis < ndim for axis in self.axis):
            raise ValueError(f"{self.name}: axis {self.axis} does not exist in an input of shape {input_shape}.")
        self._kept = sorted(axis % ndim for axis in self.axis)
        if any(input_shape[axis] is None for axis in self._kept):
            raise ValueError(f"{self.name}: axis {self._kept} must have a known size; got shape {input_shape}.")
        self._broadcast = tuple((input_shape[axis] or 1) if axis in self._kept else 1 for axis in range(ndim))
        sizes = [self._broadcast[axis] for axis in self._kept]
        if self.input_mean is not None:
            self.register_buffer("given_mean", self._aligned(self.input_mean), persistent=False)
            self.register_buffer("given_variance", self._aligned(self.input_variance), persistent=False)
            return
        self.adapt_mean = self.add_weight(sizes, "zeros", name="mean", trainable=False)
        self.adapt_variance = self.add_weight(sizes, "ones", name="variance", trainable=False)
        self.count = self.add_weight((), "zeros", dtype="int32", name="count", trainable=False)  # in Keras' files

    def _aligned(self, value: Any) -> Tensor:
        """Aligns a given mean or variance with the last of the kept axes."""
        given = torch.as_tensor(value, dtype=self._dtype, device=config.device())
        shape = [1] * len(self._broadcast)
        for axis, size in zip(reversed(self._kept), reversed(given.shape), strict=False):
            shape[axis] = size
        return given.reshape(shape).expand(self._broadcast).contiguous()

    @property
    def mean(self) -> Any:
        """The mean, in a shape that broadcasts with the input; None before the layer is built."""
        return self._statistic("given_mean", "adapt_mean")

    @property
    def variance(self) -> Any:
        """The variance, likewise."""
        return self._statistic("given_variance", "adapt_variance")

    def _statistic(self, given: str, adapted: str) -> Any:
        if not self.built:
            return None
        return getattr(self, adapted).reshape(self._broadcast) if self.input_mean is None else getattr(self, given)

    def forward(self, inputs: Tensor) -> Tensor:
        mean, deviation = self.mean, self.variance.sqrt().clamp_min(config.epsilon())
        inputs = inputs.to(mean.dtype)
        if inputs.ndim == len(self._broadcast):  # otherwise a single feature would broadcast with the statistics of all
            if any(inputs.shape[axis] != self._broadcast[axis] for axis in self._kept):
                check_sizes(self, inputs.shape, *self._kept)
        return inputs * deviation + mean if self.invert else (inputs - mean) / deviation

    def adapt(self, data: Any) -> None:
        """Computes the mean and variance of data.

        Args:
            data: Array, tensor, list, pandas object, torch `Dataset` or `DataLoader`, or an iterable of batches.
        Raises: ValueError: if mean and variance were given, or the data's shape is not the one the layer was built for.
        """
        if self.input_mean is not None:
            raise ValueError(f"{self.name} was given its mean and variance, so it cannot adapt to data.")
        moments = _Moments()
        for batch in batches_of(data, layer=self):
            batch = torch.as_tensor(batch)
            self._check_shape(tuple(batch.shape))
            moments.add(batch.detach(), [axis for axis in range(batch.ndim) if axis not in self._kept])
        self.adapt_mean.assign(moments.mean)
        self.adapt_variance.assign(moments.variance)
        self.finalize_state()

    def finalize_state(self) -> None:
        """Ends `adapt` and loading of weights; does nothing, since `mean` and `variance` read the weights."""

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        if not self.built:
            self.build(shape)
        if len(shape) != len(self._broadcast) or any(shape[axis] != self._broadcast[axis] for axis in self._kept):
            raise ValueError(
                f"{self.name}: adapt() got data of shape {shape}; the layer was built for sizes {self._broadcast} "
                f"along axis {self._kept}."
            )


class _Moments:
    """Running mean and variance of batches (Chan et al. 1979)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Any = 0.0
        self.variance: Any = 0.0

    def add(self, batch: Tensor, axes: list[int]) -> None:
        """Adds a batch, reduced over `axes`."""
        batch = batch if batch.dtype in (torch.float32, torch.float64) else batch.double()
        mean, variance = batch, torch.zeros_like(batch)
        if axes:
            variance, mean = torch.var_mean(batch, dim=axes, correction=0)
        count = math.prod(batch.shape[axis] for axis in axes)
        self.count += count
        share = count / self.count
        shift = mean - self.mean
        self.mean = self.mean + shift * share
        self.variance = self.variance * (1 - share) + variance * share + shift * shift * share * (1 - share)


def _plain(value: Any) -> Any:
    """Returns numbers and lists instead of arrays and tensors."""
    if isinstance(value, Tensor):
        return value.tolist()
    return value if value is None else np.asarray(value).tolist()
