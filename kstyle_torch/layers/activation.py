"""Activation, and activation layers with arguments or weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kstyle_torch import activations, config, constraints, initializers, regularizers
from kstyle_torch.layer.base import Layer, layer_registry
from kstyle_torch.layer.casts import INTEGERS
from kstyle_torch.layer.checks import check_sizes, not_negative
from kstyle_torch.layer.shapes import Shape
from kstyle_torch.layer.weights import Weight

register = layer_registry.register


@register()
class Activation(Layer):
    """Layer that applies an activation function.

    Args:
        activation: Name or function.
    Output shape: that of the input.

    Example:
        >>> Activation("relu")(torch.tensor([-1.0, 2.0]))
        tensor([0., 2.])
    """

    _has_nothing_to_build = True
    supports_masking = True

    def __init__(self, activation: Any, **kwargs: Any):
        super().__init__(**kwargs)
        self.activation = activations.get(activation)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.activation(inputs)


@register()
class ReLU(Layer):
    """`max(x, 0)`; optionally capped, leaky or shifted.

    Args:
        max_value: Upper bound of the output; none if None.
        negative_slope: Slope below `threshold`.
        threshold: Values below it count as negative.
    Output shape: that of the input.
    Raises: ValueError: if an argument is negative.

    Example:
        >>> ReLU(max_value=2)(torch.tensor([-1.0, 1.0, 3.0]))
        tensor([0., 1., 2.])
    """

    _has_nothing_to_build = True
    supports_masking = True

    def __init__(
        self, max_value: float | None = None, negative_slope: float = 0.0, threshold: float = 0.0, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.max_value = None if max_value is None else not_negative(max_value, "max_value", self)
        self.negative_slope = not_negative(negative_slope, "negative_slope", self)
        self.threshold = not_negative(threshold, "threshold", self)

    def forward(self, inputs: Tensor) -> Tensor:
        return activations.relu(inputs, self.negative_slope, self.max_value, self.threshold)


@register()
class LeakyReLU(Layer):
    """`x` where positive, else `negative_slope * x`.

    Args:
        negative_slope: Slope below 0.
    Output shape: that of the input.
    Raises: ValueError: if `negative_slope` is negative.

    Example:
        >>> LeakyReLU(0.5)(torch.tensor([-2.0, 2.0]))
        tensor([-1.,  2.])
    """

    _has_nothing_to_build = True
    supports_masking = True

    def __init__(self, negative_slope: float = 0.3, **kwargs: Any):
        super().__init__(**kwargs)
        self.negative_slope = not_negative(negative_slope, "negative_slope", self)

    def forward(self, inputs: Tensor) -> Tensor:
        return F.leaky_relu(inputs, self.negative_slope)


@register()
class PReLU(Layer):
    """`x` where positive, else `alpha * x` with a learned alpha.

    Args:
        alpha_initializer: Of alpha, which has the shape of a sample.
        alpha_regularizer: Penalty on alpha.
        alpha_constraint: What alpha is projected to after each step.
        shared_axes: Axis or axes of the input along which alpha is shared: `[1, 2]` for one alpha per channel of an image.
    Output shape: that of the input.
    Source: He et al. 2015.

    Example:
        >>> PReLU(shared_axes=[1, 2]).compute_output_shape((None, 8, 8, 3))
        (None, 8, 8, 3)
    """

    supports_masking = True
    alpha = Weight("weight")

    def __init__(
        self,
        alpha_initializer: Any = "Zeros",
        alpha_regularizer: Any = None,
        alpha_constraint: Any = None,
        shared_axes: int | Sequence[int] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.alpha_initializer = initializers.get(alpha_initializer)
        self.alpha_regularizer = regularizers.get(alpha_regularizer)
        self.alpha_constraint = constraints.get(alpha_constraint)
        if isinstance(shared_axes, int):
            shared_axes = [shared_axes]
            self._arguments["shared_axes"] = shared_axes
        self.shared_axes = None if shared_axes is None else list(shared_axes)

    def build(self, input_shape: Shape) -> None:
        shape = [*input_shape]
        for axis in self.shared_axes or ():
            if not -len(shape) <= axis < len(shape) or axis % len(shape) == 0:
                raise ValueError(f"{self.name}: shared_axes must be from 1 to {len(shape) - 1}; got {axis}.")
            shape[axis] = 1
        if None in shape[1:]:
            raise ValueError(
                f"{self.name}: the axes that alpha is not shared along must have a known size; got shape {input_shape}. "
                f"Share it along the others with shared_axes=[{shape.index(None, 1)}]."
            )
        self.weight = nn.Parameter(torch.empty(shape[1:], dtype=self._dtype, device=config.device()))  # type: ignore[arg-type]
        self.initialize(alpha=self.alpha_initializer)

    def forward(self, inputs: Tensor) -> Tensor:
        try:
            y = F.relu(inputs) - self.weight * F.relu(-inputs)  # no gradient at 0, as Keras
        except RuntimeError:
            self._check_sizes(inputs)
            raise
        if y.shape != inputs.shape:
            self._check_sizes(inputs)
        return y

    def _check_sizes(self, x: Tensor) -> None:
        shared = [axis % x.ndim for axis in self.shared_axes or ()]
        check_sizes(self, x.shape, *(axis for axis in range(1, self.weight.ndim + 1) if axis not in shared))


@register()
class ELU(Layer):
    """`x` where positive, else `alpha * (exp(x) - 1)`.

    Args:
        alpha: The factor.
    Output shape: that of the input.
    Source: Clevert et al. 2016.

    Example:
        >>> ELU()(torch.tensor([0.0, 2.0]))
        tensor([0., 2.])
    """

    _has_nothing_to_build = True
    supports_masking = True

    def __init__(self, alpha: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.alpha = alpha

    def forward(self, inputs: Tensor) -> Tensor:
        return F.elu(inputs, self.alpha)


@register()
class Softmax(Layer):
    """`exp(x)`, divided by its sum along one or several axes.

    With a `mask`, which broadcasts to the input, the output is 0 where it is False (or at most 0.5), and those elements
    are excluded from the sum.

    Args:
        axis: The axis, or a sequence of them.
    Output shape: that of the input.

    Example:
        >>> Softmax()(torch.zeros(1, 3), mask=torch.tensor([True, False, True]))
        tensor([[0.5000, 0.0000, 0.5000]])
    """

    _has_nothing_to_build = True
    supports_masking = True

    def __init__(self, axis: int | Sequence[int] = -1, **kwargs: Any):
        super().__init__(**kwargs)
        self.axis = axis
        self._axes = (axis,) if isinstance(axis, int) else tuple(axis)

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        if inputs.dtype in INTEGERS:
            inputs = inputs.to(self._dtype)
        if mask is None:
            return self._softmax(inputs)
        if mask.ndim > inputs.ndim or any(
            size not in (1, full) for size, full in zip(mask.shape[::-1], inputs.shape[::-1])
        ):
            raise ValueError(
                f"{self.name}: the mask must broadcast to the input of shape {tuple(inputs.shape)}; "
                f"got a mask of shape {tuple(mask.shape)}."
            )
        hidden = ~mask if mask.dtype == torch.bool else mask <= 0.5
        # masks the result too, since a fully masked row would be uniform
        return self._softmax(inputs.masked_fill(hidden, torch.finfo(inputs.dtype).min)).masked_fill(hidden, 0)

    def _softmax(self, x: Tensor) -> Tensor:
        if len(self._axes) == 1:
            return activations.softmax(x, self._axes[0])
        return torch.exp(x - torch.logsumexp(x, self._axes, keepdim=True))
