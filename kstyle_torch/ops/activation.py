"""The activation functions as operations: with Keras' defaults for `ops`, and for lists and arrays too."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kstyle_torch import activations
from kstyle_torch.ops.operation import TensorLike, operation

__all__ = [
    "celu",
    "elu",
    "gelu",
    "glu",
    "hard_shrink",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "hard_tanh",
    "leaky_relu",
    "log_sigmoid",
    "log_softmax",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "soft_shrink",
    "softmax",
    "softplus",
    "softsign",
    "sparse_plus",
    "sparse_sigmoid",
    "sparsemax",
    "squareplus",
    "swish",
    "tanh_shrink",
    "threshold",
]

Axis = int | Sequence[int] | None


@operation
def relu(x: TensorLike) -> Tensor:
    """Returns `max(x, 0)`."""
    return torch.relu(x)


@operation
def relu6(x: TensorLike) -> Tensor:
    """Returns `min(max(x, 0), 6)`."""
    return activations.relu6(x)


@operation
def leaky_relu(x: TensorLike, negative_slope: float = 0.2) -> Tensor:
    """Returns `x` where positive, else `negative_slope * x`."""
    return activations.leaky_relu(x, negative_slope)


@operation
def elu(x: TensorLike, alpha: float = 1.0) -> Tensor:
    """Returns `x` where positive, else `alpha * (exp(x) - 1)`."""
    return activations.elu(x, alpha)


@operation
def selu(x: TensorLike) -> Tensor:
    """Returns the self-normalizing `elu`: `scale * elu(x, alpha)` with fixed constants."""
    return activations.selu(x)


@operation
def celu(x: TensorLike, alpha: float = 1.0) -> Tensor:
    """Returns `max(x, 0) + min(0, alpha * (exp(x / alpha) - 1))`."""
    return activations.celu(x, alpha)


@operation
def gelu(x: TensorLike, approximate: bool = True) -> Tensor:
    """Returns `x * P(X <= x)` for a standard normal X; by tanh unless `approximate` is False."""
    return activations.gelu(x, approximate)


@operation
def glu(x: TensorLike, axis: int = -1) -> Tensor:
    """Returns one half of `axis` times the sigmoid of the other, so `axis` halves."""
    return activations.glu(x, axis)


@operation
def silu(x: TensorLike) -> Tensor:
    """Returns `x * sigmoid(x)`."""
    return activations.silu(x)


@operation
def hard_silu(x: TensorLike) -> Tensor:
    """Returns `x * hard_sigmoid(x)`."""
    return activations.hard_silu(x)


@operation
def sigmoid(x: TensorLike) -> Tensor:
    """Returns `1 / (1 + exp(-x))`."""
    return torch.sigmoid(x)


@operation
def hard_sigmoid(x: TensorLike) -> Tensor:
    """Returns `clip(x / 6 + 1/2, 0, 1)`."""
    return activations.hard_sigmoid(x)


@operation
def log_sigmoid(x: TensorLike) -> Tensor:
    """Returns `log(sigmoid(x))`."""
    return activations.log_sigmoid(x)


@operation
def sparse_sigmoid(x: TensorLike) -> Tensor:
    """Returns `clip((x + 1) / 2, 0, 1)`."""
    return activations.sparse_sigmoid(x)


@operation
def hard_tanh(x: TensorLike) -> Tensor:
    """Returns `x` clipped to [-1, 1]."""
    return activations.hard_tanh(x)


@operation
def tanh_shrink(x: TensorLike) -> Tensor:
    """Returns `x - tanh(x)`."""
    return activations.tanh_shrink(x)


@operation
def hard_shrink(x: TensorLike, threshold: float = 0.5) -> Tensor:
    """Returns `x` where `|x| > threshold`, else 0."""
    return activations.hard_shrink(x, threshold)


@operation
def soft_shrink(x: TensorLike, threshold: float = 0.5) -> Tensor:
    """Returns `x` shrunk by `threshold` towards 0, and 0 where `|x| <= threshold`."""
    return activations.soft_shrink(x, threshold)


@operation
def threshold(x: TensorLike, threshold: float, default_value: float) -> Tensor:
    """Returns `x` where it exceeds `threshold`, else `default_value`."""
    return activations.threshold(x, threshold, default_value)


@operation
def softplus(x: TensorLike) -> Tensor:
    """Returns `log(1 + exp(x))`."""
    return activations.softplus(x)


@operation
def softsign(x: TensorLike) -> Tensor:
    """Returns `x / (1 + |x|)`."""
    return activations.softsign(x)


@operation
def sparse_plus(x: TensorLike) -> Tensor:
    """Returns 0 up to -1, `(x + 1)**2 / 4` up to 1, then `x`."""
    return activations.sparse_plus(x)


@operation
def squareplus(x: TensorLike, b: float = 4) -> Tensor:
    """Returns `(x + sqrt(x**2 + b)) / 2`."""
    return activations.squareplus(x, b)


@operation
def sparsemax(x: TensorLike, axis: int = -1) -> Tensor:
    """Returns the nearest point of the probability simplex along `axis`."""
    return activations.sparsemax(x, axis)


@operation
def softmax(x: TensorLike, axis: Axis = -1) -> Tensor:
    """Returns `exp(x)` divided by its sum.

    Args:
        x: Tensor of logits.
        axis: Axis or axes over which the result sums to 1; all if None.

    Example:
        >>> ops.softmax(torch.zeros(2, 4))
        tensor([[0.2500, 0.2500, 0.2500, 0.2500],
                [0.2500, 0.2500, 0.2500, 0.2500]])
    """
    if isinstance(axis, int) and x.shape[axis] == 1:
        warnings.warn(
            f"softmax: axis {axis} of shape {tuple(x.shape)} has size 1, so all results are 1. Did you mean sigmoid?",
            stacklevel=3,
        )
    return x.softmax(axis) if isinstance(axis, int) else _over_axes(torch.softmax, x, axis)


@operation
def log_softmax(x: TensorLike, axis: Axis = -1) -> Tensor:
    """Returns `log(softmax(x))`, with the same `axis`."""
    return x.log_softmax(axis) if isinstance(axis, int) else _over_axes(torch.log_softmax, x, axis)


def _over_axes(function: Any, x: Tensor, axis: Sequence[int] | None) -> Tensor:
    axes = list(range(x.ndim) if axis is None else axis)
    moved = x.movedim(axes, list(range(-len(axes), 0)))
    y = function(moved.flatten(-len(axes)), dim=-1)
    return y.reshape(moved.shape).movedim(list(range(-len(axes), 0)), axes)


hard_swish, swish = hard_silu, silu
