"""EinsumDense: a dense layer whose product is an einsum equation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kstyle_torch import activations, config, constraints, initializers, regularizers
from kstyle_torch.dense_product import dense_product, is_chosen
from kstyle_torch.initializers import with_axes
from kstyle_torch.layer.base import layer_registry
from kstyle_torch.layer.casts import INTEGERS
from kstyle_torch.layer.checks import check_sizes, refuse_quantization
from kstyle_torch.layer.lora import AdaptedWeight, LoraLayer
from kstyle_torch.layer.shapes import Shape
from kstyle_torch.layer.weights import Weight

EQUATION = re.compile(
    r"(?P<left>(?:\.\.\.)?)(?P<input>[a-zA-Z]+)(?P<right>(?:\.\.\.)?),"
    r"(?P<kernel>[a-zA-Z]+)->(?P=left)(?P<output>[a-zA-Z]+)(?P=right)"
)
MATRIX_PRODUCT = re.compile(r"((?:\.\.\.)?[a-zA-Z]*)([a-zA-Z]),\2([a-zA-Z])->\1\3")


class Einsum(nn.Module):
    """`einsum(equation, x, weight) + bias`.

    Args:
        equation: Equation of the input and the weight.
        weight: The second operand.
        bias: Bias to add, or None.
    """

    def __init__(self, equation: str, weight: Tensor, bias: Tensor | None):
        super().__init__()
        self.equation = equation
        self.weight = nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)
        self.is_matrix_product = MATRIX_PRODUCT.fullmatch(equation) is not None

    def forward(self, inputs: Tensor, change: Tensor | None = None) -> Tensor:
        """Returns the product with the weight, plus `change` if given."""
        weight = self.weight if change is None else self.weight + change
        if self.is_matrix_product and is_chosen():
            y = dense_product(inputs, weight.t())
        else:
            y = torch.einsum(self.equation, inputs, weight)
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        """Returns its description for `print`."""
        return f"{self.equation!r}, weight={tuple(self.weight.shape)}, bias={self.bias is not None}"


@layer_registry.register()
class EinsumDense(LoraLayer):
    """Multiplies by a weight tensor along the axes in an equation, adds a bias, applies an activation.

    Args:
        equation: `"ab,bc->ac"`: a letter for each axis of input, kernel and output. Other axes may be `...`, at
            the front (`"...x,xy->...y"`) or the end (`"ab...,bc->ac..."`).
        output_shape: Sizes of the output's axes without the batch and without `...`; None where the input has the axis.
        activation: Name, function or None (identity).
        bias_axes: The output's letters along which the bias varies; no bias if None.
        kernel_initializer: Of the kernel, in the equation's shape.
        bias_initializer: Of the bias.
        kernel_regularizer: Penalty on the kernel.
        bias_regularizer: Penalty on the bias.
        kernel_constraint: What the kernel is projected to after each step.
        bias_constraint: What the bias is projected to after each step.
        lora_rank: Rank of the two LoRA factors that are trained instead of the kernel; no LoRA if None.
        lora_alpha: Their product is scaled by `lora_alpha / lora_rank`; by 1 if None.
        gptq_unpacked_column_size: Columns of the kernel before quantization packed them; kept in the config only.
        quantization_config: Must be None; quantization is not supported yet.
    Raises: ValueError: for an equation of another form, or letters or sizes that do not fit together.

    Example:
        >>> EinsumDense("abc,cd->abd", (None, 64), bias_axes="d")(torch.ones(2, 5, 3)).shape
        torch.Size([2, 5, 64])
    """

    _resolves_mode = True  # `training` is accepted without effect
    kernel = AdaptedWeight("einsum.weight")
    bias = Weight("einsum.bias")

    def __init__(
        self,
        equation: str,
        output_shape: int | Sequence[int | None],
        activation: Any = None,
        bias_axes: str | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        gptq_unpacked_column_size: int | None = None,
        quantization_config: Any = None,
        **kwargs: Any,
    ):
        super().__init__(lora_rank=lora_rank, lora_alpha=lora_alpha, **kwargs)
        refuse_quantization(quantization_config, self)
        self.gptq_unpacked_column_size = gptq_unpacked_column_size
        self.equation, self.bias_axes = equation, bias_axes
        self.partial_output_shape = tuple(output_shape) if isinstance(output_shape, Sequence) else (output_shape,)
        self.activation = activations.get(activation)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self._parts = self._parse()

    def _parse(self) -> dict[str, str]:
        """Returns the equation's parts, checked."""
        match = EQUATION.fullmatch(self.equation)
        if match is None or (match["left"] and match["right"]):
            raise ValueError(
                f"{self.name}: the equation must have the form 'ab,bc->ac', '...ab,bc->...ac' or 'ab...,bc->ac...'; "
                f"got {self.equation!r}."
            )
        unknown = [
            ("kernel", set(match["kernel"]) - set(match["input"] + match["output"])),
            ("output", set(match["output"]) - set(match["input"] + match["kernel"])),
            ("bias", set(self.bias_axes or "") - set(match["output"])),
        ]
        for part, letters in unknown:
            if letters:
                raise ValueError(
                    f"{self.name}: axis {min(letters)!r} of the {part} is nowhere else in {self.equation!r}."
                )
        return match.groupdict()

    @property
    def variable_serialization_spec(self) -> dict[str | None, list[str]]:
        """The names of the weights in files, in their order, by quantization mode; None is the only one so far."""
        return {None: ["kernel", "bias"]}

    def build(self, input_shape: Shape) -> None:
        sizes = self._sizes(input_shape)
        kernel, output = self._parts["kernel"], self._parts["output"]
        missing = [letter for letter in kernel + (self.bias_axes or "") if sizes.get(letter) is None]
        if missing:
            raise ValueError(
                f"{self.name}: the size of axis {missing[0]!r} must be known; got input shape {input_shape} and "
                f"output_shape {self.partial_output_shape} for {self.equation!r}."
            )
        bias_shape = None
        if self.bias_axes is not None:
            first = min(map(output.index, self.bias_axes))
            passed_behind = len(input_shape) - len(self._parts["input"]) if self._parts["right"] else 0
            bias_shape = [sizes[axis] if axis in self.bias_axes else 1 for axis in output[first:]] + [1] * passed_behind
        self.einsum = Einsum(self.equation, self._empty([sizes[axis] for axis in kernel]), self._empty(bias_shape))
        self.initialize(kernel=self._initializer(kernel, output), bias=self.bias_initializer)
        self._build_lora()

    def _sizes(self, input_shape: Shape) -> dict[str, int | None]:
        """Returns the size of each letter's axis, None if unknown."""
        passed = len(input_shape) - len(self._parts["input"])
        left, has_ellipsis = self._parts["left"], self._parts["left"] or self._parts["right"]
        if passed < 0 or (passed and not has_ellipsis):
            raise ValueError(f"{self.name}: {self.equation!r} does not fit an input of shape {input_shape}.")
        sizes = dict(zip(self._parts["input"], input_shape[passed if left else 0 :], strict=False))
        batch = () if left and passed else input_shape[:1]  # `...` includes the batch
        given = (*batch, *self.partial_output_shape)
        if len(given) != len(self._parts["output"]):
            raise ValueError(
                f"{self.name}: output_shape {self.partial_output_shape} does not have the axes of the output of "
                f"{self.equation!r} without the batch and '...'."
            )
        for letter, size in zip(self._parts["output"], given, strict=True):
            known = sizes.get(letter)
            if None not in (size, known) and size != known:
                raise ValueError(
                    f"{self.name}: axis {letter!r} has size {known} in the input of shape {input_shape} and "
                    f"{size} in output_shape {self.partial_output_shape}."
                )
            sizes[letter] = known if size is None else size
        return sizes

    def _empty(self, shape: Sequence[Any] | None) -> Any:
        return None if shape is None else torch.empty(shape, dtype=self._dtype, device=config.device())

    def _initializer(self, kernel: str, output: str) -> Any:
        """Returns the initializer of the kernel for its output axes."""
        inputs = (axis for axis, letter in enumerate(kernel) if letter not in output)
        outputs = (axis for axis, letter in enumerate(kernel) if letter in output)
        return with_axes(self.kernel_initializer, inputs, outputs)

    def forward(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        if inputs.dtype in INTEGERS:
            inputs = inputs.to(self._dtype)
        change = None
        if self.lora_enabled:
            a, b = self._thin_matrices(self.einsum.weight.dtype)
            change = a @ b
        if 1 in inputs.shape[1:]:  # einsum would broadcast it
            self._check_sizes(inputs)
        try:
            y = self.einsum(inputs) if change is None else self.einsum(inputs, change)
        except RuntimeError:
            self._check_sizes(inputs)
            raise
        return self.activation(y)

    def _check_sizes(self, inputs: Tensor) -> None:
        """Raises a ValueError if an axis shared with the kernel has another size there."""
        read = [n for n, letter in enumerate(self._parts["input"]) if letter in self._parts["kernel"]]
        from_end = 0 if self._parts["right"] else len(self._parts["input"])
        check_sizes(self, inputs.shape, *(n - from_end for n in read))
