"""Input and the layer behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from kstyle_torch.initializers import DType, as_dtype
from kstyle_torch.layer.base import Layer, layer_registry
from kstyle_torch.layer.module_walk import set_unnoticed
from kstyle_torch.layer.shapes import Shape
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
        """Returns the constructor's arguments; data have a dtype, not a policy."""
        return {**super().get_config(), "dtype": self.dtype}

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs

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
    """Returns the symbolic tensor that an InputLayer stands for."""
    tensor = SymbolicTensor(layer.batch_shape, as_dtype(layer.dtype), name=layer.name)
    tensor.source = layer
    return tensor
