"""Activation functions, by name or called directly on tensors (symbolic ones too). They keep the shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kstyle_torch import serialization
from kstyle_torch._torch import is_compiling
from kstyle_torch.arrays import tensor_of

__all__ = [
    "celu",
    "deserialize",
    "elu",
    "exponential",
    "gelu",
    "get",
    "glu",
    "hard_shrink",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "hard_tanh",
    "leaky_relu",
    "linear",
    "log_sigmoid",
    "log_softmax",
    "mish",
    "relu",
    "relu6",
    "selu",
    "serialize",
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
    "tanh",
    "tanh_shrink",
    "threshold",
]

Activation = Callable[[Tensor], Tensor]
registry = serialization.registry("activation", "keras.activations")
register = registry.register


@register()
def linear(x: Tensor) -> Tensor:
    """Returns `x` itself."""
    if x.__class__ is not Tensor:
        x = tensor_of(x)
    return x


@register()
def relu(x: Tensor, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0) -> Tensor:
    """Returns `max(x, 0)`, optionally leaky, capped or shifted.

    Args:
        negative_slope: Slope below `threshold`.
        max_value: Upper bound of the output; none if None.
        threshold: Values up to it count as negative.
    """
    if x.__class__ is not Tensor:
        x = tensor_of(x)
    if negative_slope == 0.0 and max_value is None and threshold == 0.0:
        return F.relu(x)
    if negative_slope == 0.0 and threshold == 0.0 and max_value is not None:
        return F.hardtanh(x, 0.0, max_value)  # one kernel
    below = negative_slope * (x - threshold)
    y = torch.where(x > threshold, x, below)
    return y if max_value is None else y.clamp(max=max_value)


@register()
def relu6(x: Tensor) -> Tensor:
    """Returns `min(max(x, 0), 6)`."""
    if x.__class__ is not Tensor:
        x = tensor_of(x)
    return F.relu6(x)


@register()
def leaky_relu(x: Tensor, negative_slope: float = 0.2) -> Tensor:
    """Returns `x` where positive, else `negative_slope * x`."""
    if x.__class__ is not Tensor:
        x = tensor_of(x)
    return F.leaky_relu(x, negative_slope)


@register()
def elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """Returns `x` where positive, else `alpha * (exp(x) - 1)`. Source: Clevert et al. 2016."""
    if x.__class__ is not Tensor:
        x = tensor_of(x)
    return F.elu(x, alpha)


@register()
def selu(x: Tensor) -> Tensor:
    """Returns the self-normalizing `elu`: `scale * elu(x, alpha)` with fixed constants. Source: Klambauer et al. 2017."""
    if x.__class__ is not Tensor:
        x = tensor_of(x)
    return F.selu(x)


@register()
def celu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """Returns `max(x, 0) + min(0, alpha * (exp(x / alpha) - 1))`. Source: Barron 2017."""
    if x.__class__ is not Tensor:
        x = tensor_of(x)
    return F.celu(x, alpha)


@register()
def gelu(x: Tensor, approximate: bool = False) -> Tensor:
    """Returns `x * P(X <= x)` for a standard normal X; with `approximate` by tanh. Source: Hendrycks & Gimpel 2016."""
    if x.__class__ is not Tensor:
        x = tensor_of(x)
    return F.gelu(x, approximate="tanh" if approximate else "none")


@register("swish")
def silu(x: Tensor) -> Tensor:
    """Returns `x * sigmoid(x)`. Source: Ramachandran et al. 2017."""
    if x.__class__ is not Tensor:
        x = tensor_of(x)
    return F.silu(x)


swish = silu


@register("hard_swish")
def hard_silu(x: Tensor) -> Tensor:
    """Returns `x * hard_sigmoid(x)`. Source: Howard et al. 2019."""
    if x.__class__ is not Tensor:
        x = tensor_of(x)
    return F.hardswish(x)


hard_swish = hard_silu


@register()
def mish(x: Tensor) -> Tensor:
    """Returns `x * tanh(softplus(x))`. Source: Misra 2019."""
    if x.__class__ is not Tensor:
        x = tensor_of(x)
    return F.mish(x)


@register()
def glu(x: Tensor, axis: int = -1) -> Tensor:
    """Computes a gated linear unit: one half of `axis` times the sigmoid of the other, so `axis` halves (Dauphin 2017)."""
    if x.__class__ is not Tensor:
        x = tensor_of(x)
    return F.glu(x, dim=axis)


@register()
def tanh(x: Tensor) -> Tensor:
    """Returns the hyperbolic tangent."""
    if x.__class__ is not Tensor:
        x = tensor_of(x)
    return torch.tanh(x)


@register()
def hard_tanh(x: Tensor) -> Tensor:
    """Returns `x` clipped to [-1, 1]."""
    if x.__class__ is not Tensor:
        x = tensor_of(x)
    return F.hardtanh(x)


@register()
def tanh_shrink(x: Tensor) -> Tensor:
    """Returns `x - tanh(x)`."""
    if x.__class__ is not Tensor:
        x = tensor_of(x)
    return F.tanhshrink(x)


@register()
def sigmoid(x: Tensor) -> Tensor:
    """Returns `1 / (1 + exp(-x))`.

    The result keeps a reference to `x`, at which the backward pass of a following crossentropy can start.
    """
    if x.__class__ is not Tensor:
        x = tensor_of(x)
    y = torch.sigmoid(x)
    if y.requires_grad and type(y) is Tensor and not is_compiling():
        y._sigmoid_of = x  # type: ignore[attr-defined]
    return y


@register()
def hard_sigmoid(x: Tensor) -> Tensor:
    """Returns `clip(x / 6 + 1/2, 0, 1)`."""
    if x.__class__ is not Tensor:
        x = tensor_of(x)
    return F.hardsigmoid(x)


@register()
def log_sigmoid(x: Tensor) -> Tensor:
    """Returns `log(sigmoid(x))`."""
    if x.__class__ is not Tensor:
        x = tensor_of(x)
    return F.logsigmoid(x)


@register()
def softmax(x: Tensor, axis: int | Sequence[int] = -1) -> Tensor:
    """Returns `exp(x)`, divided by its sum along `axis`, one or several.

    The result keeps a reference to `x`, from which a following crossentropy is computed: fewer operations, same value.
    """
    if x.__class__ is not Tensor:
        x = tensor_of(x)
    if not isinstance(axis, int):
        return torch.exp(x - torch.logsumexp(x, tuple(axis), keepdim=True))
    y = torch.softmax(x, dim=axis)
    if axis == -1 and type(y) is Tensor and not is_compiling():
        y._keras_logits = x  # type: ignore[attr-defined]
    return y


@register()
def log_softmax(x: Tensor, axis: int | Sequence[int] = -1) -> Tensor:
    """Returns `log(softmax(x))` along `axis`, one or several."""
    if x.__class__ is not Tensor:
        x = tensor_of(x)
    if not isinstance(axis, int):
        return x - torch.logsumexp(x, tuple(axis), keepdim=True)
    return torch.log_softmax(x, dim=axis)


@register()
def softplus(x: Tensor) -> Tensor:
    """Returns `log(1 + exp(x))`."""
    if x.__class__ is not Tensor:
        x = tensor_of(x)
    return F.softplus(x)


@register()
def softsign(x: Tensor) -> Tensor:
    """Returns `x / (1 + |x|)`."""
    if x.__class__ is not Tensor:
        x = tensor_of(x)
    return F.softsign(x)


@register()
def squareplus(x: Tensor, b: float = 4) -> Tensor:
    """Returns `(x + sqrt(x**2 + b)) / 2`. Source: Barron 2021."""
    if x.__class__ is not Tensor:
        x = tensor_of(x)
    return (x + torch.sqrt(x * x + b)) / 2


@register()
def exponential(x: Tensor) -> Tensor:
    """Returns `exp(x)`."""
    if x.__class__ is not Tensor:
        x = tensor_of(x)
    return torch.exp(x)


@register()
def hard_shrink(x: Tensor, threshold: float = 0.5) -> Tensor:
    """Returns `x` where `|x| > threshold`, else 0."""
    if x.__class__ is not Tensor:
        x = tensor_of(x)
    return F.hardshrink(x, threshold)


@register()
def soft_shrink(x: Tensor, threshold: float = 0.5) -> Tensor:
    """Returns `x` shrunk by `threshold` towards 0, and 0 where `|x| <= threshold`."""
    if x.__class__ is not Tensor:
        x = tensor_of(x)
    return F.softshrink(x, threshold)


@register()
def threshold(x: Tensor, threshold: float, default_value: float) -> Tensor:
    """Returns `x` where it exceeds `threshold`, else `default_value`."""
    if x.__class__ is not Tensor:
        x = tensor_of(x)
    return F.threshold(x, threshold, default_value)


@register()
def sparse_plus(x: Tensor) -> Tensor:
    """Returns 0 up to -1, `(x + 1)**2 / 4` up to 1, then `x`."""
    if x.__class__ is not Tensor:
        x = tensor_of(x)
    return torch.where(x <= -1, torch.zeros_like(x), torch.where(x < 1, (x + 1) ** 2 / 4, x))


@register()
def sparse_sigmoid(x: Tensor) -> Tensor:
    """Returns `clip((x + 1) / 2, 0, 1)`."""
    if x.__class__ is not Tensor:
        x = tensor_of(x)
    return ((x + 1) / 2).clamp(0, 1)


@register()
def sparsemax(x: Tensor, axis: int = -1) -> Tensor:
    """Returns the nearest point of the probability simplex along `axis`: many outputs are exactly 0.

    Source: Martins & Astudillo 2016.
    """
    if x.__class__ is not Tensor:
        x = tensor_of(x)
    z = x.movedim(axis, -1)
    ordered = z.sort(dim=-1, descending=True).values
    rank = torch.ones_like(z).cumsum(-1)
    sums = ordered.cumsum(-1)
    support = (1 + rank * ordered > sums).sum(-1, keepdim=True)  # number of positive outputs
    tau = (sums.gather(-1, support - 1) - 1) / support
    return (z - tau).clamp(min=0).movedim(-1, axis)


def get(identifier: Any) -> Activation:
    """Returns the activation for a name, config or callable; `linear` for None.

    Raises: ValueError: for an unknown name; the message suggests the nearest.
    """
    return linear if identifier is None else serialization.get(identifier, registry)


def serialize(activation: Activation) -> Any:
    """Returns the activation's name, or its config where it is an object."""
    return serialization.serialize_keras_object(activation)


def deserialize(config: Any, custom_objects: dict[str, Any] | None = None) -> Activation:
    """Returns the activation for a result of `serialize`."""
    if isinstance(config, str):
        with serialization.custom_object_scope(custom_objects):
            return get(config)
    return serialization.deserialized(config, custom_objects, registry=registry)
