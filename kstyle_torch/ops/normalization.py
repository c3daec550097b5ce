"""Normalization with given statistics and scales, and the statistics themselves."""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kstyle_torch import config
from kstyle_torch.initializers import as_dtype
from kstyle_torch.ops.operation import TensorLike, operation

__all__ = ["batch_normalization", "layer_normalization", "moments", "normalize", "rms_normalization"]

Axes = int | tuple[int, ...] | list[int]


@operation
def batch_normalization(
    x: TensorLike,
    mean: TensorLike,
    variance: TensorLike,
    axis: int,
    offset: TensorLike = None,
    scale: TensorLike = None,
    epsilon: float = 1e-3,
) -> Tensor:
    """Returns `(x - mean) / sqrt(variance + epsilon) * scale + offset`.

    Args:
        x: Tensor of any rank.
        mean: One number for each index of `axis`.
        variance: Likewise.
        axis: Axis of the other arguments, usually the channels.
        offset: Likewise; 0 if None.
        scale: Likewise; 1 if None.
        epsilon: Added to the variance.

    Example:
        >>> ops.batch_normalization(torch.ones(2, 3), torch.zeros(3), torch.ones(3), -1, epsilon=0.0)
        tensor([[1., 1., 1.],
                [1., 1., 1.]])
    """
    shape = [1] * x.ndim
    shape[axis] = -1
    factor = (variance + epsilon).rsqrt()
    if scale is not None:
        factor = factor * scale
    y = (x - mean.reshape(shape)) * factor.reshape(shape)
    return y if offset is None else y + offset.reshape(shape)


@operation
def layer_normalization(
    x: TensorLike,
    gamma: TensorLike = None,
    beta: TensorLike = None,
    axis: Axes = -1,
    epsilon: float | None = None,
    **kwargs: Any,
) -> Tensor:
    """Returns `x` with mean 0 and variance 1 along `axis`, times `gamma`, plus `beta`; half precision is computed in float32.

    Args:
        x: Tensor of any rank.
        gamma: Factors, of the sizes of `axis`; 1 if None.
        beta: Offsets, likewise; 0 if None.
        axis: One axis or several.
        epsilon: Added to the variance; `config.epsilon()` if None.
        kwargs: `rms_scaling`, which is deprecated: divides by the standard deviation without subtracting the mean.
    Source: Ba et al. 2016.
    """
    rms_scaling = _rms_scaling(kwargs)
    epsilon = config.epsilon() if epsilon is None else epsilon
    axes, wide = _sorted_axes(axis, x.ndim), torch.promote_types(x.dtype, torch.float32)
    scale, offset = (None if value is None else value.to(wide) for value in (gamma, beta))
    if _are_last(axes, x.ndim) and not rms_scaling:
        return F.layer_norm(x.to(wide), [x.shape[a] for a in axes], scale, offset, epsilon).to(x.dtype)
    shape = [size if a in axes else 1 for a, size in enumerate(x.shape)]
    variance, mean = torch.var_mean(x.to(wide), axes, correction=0, keepdim=True)
    y = (x if rms_scaling else x - mean) * (variance + epsilon).rsqrt()
    if scale is not None:
        y = y * (scale if scale.ndim == x.ndim else scale.reshape(shape))
    if offset is not None and not rms_scaling:
        y = y + (offset if offset.ndim == x.ndim else offset.reshape(shape))
    return y.to(x.dtype)


@operation
def rms_normalization(x: TensorLike, scale: TensorLike = None, axis: Axes = -1, epsilon: float | None = None) -> Tensor:
    """Returns `x / sqrt(mean(x**2) + epsilon) * scale`, the mean along `axis`; half precision is computed in float32.

    Args:
        x: Tensor of any rank.
        scale: Factors that broadcast to `x`; 1 if None.
        axis: One axis or several.
        epsilon: Added to the mean; `config.epsilon()` if None.
    Source: Zhang & Sennrich 2019.
    """
    epsilon = config.epsilon() if epsilon is None else epsilon
    x, dtype = x.to(torch.promote_types(x.dtype, torch.float32)).reshape(x.shape or (1,)), x.dtype
    scale = None if scale is None else scale.to(x.dtype)
    axes = _sorted_axes(axis, x.ndim)
    sizes = [x.shape[a] for a in axes]
    if _are_last(axes, x.ndim) and (scale is None or list(scale.shape) == sizes):
        return F.rms_norm(x, sizes, scale, epsilon).to(dtype)
    y = x * (x.square().mean(axes, keepdim=True) + epsilon).rsqrt()
    return (y if scale is None else y * scale).to(dtype)


@operation
def normalize(x: TensorLike, axis: Axes | None = -1, order: int = 2, epsilon: float | None = None) -> Tensor:
    """Returns `x / max(norm(x), epsilon)`, the norm along `axis`.

    Args:
        x: Tensor of any rank; a scalar counts as a vector of one.
        axis: One axis or several; all for None.
        order: Order of the norm, a positive int.
        epsilon: Smallest norm; `config.epsilon()` if None.
    Raises: ValueError: if `order` is not a positive int.

    Example:
        >>> ops.normalize(torch.tensor([3.0, 4.0]))
        tensor([0.6000, 0.8000])
    """
    if not isinstance(order, int) or order < 1:
        raise ValueError(f"normalize: order must be an int, 1 or more; got {order!r}.")
    x = x.reshape(x.shape or (1,))
    x = x if x.is_floating_point() or x.is_complex() else x.to(as_dtype(None))
    axes = tuple(axis) if isinstance(axis, list) else axis
    norm = torch.linalg.vector_norm if order == 2 else torch.linalg.norm
    return x / norm(x, order, axes, keepdim=True).clamp(min=config.epsilon() if epsilon is None else epsilon)


@operation
def moments(x: TensorLike, axes: Axes, keepdims: bool = False, synchronized: bool = False) -> tuple[Tensor, Tensor]:
    """Returns the mean and (biased) variance; of float16 computed in float32 and clipped to its range.

    Args:
        x: Tensor of any rank.
        axes: Axes to reduce.
        keepdims: Whether to keep them with size 1.
        synchronized: Whether over all devices; not supported here.
    Raises: ValueError: if `synchronized`.

    Example:
        >>> ops.moments(torch.tensor([1.0, 3.0]), axes=[0])
        (tensor(2.), tensor(1.))
    """
    if synchronized:
        raise ValueError("moments: synchronized=True is not supported; gather x over the processes first.")
    half = x.dtype is torch.float16
    variance, mean = torch.var_mean(x.float() if half else x, axes, correction=0, keepdim=keepdims)
    if half:
        limit = torch.finfo(x.dtype).max
        mean, variance = (value.clamp(-limit, limit).to(x.dtype) for value in (mean, variance))
    return mean, variance


def _rms_scaling(kwargs: dict[str, Any]) -> bool:
    unknown = kwargs.keys() - {"rms_scaling"}
    if unknown:
        raise ValueError(f"layer_normalization has no argument {unknown.pop()!r}.")
    if kwargs.get("rms_scaling"):
        warnings.warn("layer_normalization: rms_scaling is deprecated; use rms_normalization.", stacklevel=4)
    return bool(kwargs.get("rms_scaling"))


def _sorted_axes(axis: Axes, rank: int) -> list[int]:
    return sorted(a % rank for a in ([axis] if isinstance(axis, int) else axis))


def _are_last(axes: list[int], rank: int) -> bool:
    return axes == list(range(rank - len(axes), rank))
