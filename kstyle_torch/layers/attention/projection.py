"""Linear projections into and out of attention heads."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from kstyle_torch import activations, constraints, initializers, regularizers
from kstyle_torch.dense_product import through_module
from kstyle_torch.initializers import with_axes
from kstyle_torch.layer.base import Layer
from kstyle_torch.layer.casts import INTEGERS
from kstyle_torch.layer.checks import check_sizes, known_size
from kstyle_torch.layer.layout import Layout
from kstyle_torch.layer.shapes import Shape
from kstyle_torch.layer.weights import Weight, WeightView, native


class HeadProjection(Layer):
    """A linear map whose input or output features have several axes, such as (heads, size of a head).

    Args:
        output_sizes: Sizes of the output axes.
        num_input_axes: Number of trailing axes of the input that they replace.
        activation: Name, function or None (identity).
        use_bias: Whether there is a bias.
        kernel_initializer: Of the kernel, Keras' shape (*input axes, *output axes).
        bias_initializer: Of the bias.
        kernel_regularizer: Penalty on the kernel.
        bias_regularizer: Penalty on the bias.
        activity_regularizer: Penalty on the output.
        kernel_constraint: What the kernel is projected to after each step.
        bias_constraint: What the bias is projected to after each step.
    Input shape: (..., *input axes). Output shape: (..., *output axes).
    """

    _says_where_masks_end = False  # the outer layer does

    _has_precision = False  # the outer layer handles it

    def __init__(
        self,
        output_sizes: Sequence[int],
        num_input_axes: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.output_sizes, self.num_input_axes = tuple(output_sizes), num_input_axes
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self._table: tuple[Weight, ...] = ()

    def build(self, input_shape: Shape) -> None:
        sizes = tuple(known_size(input_shape, axis, self) for axis in range(-self.num_input_axes, 0))
        features, units = math.prod(sizes), math.prod(self.output_sizes)
        self.linear = native(nn.Linear, features, units, self.use_bias, dtype=self._dtype)
        self._table = (
            Weight("linear.weight", _unfolded_matrix(sizes, self.output_sizes), name="kernel"),
            Weight("linear.bias", _unfolded_vector(self.output_sizes), name="bias"),
        )
        inputs, outputs = range(len(sizes)), range(len(sizes), len(sizes) + len(self.output_sizes))
        self.initialize(kernel=with_axes(self.kernel_initializer, inputs, outputs), bias=self.bias_initializer)

    def _table_rows(self) -> tuple[Weight, ...]:
        return self._table  # the layouts depend on the sizes, so they are a table for each layer, not for the class

    @property
    def kernel(self) -> WeightView:
        """The matrix, in Keras' shape (*input axes, *output axes)."""
        return self._view(self._table[0])

    @property
    def bias(self) -> WeightView | None:
        """The bias, in Keras' shape (*output axes)."""
        return self._view(self._table[1]) if self.use_bias else None

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.dtype in INTEGERS:
            inputs = inputs.to(self._dtype)
        inputs = inputs.flatten(-self.num_input_axes) if self.num_input_axes > 1 else inputs
        try:
            y = through_module(self.linear, inputs)
        except RuntimeError:
            if self.num_input_axes == 1:
                check_sizes(self, inputs.shape, -1)
            raise
        y = y.unflatten(-1, self.output_sizes) if len(self.output_sizes) > 1 else y
        return self.activation(y)


def _unfolded_matrix(inputs: tuple[int, ...], outputs: tuple[int, ...]) -> Layout:
    """Returns the layout of a kernel.

    Keras: (*inputs, *outputs); torch: (product of the outputs, product of the inputs).
    """
    to_keras = functools.partial(_transpose_and_shape, (*inputs, *outputs))
    return Layout(to_keras, functools.partial(_shape_and_transpose, (math.prod(inputs), math.prod(outputs))))


def _unfolded_vector(sizes: tuple[int, ...]) -> Layout:
    return Layout(functools.partial(_shape, sizes), functools.partial(_shape, (-1,)))


def _transpose_and_shape(sizes: tuple[int, ...], weight: Tensor) -> Tensor:
    return weight.T.reshape(sizes)


def _shape_and_transpose(sizes: tuple[int, ...], kernel: Tensor) -> Tensor:
    return kernel.reshape(sizes).T


def _shape(sizes: tuple[int, ...], bias: Tensor) -> Tensor:
    return bias.reshape(sizes)
