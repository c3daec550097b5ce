"""Input and InputLayer."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from kstyle_torch.initializers import DType, as_dtype
from kstyle_torch.layer.base import Layer, layer_registry
from kstyle_torch.layer.module_walk import set_unnoticed
from kstyle_torch.layer.shapes import Shape
from kstyle_torch.symbolic.tensor import RecordedCall, SymbolicTensor, is_symbolic

register = layer_registry.register


@register()
class InputLayer(Layer):
    """Input of a model: returns its argument, and holds its name, shape and dtype.

    Args:
        shape: Shape of one sample; None for sizes that vary.
        batch_size: Number of samples, if it is fixed.
        dtype: Of the data; floats become `config.floatx()` and whole numbers are kept for layers that take them if None.
        sparse: Not supported.
        ragged: Not supported.
        batch_shape: `(batch_size, *shape)`, instead of the two.
        input_tensor: A symbolic tensor to use as the input instead of a new one; other arguments must agree with it.
        optional: Whether the data may be None, which is passed on to later layers.
        name: What the data is called in dicts of inputs.
    Raises: ValueError: if not just one of shape and batch_shape is given, or they differ from those of `input_tensor`.

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
        sparse: bool | None = None,
        ragged: bool | None = None,
        batch_shape: Sequence[int | None] | None = None,
        input_tensor: SymbolicTensor | None = None,
        optional: bool = False,
        name: str | None = None,
        **kwargs: Any,
    ):
        if "input_shape" in kwargs:
            warnings.warn("InputLayer: input_shape is the older spelling of shape.", stacklevel=2)
            shape = kwargs.pop("input_shape")
        batch_shape = kwargs.pop("batch_input_shape", batch_shape)
        if input_tensor is not None:
            _check_tensor(input_tensor, shape, batch_size, batch_shape, dtype)
            shape, batch_size, batch_shape, dtype = None, None, input_tensor.shape, input_tensor.dtype
        super().__init__(name=name, dtype=dtype, **kwargs)
        for kind, wanted in (("sparse", sparse), ("ragged", ragged)):
            if wanted:
                raise ValueError(f"{self.name}: {kind} inputs are not supported; pass dense tensors.")
        if (shape is None) == (batch_shape is None):
            raise ValueError("Input needs either shape or batch_shape: Input(shape=(10,)).")
        if batch_shape is not None and batch_size is not None:
            raise ValueError(
                "Input takes batch_shape or batch_size, not both, since batch_shape includes the batch size."
            )
        if isinstance(shape, int) or isinstance(batch_shape, int):
            raise ValueError(f"Input: shape must be a tuple, such as ({shape or batch_shape},); got {shape!r}.")
        self.batch_shape: Shape = tuple(batch_shape) if batch_shape is not None else (batch_size, *(shape or ()))
        self.sparse = self.ragged = False
        self.optional = bool(optional)
        self.dtype_given = dtype is not None
        set_unnoticed(self, built=True)
        if input_tensor is not None:
            self._take(input_tensor)

    def _take(self, tensor: SymbolicTensor) -> None:
        """Makes a symbolic tensor the input of this layer."""
        tensor.source, tensor.name = self, self.name
        self._calls[:] = [RecordedCall(tensor, tensor)]

    @property
    def output(self) -> SymbolicTensor:
        """The symbolic tensor of this input."""
        ends = self._calls[0].ends() if self._calls else None
        return input_tensor(self) if ends is None else ends["output"]

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments as Keras writes them: the whole shape, and a dtype instead of a policy."""
        settings = {name: getattr(self, name) for name in ("dtype", "sparse", "ragged", "name", "optional")}
        return {"batch_shape": self.batch_shape, **settings}

    def forward(self, *inputs: Tensor) -> Tensor | None:
        return inputs[0] if inputs else None  # Keras' InputLayer takes no arguments

    def _direct(self) -> None:
        return None


def Input(  # noqa: N802, a class to its callers
    shape: Sequence[int | None] | None = None,
    batch_size: int | None = None,
    dtype: DType = None,
    sparse: bool | None = None,
    ragged: bool | None = None,
    batch_shape: Sequence[int | None] | None = None,
    name: str | None = None,
    tensor: SymbolicTensor | None = None,
    optional: bool = False,
) -> SymbolicTensor:
    """Returns the input of a model: a symbolic tensor to call layers on, or the first entry of a Sequential.

    Args:
        shape: Shape of one sample; None for sizes that vary.
        batch_size: Number of samples, if it is fixed.
        dtype: Of the data; floats become `config.floatx()` and whole numbers are kept for layers that take them if None.
        sparse: Not supported.
        ragged: Not supported.
        batch_shape: `(batch_size, *shape)`, instead of the two.
        name: What the data is called in dicts of inputs.
        tensor: A symbolic tensor to use as the input instead of a new one; it is returned.
        optional: Whether the data may be None, which is passed on to later layers.
    Raises: ValueError: if not just one of shape and batch_shape is given, or they differ from those of `tensor`.

    Example:
        >>> Input((28, 28, 1), name="image").shape
        (None, 28, 28, 1)
    """
    layer = InputLayer(shape, batch_size, dtype, sparse, ragged, batch_shape, tensor, optional, name)
    return layer.output if tensor is None else tensor


def input_tensor(layer: InputLayer) -> SymbolicTensor:
    """Returns a new symbolic tensor for an InputLayer."""
    tensor = SymbolicTensor(layer.batch_shape, as_dtype(layer.dtype))
    layer._take(tensor)
    return tensor


def _check_tensor(tensor: Any, shape: Any, batch_size: Any, batch_shape: Any, dtype: DType) -> None:
    """Raises a ValueError if a tensor is not symbolic, or other arguments contradict it."""
    if not is_symbolic(tensor):
        raise ValueError(
            f"Input: tensor must be symbolic, made by Input() or by calling a layer on one; got {type(tensor).__name__}."
        )
    said = {
        "shape": (shape if shape is None else tuple(shape), tensor.shape[1:]),
        "batch_size": (batch_size, tensor.shape[0] if tensor.shape else None),
        "batch_shape": (batch_shape if batch_shape is None else tuple(batch_shape), tensor.shape),
        "dtype": (dtype if dtype is None else as_dtype(dtype), tensor.torch_dtype),
    }
    for name, (given, found) in said.items():
        if given is not None and given != found:
            raise ValueError(f"Input: {name}={given} does not fit the given tensor, which has {found}; omit it.")
