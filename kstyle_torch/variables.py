"""Named values that are assigned to in place: metric state, and the views that `layer.weights` gives."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kstyle_torch import config, initializers, tree
from kstyle_torch.arrays import from_array, to_array
from kstyle_torch.dtype_policies import DTypeName, dtype_name
from kstyle_torch.initializers import DType, as_dtype

__all__ = ["Variable"]


def assign_all(owner: str, variables: Sequence[Any], store: Any) -> None:
    """Assigns `store["0"]`, `store["1"]`, ... to variables in their order.

    Raises: ValueError: if one is missing from a dict or has another shape; nothing is changed then. Files compare all
        shapes before they get here.
    """
    if isinstance(store, dict):
        for number, variable in enumerate(variables):
            if str(number) not in store:
                raise ValueError(f"{owner}: the values to load lack {str(number)!r}; they have {', '.join(store)}.")
            if (shape := np.shape(store[str(number)])) != (wanted := tuple(variable.shape)):
                raise ValueError(f"{owner}: cannot assign shape {tuple(shape)} to {variable.path}, of shape {wanted}.")
    for number, variable in enumerate(variables):
        variable.assign(store[str(number)])


class Variable:
    """A tensor with a name, read by any torch function or operator and written by `assign`.

    Args:
        initializer: Initial value (array, tensor or number), or an initializer or its name, which needs `shape`.
        shape: Shape of the value.
        dtype: torch dtype or its name; `config.floatx()` if None.
        trainable: Whether it is meant to be trained.
        name: Any string.
    """

    def __init__(
        self,
        initializer: Any,
        shape: tuple[int, ...] | None = None,
        dtype: DType = None,
        trainable: bool = True,
        name: str | None = None,
    ):
        if shape is None and not callable(initializer) and not isinstance(initializer, str):
            array = initializer if isinstance(initializer, Tensor) else np.asarray(initializer)
            initializer, shape = initializers.Constant(array), tuple(array.shape)
        if shape is None:
            raise ValueError(f"Variable {name!r}: an initializer needs a shape; got {initializer!r} and shape=None.")
        make = initializers.get(initializer)
        assert make is not None
        self._tensor = make(shape, as_dtype(dtype)).to(config.device())
        self._trainable, self.name, self.path = trainable, name or "variable", name or "variable"

    @property
    def value(self) -> Tensor:
        """The torch tensor that holds the value."""
        return self._tensor

    @property
    def parameter(self) -> Tensor:
        """The tensor in torch's layout, for `torch.optim` and `torch.autograd`; `value` itself where the layouts agree."""
        return self._tensor

    def read(self) -> Tensor:
        """Returns the value as a tensor in Keras' layout."""
        return self._tensor

    def assign(self, value: Any) -> Variable:
        """Sets the value; a tensor on another device takes the variable there."""
        with torch.no_grad():
            value = value.read() if isinstance(value, Variable) else value
            if not isinstance(value, Tensor):
                value = from_array(value, self._tensor.device)
            if value.shape != self._tensor.shape:
                raise ValueError(f"{self.name}: cannot assign shape {tuple(value.shape)} to {tuple(self.shape)}.")
            self._tensor = value.detach().to(self._tensor.dtype, copy=True)
        return self

    def assign_add(self, value: Any) -> Variable:
        """Adds to the value."""
        return self.assign(self._on_device_of(value) + self._operand(value))

    def assign_sub(self, value: Any) -> Variable:
        """Subtracts from the value."""
        return self.assign(self._on_device_of(value) - self._operand(value))

    def _operand(self, value: Any) -> Any:
        return from_array(value, self.device) if isinstance(value, (list, tuple, np.ndarray)) else value

    def _on_device_of(self, value: Any) -> Tensor:
        if isinstance(value, Tensor) and value.device != self.device:
            return self.read().detach().to(value.device)
        return self.read().detach()

    def numpy(self) -> np.ndarray:
        """Returns the value as an array; waits for the device."""
        return to_array(self.read())

    @property
    def shape(self) -> torch.Size:
        """The shape, in Keras' layout."""
        return self.read().shape

    @property
    def dtype(self) -> DTypeName:
        """The dtype's name, as Keras gives it (`"float32"`); it equals the torch dtype too."""
        return dtype_name(self.parameter.dtype)

    @property
    def ndim(self) -> int:
        """The number of axes of the value."""
        return self.read().ndim

    @property
    def device(self) -> torch.device:
        """The device of the value."""
        return self.parameter.device

    @property
    def trainable(self) -> bool:
        """True if training changes it."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)

    @classmethod
    def __torch_function__(cls, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = tree.map_structure(_read, (args, kwargs or {}))
        return function(*args, **kwargs)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.numpy() if dtype is None else self.numpy().astype(dtype)

    def __getitem__(self, index: Any) -> Tensor:
        return self.read()[index]

    def __len__(self) -> int:
        return len(self.read())

    def __bool__(self) -> bool:
        return bool(self.read())

    def __float__(self) -> float:
        return float(self.read())

    def __int__(self) -> int:
        return int(self.read())

    def __repr__(self) -> str:
        return f"<Variable path={self.path}, shape={tuple(self.shape)}, dtype={self.dtype}, value={self.numpy()}>"


def _read(value: Any) -> Any:
    return value.read() if isinstance(value, Variable) else value


def _operator(name: str) -> Callable[..., Any]:
    method = getattr(Tensor, name)

    def operate(self: Variable, *others: Any) -> Any:
        return method(self.read(), *map(_read, others))

    operate.__name__ = name
    return operate


for _name in (
    "add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod pow rpow matmul rmatmul neg abs lt le gt ge"
).split():
    setattr(Variable, f"__{_name}__", _operator(f"__{_name}__"))


@contextlib.contextmanager
def holding_values(
    groups: Mapping[str, Sequence[Any]], values: Sequence[Any]
) -> Iterator[Callable[[], list[list[Tensor]]]]:
    """Lets variables have other values in a block; not beside other threads that use them.

    Args:
        groups: Lists of variables, by the name that a message gives them.
        values: A list of values, in Keras' layout, for each group.
    Yields: A function that returns the values of the moment, by group.
    Raises: ValueError: if a group has not as many values as variables, or a shape differs.
    """
    for (name, variables), given in zip(groups.items(), values, strict=True):
        if len(variables) != len(given):
            raise ValueError(f"{name} must have a value for each of {len(variables)} variables; got {len(given)}.")

    def read() -> list[list[Tensor]]:
        return [[torch.as_tensor(each.value).detach().clone() for each in variables] for variables in groups.values()]

    kept = read()
    try:
        _assign_each(groups, values)
        yield read
    finally:
        _assign_each(groups, kept)


def _assign_each(groups: Mapping[str, Sequence[Any]], values: Sequence[Any]) -> None:
    with torch.no_grad():
        for variables, given in zip(groups.values(), values, strict=True):
            for variable, value in zip(variables, given, strict=True):
                variable.assign(value.read() if isinstance(value, Variable) else value)
