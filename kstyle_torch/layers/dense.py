"""Dense."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kstyle_torch import activations, constraints, initializers, regularizers
from kstyle_torch.dense_product import SHORTEST, dense_product, through_module
from kstyle_torch.layer.base import layer_registry
from kstyle_torch.layer.casts import INTEGERS
from kstyle_torch.layer.checks import check_sizes, known_size, positive_int, refuse_quantization
from kstyle_torch.layer.layout import permuted
from kstyle_torch.layer.lora import AdaptedWeight, LoraLayer
from kstyle_torch.layer.shapes import Shape
from kstyle_torch.layer.weights import Weight, native

register = layer_registry.register


@register()
class Dense(LoraLayer):
    """Multiplies by a weight matrix, adds a bias, applies an activation.

    Args:
        units: Size of the last output axis; positive int.
        activation: Name, function or None (identity).
        use_bias: Whether there is a bias.
        kernel_initializer: Of the matrix, Keras' shape (features, units).
        bias_initializer: Of the bias.
        kernel_regularizer: Penalty on the matrix.
        bias_regularizer: Penalty on the bias.
        activity_regularizer: Penalty on the output.
        kernel_constraint: What the matrix is projected to after each step.
        bias_constraint: What the bias is projected to after each step.
        lora_rank: Rank of the two LoRA factors that are trained instead of the matrix; no LoRA if None.
        lora_alpha: Their product is scaled by `lora_alpha / lora_rank`; by 1 if None.
        quantization_config: Must be None; quantization is not supported yet.
    Input shape: (batch, ..., features). Output shape: (batch, ..., units).
    Raises: ValueError: if `units` is not a positive int.
    Source: Glorot & Bengio 2010 (default initializer).

    Example:
        >>> Dense(4)(torch.ones(2, 3)).shape
        torch.Size([2, 4])
    """

    supports_masking = True
    _resolves_mode = True  # `training` is accepted without effect
    kernel = AdaptedWeight("linear.weight", permuted(1, 0))
    bias = Weight("linear.bias")

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        quantization_config: Any = None,
        **kwargs: Any,
    ):
        super().__init__(
            activity_regularizer=activity_regularizer, lora_rank=lora_rank, lora_alpha=lora_alpha, **kwargs
        )
        refuse_quantization(quantization_config, self)
        self.units = positive_int(units, "units", self)
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)

    @property
    def variable_serialization_spec(self) -> dict[str | None, list[str]]:
        """The names of the weights in files, in their order, by quantization mode; None is the only one so far."""
        return {None: ["kernel", "bias"]}

    def build(self, input_shape: Shape) -> None:
        features = known_size(input_shape, -1, self)
        self.linear = native(nn.Linear, features, self.units, self.use_bias, dtype=self._dtype)
        self.initialize(kernel=self.kernel_initializer, bias=self.bias_initializer)
        self._build_lora()

    def forward(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        if inputs.dtype in INTEGERS:  # reads an attribute, since a call would cost more on the common path
            inputs = inputs.to(self._dtype)
        try:
            y = self.linear(inputs) if self.units < SHORTEST else through_module(self.linear, inputs)
        except RuntimeError:
            check_sizes(self, inputs.shape, -1)
            raise
        if self.lora_enabled:
            a, b = self._thin_matrices(y.dtype)
            y = y + (inputs @ a) @ b
        return self.activation(y)

    def _direct(self) -> Callable[[Tensor], Tensor]:
        child, forwards = self._modules["linear"], (Dense.forward, nn.Linear.forward)
        if type(self) is not Dense or forwards != FORWARDS or "forward" in {*vars(self), *vars(child)}:
            return self.forward  # a method was replaced by a user
        children = self._modules
        is_large = type(child) is nn.Linear and min(child.weight.shape) >= SHORTEST
        linear = dense_product if is_large else F.linear

        def run(x: Tensor, training: bool | None = None) -> Tensor:  # noqa: ARG001
            child = children["linear"]
            if type(child) is not nn.Linear or self.lora_enabled:  # users may replace it
                return self.forward(x)
            if x.dtype in INTEGERS:
                x = x.to(self._dtype)
            weights: dict[str, Any] = child._parameters
            activation = self.activation
            try:
                y = linear(x, weights["weight"], weights["bias"])
            except RuntimeError:
                check_sizes(self, x.shape, -1)
                raise
            return torch.relu(y) if activation is activations.relu else activation(y)

        return run


FORWARDS = Dense.forward, nn.Linear.forward
