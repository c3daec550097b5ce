"""Normalization of single samples: layer, group, RMS and unit normalization."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kstyle_torch import constraints, initializers, regularizers
from kstyle_torch.errors import OutOfRangeError
from kstyle_torch.layer.base import Layer, layer_registry
from kstyle_torch.layer.casts import INTEGERS
from kstyle_torch.layer.checks import check_sizes, known_size, positive_int
from kstyle_torch.layer.shapes import Shape
from kstyle_torch.layer.weights import Weight, native

register = layer_registry.register
Axes = int | Sequence[int]


class AxesNorm(Layer):
    """Base of the layers whose native module normalizes the last axes: moves other axes there and back.

    Args:
        axis: Axis, or axes that are normalized together.
        epsilon: Added to the variance or mean square.
    """

    norm: Any

    def __init__(self, axis: Axes, epsilon: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.axis, self.epsilon = _checked_axes(axis, self), epsilon

    def build(self, input_shape: Shape) -> None:
        axes = _positive_axes(self.axis, len(input_shape), self)
        last = [*range(len(input_shape) - len(axes), len(input_shape))]
        self._moved = None if axes == last else (axes, last)
        self.norm = self._make_norm([known_size(input_shape, axis, self) for axis in axes])

    def _make_norm(self, sizes: list[int]) -> nn.Module:
        raise NotImplementedError

    def forward(self, inputs: Tensor) -> Tensor:
        try:
            if self._moved is None:
                return self._normalize(inputs)
            axes, last = self._moved
            return self._normalize(inputs.movedim(axes, last)).movedim(last, axes)
        except (RuntimeError, IndexError):
            check_sizes(self, inputs.shape, *([self.axis] if isinstance(self.axis, int) else self.axis))
            raise

    def _normalize(self, x: Tensor) -> Tensor:
        return self.norm(x)


@register()
class LayerNormalization(AxesNorm):
    """Normalization of each sample to mean 0 and variance 1 over its features, which are then scaled and shifted.

    Args:
        axis: Axis of the features, or a list of axes that are normalized together.
        epsilon: Added to the variance.
        center: Whether to add a shift (beta).
        scale: Whether to multiply by a factor (gamma).
        beta_initializer: Of beta, shape (*normalized axes).
        gamma_initializer: Of gamma.
        beta_regularizer: Penalty on beta.
        gamma_regularizer: Penalty on gamma.
        beta_constraint: What beta is projected to after each step.
        gamma_constraint: What gamma is projected to after each step.
        rms_scaling: Deprecated: divides by the standard deviation, without subtracting the mean and without beta. Use
            RMSNormalization.
    Output shape: that of the input.
    Raises: TypeError: if `axis` is not an int or a list of ints. ValueError: if the input has no such axis.
    Source: Ba et al. 2016.

    Example:
        >>> LayerNormalization()(torch.ones(2, 5, 3)).shape
        torch.Size([2, 5, 3])
    """

    supports_masking = True
    _autocast = False  # statistics are computed from the uncast inputs, in the dtype of the weights
    gamma = Weight("norm.weight")
    beta = Weight("norm.bias")

    def __init__(
        self,
        axis: Axes = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        *,
        rms_scaling: bool = False,
        **kwargs: Any,
    ):
        super().__init__(axis, epsilon, **kwargs)
        if rms_scaling:
            warnings.warn("rms_scaling divides by the standard deviation; use RMSNormalization.", stacklevel=2)
        self.rms_scaling = rms_scaling
        self.center, self.scale = center and not rms_scaling, scale or rms_scaling
        self.beta_initializer = initializers.get(beta_initializer)
        self.gamma_initializer = initializers.get(gamma_initializer)
        self.beta_regularizer = regularizers.get(beta_regularizer)
        self.gamma_regularizer = regularizers.get(gamma_regularizer)
        self.beta_constraint = constraints.get(beta_constraint)
        self.gamma_constraint = constraints.get(gamma_constraint)

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        self.initialize(gamma=self.gamma_initializer, beta=self.beta_initializer)

    def _make_norm(self, sizes: list[int]) -> nn.Module:
        norm = native(nn.LayerNorm, sizes, eps=self.epsilon, dtype=self._dtype)
        return _without(norm, weight=not self.scale, bias=not self.center)

    def _normalize(self, x: Tensor) -> Tensor:
        if x.dtype is not self._dtype:
            x = x.to(self._dtype)
        if self.rms_scaling:
            axes = tuple(range(-self.norm.weight.ndim, 0))
            y = x * (x.var(axes, correction=0, keepdim=True) + self.epsilon).rsqrt() * self.norm.weight
        else:
            y = self.norm(x)
        return y if self._compute_dtype is self._dtype else y.to(self._compute_dtype)


@register()
class RMSNormalization(AxesNorm):
    """Division of each sample by the root mean square of its features, which are then scaled.

    Args:
        axis: Axis of the features, or a list of axes that are normalized together.
        epsilon: Added to the mean square.
    Output shape: that of the input.
    Raises: TypeError: if `axis` is not an int or a list of ints. ValueError: if the input has no such axis.
    Source: Zhang & Sennrich 2019.

    Example:
        >>> RMSNormalization()(torch.tensor([[3.0, 4.0]])).detach()
        tensor([[0.8485, 1.1314]])
    """

    scale = Weight("norm.weight")

    def __init__(self, axis: Axes = -1, epsilon: float = 1e-6, **kwargs: Any):
        super().__init__(axis, epsilon, **kwargs)

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        self.initialize(scale=initializers.get("ones"))

    def _make_norm(self, sizes: list[int]) -> nn.Module:
        return native(nn.RMSNorm, sizes, eps=self.epsilon, dtype=self._dtype)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)

    def _normalize(self, x: Tensor) -> Tensor:
        return self.norm(x.to(self.norm.weight.dtype))  # in float32 under mixed precision, as Keras does


@register()
class GroupNormalization(Layer):
    """Normalization of each group of channels of a sample to mean 0 and variance 1; channels are then scaled and shifted.

    Args:
        groups: Number of groups; -1 for one channel per group (instance normalization).
        axis: Axis of the channels.
        epsilon: Added to the variance.
        center: Whether to add a shift (beta).
        scale: Whether to multiply by a factor (gamma).
        beta_initializer: Of beta, shape (channels,).
        gamma_initializer: Of gamma.
        beta_regularizer: Penalty on beta.
        gamma_regularizer: Penalty on gamma.
        beta_constraint: What beta is projected to after each step.
        gamma_constraint: What gamma is projected to after each step.
    Output shape: that of the input.
    Raises: ValueError: if `groups` is neither -1 nor a positive int, or does not divide the channels.
    Source: Wu & He 2018.

    Example:
        >>> GroupNormalization(groups=2)(torch.ones(2, 5, 5, 4)).shape
        torch.Size([2, 5, 5, 4])
    """

    supports_masking = True
    _autocast = False  # statistics are computed from the uncast inputs, in the dtype of the weights
    gamma = Weight("norm.weight")
    beta = Weight("norm.bias")

    def __init__(
        self,
        groups: int = 32,
        axis: int = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.groups = groups if groups == -1 else positive_int(groups, "groups", self)
        if not isinstance(axis, int):
            raise ValueError(f"{self.name}: axis must be an int; got {axis!r}.")
        self.axis, self.epsilon = axis, epsilon
        self.center, self.scale = center, scale
        self.beta_initializer = initializers.get(beta_initializer)
        self.gamma_initializer = initializers.get(gamma_initializer)
        self.beta_regularizer = regularizers.get(beta_regularizer)
        self.gamma_regularizer = regularizers.get(gamma_regularizer)
        self.beta_constraint = constraints.get(beta_constraint)
        self.gamma_constraint = constraints.get(gamma_constraint)

    def build(self, input_shape: Shape) -> None:
        [axis] = _positive_axes(self.axis, len(input_shape), self)
        channels = known_size(input_shape, axis, self)
        self._num_groups = groups = channels if self.groups == -1 else self.groups
        if channels % groups:
            raise ValueError(
                f"{self.name}: groups must divide the channels; got {groups} groups for {channels} channels (axis "
                f"{self.axis} of shape {input_shape})."
            )
        norm = native(nn.GroupNorm, groups, channels, eps=self.epsilon, dtype=self._dtype)
        self.norm = _without(norm, weight=not self.scale, bias=not self.center)
        self._channels_second, self._num_channels = axis == 1, channels
        self.initialize(gamma=self.gamma_initializer, beta=self.beta_initializer)

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.dtype is not self._dtype:
            inputs = inputs.to(self._dtype)
        if self._channels_second:
            y = self._normalize(inputs)
        else:
            y = self._normalize(inputs.movedim(self.axis, 1)).movedim(1, self.axis)
        return y if self._compute_dtype is self._dtype else y.to(self._compute_dtype)

    def _normalize(self, x: Tensor) -> Tensor:
        if x.shape[1] != self._num_channels:  # without weights, torch's kernel accepts any number
            check_sizes(self, x.movedim(1, self.axis).shape, self.axis)
        # two bugs in the backward pass of torch's kernel (2.13): it crashes for channels_last memory that requires no
        # gradient, and on a bias without a weight
        if torch.is_grad_enabled() and not x.requires_grad:
            x = x.contiguous()
        if self.scale or not self.center:
            return self.norm(x)
        return F.group_norm(x, self._num_groups, eps=self.epsilon) + self.beta.parameter.view(-1, *(1,) * (x.ndim - 2))


@register()
class UnitNormalization(Layer):
    """Division of each sample by its Euclidean norm.

    Args:
        axis: Axis of the features, or a list of axes that are normalized together.
    Output shape: that of the input.
    Raises: TypeError: if `axis` is not an int or a list of ints.

    Example:
        >>> UnitNormalization()(torch.tensor([[3.0, 4.0]]))
        tensor([[0.6000, 0.8000]])
    """

    supports_masking = True

    def __init__(self, axis: Axes = -1, **kwargs: Any):
        super().__init__(**kwargs)
        self.axis = _checked_axes(axis, self)

    def build(self, input_shape: Shape) -> None:
        self._dims = _positive_axes(self.axis, len(input_shape), self)

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.dtype in INTEGERS:
            inputs = inputs.to(self._dtype)
        return F.normalize(inputs, dim=self._dims)  # type: ignore[arg-type]  # several are fine


def _without(norm: nn.Module, *, weight: bool, bias: bool) -> nn.Module:
    """Removes unused parameters from the module, since torch's constructors do not support a bias without a weight."""
    norm.weight = None if weight else norm.weight  # type: ignore[assignment]
    norm.bias = None if bias else norm.bias  # type: ignore[assignment]
    return norm


def _checked_axes(axis: Any, layer: Layer) -> int | list[int]:
    axes = axis if isinstance(axis, (list, tuple)) else [axis]
    if not axes or not all(isinstance(item, int) for item in axes):
        raise TypeError(f"{layer.name}: axis must be an int or a list of ints; got {axis!r}.")
    return axis if isinstance(axis, int) else [*axes]


def _positive_axes(axis: Axes, rank: int, layer: Layer) -> list[int]:
    axes = [axis] if isinstance(axis, int) else axis
    if not all(-rank <= item < rank for item in axes):
        raise OutOfRangeError(f"{layer.name}: axis {axis} is out of range for an input of {rank} axes.")
    return sorted(item % rank for item in axes)
