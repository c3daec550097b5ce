"""Input, Dense, Activation, Identity, Masking and the wrapper around bare torch modules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kstyle_torch import activations, constraints, initializers, regularizers
from kstyle_torch.initializers import DType, as_dtype
from kstyle_torch.layers.base import Layer, layer_registry
from kstyle_torch.layers.checks import known_size, positive_int
from kstyle_torch.layers.lora import LoraLayer
from kstyle_torch.layers.precision import INTEGERS
from kstyle_torch.layers.shapes import Shape
from kstyle_torch.layers.walk import set_unnoticed
from kstyle_torch.layers.weights import Weight, native, permuted
from kstyle_torch.mode import holding
from kstyle_torch.symbolic.tensor import SymbolicTensor

register = layer_registry.register


@register()
class InputLayer(Layer):
    """The place where data enters a model: gives back what it gets, and holds its name, shape and dtype.

    Args:
        shape: Shape of one sample; None for sizes that vary.
        batch_size: Number of samples, where it is fixed.
        dtype: Of the data; floats become `config.floatx()` and whole numbers are kept for layers that take them if None.
        batch_shape: `(batch_size, *shape)`, instead of the two.
        name: What the data is called in dicts of inputs.
    Example:
        >>> InputLayer((3,), name="features").batch_shape
        (None, 3)
    """

    supports_masking = True
    _has_precision = _autocast = False

    def __init__(
        self,
        shape: Sequence[int | None] | None = None,
        batch_size: int | None = None,
        dtype: DType = None,
        sparse: bool = False,
        ragged: bool = False,
        batch_shape: Sequence[int | None] | None = None,
        name: str | None = None,
        optional: bool = False,
        **kwargs: Any,
    ):
        super().__init__(name=name, dtype=dtype, **kwargs)
        if sparse or ragged or optional:
            raise ValueError("InputLayer: sparse, ragged and optional inputs are not supported.")
        if (shape is None) == (batch_shape is None):
            raise ValueError("Input needs either shape or batch_shape: Input(shape=(10,)).")
        if isinstance(shape, int) or isinstance(batch_shape, int):
            raise ValueError(f"Input: shape must be a tuple, such as ({shape or batch_shape},); got {shape!r}.")
        self.batch_shape: Shape = tuple(batch_shape) if batch_shape is not None else (batch_size, *(shape or ()))
        self.dtype_given = dtype is not None
        set_unnoticed(self, built=True)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments; data have a dtype, not a policy."""
        return {**super().get_config(), "dtype": self.dtype}

    def forward(self, x: Tensor) -> Tensor:
        return x

    def _direct(self) -> None:
        return None


def Input(  # noqa: N802, a class to its callers
    shape: Sequence[int | None] | None = None,
    batch_size: int | None = None,
    dtype: DType = None,
    sparse: bool = False,
    ragged: bool = False,
    batch_shape: Sequence[int | None] | None = None,
    name: str | None = None,
    optional: bool = False,
) -> SymbolicTensor:
    """Begins a model: a symbolic tensor to call layers on, or the first entry of a Sequential.

    Args:
        shape: Shape of one sample; None for sizes that vary.
        batch_size: Number of samples, where it is fixed.
        dtype: Of the data; floats become `config.floatx()` and whole numbers are kept for layers that take them if None.
        batch_shape: `(batch_size, *shape)`, instead of the two.
        name: What the data is called in dicts of inputs.
    Raises: ValueError: if not just one of shape and batch_shape is given.
    Example:
        >>> Input((28, 28, 1), name="image").shape
        (None, 28, 28, 1)
    """
    return input_tensor(InputLayer(shape, batch_size, dtype, sparse, ragged, batch_shape, name, optional))


def input_tensor(layer: InputLayer) -> SymbolicTensor:
    """The symbolic tensor that an InputLayer stands for."""
    tensor = SymbolicTensor(layer.batch_shape, as_dtype(layer.dtype), name=layer.name)
    tensor.source = layer
    return tensor


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
        lora_rank: Inner size of two thin matrices that are trained instead of the matrix (LoRA); no such thing if None.
        lora_alpha: Their product counts `lora_alpha / lora_rank` times; once if None.
    Input shape: (batch, ..., features). Output shape: (batch, ..., units).
    Raises: ValueError: if `units` is no positive int.
    Source: Glorot & Bengio 2010 (default initializer).
    Example:
        >>> Dense(4)(torch.ones(2, 3)).shape
        torch.Size([2, 4])
    """

    supports_masking = True
    kernel = Weight("linear.weight", permuted(1, 0))
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
        **kwargs: Any,
    ):
        super().__init__(
            activity_regularizer=activity_regularizer, lora_rank=lora_rank, lora_alpha=lora_alpha, **kwargs
        )
        self.units = positive_int(units, "units", self)
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)

    def build(self, input_shape: Shape) -> None:
        features = known_size(input_shape, -1, self)
        self.linear = native(nn.Linear, features, self.units, self.use_bias, dtype=self._dtype)
        self.initialize(kernel=self.kernel_initializer, bias=self.bias_initializer)
        self._build_lora()

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype in INTEGERS:  # an attribute and no call: the usual path pays next to nothing
            x = x.to(self._dtype)
        y = self.linear(x)
        if self.lora_enabled:
            a, b = self._thin_matrices(y.dtype)
            y = y + (x @ a) @ b
        return self.activation(y)

    def _direct(self) -> Callable[[Tensor], Tensor]:
        child, forwards = self._modules["linear"], (Dense.forward, nn.Linear.forward)
        if type(self) is not Dense or forwards != FORWARDS or "forward" in {*vars(self), *vars(child)}:
            return self.forward  # a user has put another function in the place of one
        children, linear = self._modules, F.linear

        def run(x: Tensor) -> Tensor:
            child = children["linear"]
            if type(child) is not nn.Linear or self.lora_enabled:  # somebody has put another in its place
                return self.forward(x)
            if x.dtype in INTEGERS:
                x = x.to(self._dtype)
            weights: dict[str, Any] = child._parameters
            activation = self.activation
            y = linear(x, weights["weight"], weights["bias"])
            return torch.relu(y) if activation is activations.relu else activation(y)

        return run


FORWARDS = Dense.forward, nn.Linear.forward


@register()
class Activation(Layer):
    """Applies an activation function.

    Args:
        activation: Name or function.
    Output shape: that of the input.
    Example:
        >>> Activation("relu")(torch.tensor([-1.0, 2.0]))
        tensor([0., 2.])
    """

    supports_masking = True

    def __init__(self, activation: Any, **kwargs: Any):
        super().__init__(**kwargs)
        self.activation = activations.get(activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(x)


@register()
class Identity(Layer):
    """Gives back its input.

    Output shape: that of the input.
    Example:
        >>> Identity()(torch.ones(2))
        tensor([1., 1.])
    """

    supports_masking = True

    def __init__(self, **kwargs: Any):  # no activity_regularizer in the config, as in Keras'
        super().__init__(**kwargs)

    def forward(self, inputs: Any) -> Any:
        return inputs


@register()
class Masking(Layer):
    """Marks the steps whose values all are `mask_value` as padding, and sets them to 0.

    Layers behind it that take a mask, and the loss, leave those steps out.

    Args:
        mask_value: The value.
    Input shape: (batch, steps, features). Output shape: that of the input.
    Example:
        >>> Masking(-1.0)(torch.tensor([[[3.0, -1.0], [-1.0, -1.0]]]))
        tensor([[[ 3., -1.], [ 0.,  0.]]])
    """

    supports_masking = True

    def __init__(self, mask_value: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        if not isinstance(mask_value, Real):
            raise ValueError(f"{self.name}: mask_value must be a number; got {mask_value!r}.")
        self.mask_value: float = mask_value

    def forward(self, x: Tensor) -> Tensor:
        return torch.where((x != self.mask_value).any(-1, keepdim=True), x, 0)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return (inputs != self.mask_value).any(-1)


@register("TorchModuleWrapper")
class TorchModule(Layer):
    """Any `nn.Module` as a layer, so that it has a name and can be called on symbolic tensors.

    Args:
        module: The module; it is used itself, not copied.
    Example:
        >>> TorchModule(torch.nn.Linear(3, 2))(torch.ones(1, 3)).shape
        torch.Size([1, 2])
    """

    def __init__(self, module: nn.Module, name: str | None = None, **kwargs: Any):
        if not isinstance(module, nn.Module):
            raise TypeError(f"TorchModule wraps an nn.Module; got {type(module).__name__}.")
        super().__init__(name=name, **kwargs)
        self.module = module
        if kwargs.get("dtype") is None:
            self._follow_weights_of(module)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if self.module.training and not self.trainable:  # normalization below runs in inference mode
            with holding(self, True) as held:
                return held.module(*args, **kwargs)
        return self.module(*args, **kwargs)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """A layer from what `get_config` gave.

        Raises: ValueError: for Keras' config of such a layer, which holds the module as a pickle.
        """
        if isinstance(config.get("module"), str):
            raise ValueError(
                f"The torch module of layer {config.get('name')!r} is stored as a pickle, which could do anything when loaded, "
                "so it is not. Make the model in code and load its weights."
            )
        return super().from_config(config)
