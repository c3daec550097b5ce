"""Named values that are assigned to in place: metric state, and the views that `layer.weights` gives."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kstyle_torch import config, initializers, scopes, tree
from kstyle_torch.arrays import from_array, to_array
from kstyle_torch.dtype_policies import DTypeName, dtype_name
from kstyle_torch.initializers import DType, as_dtype
from kstyle_torch.registry import snake_case, unique_name
from kstyle_torch.scopes import opened

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


AGGREGATIONS = ("none", "mean", "sum", "only_first_replica")
SYNCHRONIZATIONS = ("none", "on_read", "on_write", "auto")


class Variable:
    """A tensor with a name, read by any torch function or operator and written by `assign`.

    Set as an attribute of a layer, it becomes a weight of it.

    Args:
        initializer: Initial value (array, tensor or number), or an initializer or its name, which needs `shape`.
        shape: Shape of the value, where an initializer makes it.
        dtype: torch dtype or its name; that of the initial value if None, as `ops.convert_to_tensor` makes one of it, and
            `config.floatx()` for initializers.
        trainable: Whether it is meant to be trained: its value is an `nn.Parameter` then, if it is floating-point.
        autocast: Taken for Keras' sake, as are the next two: one process has one copy, in its own dtype.
        aggregation: `"none"`, `"mean"`, `"sum"` or `"only_first_replica"`.
        synchronization: `"none"`, `"on_read"`, `"on_write"` or `"auto"`.
        name: Any string without "/"; a number is added to the default.
        layout: Taken for Keras' sake.
        kwargs: Likewise.
    Raises: ValueError: for a wrong name, aggregation or synchronization, or an initializer without a shape.

    Example:
        >>> count = Variable(0, trainable=False, name="count")
        >>> count.assign_add(2)
        <Variable path=count, shape=(), dtype=int32, value=2>
    """

    __hash__ = object.__hash__
    __array_priority__ = 1000  # NumPy's arrays leave their operators to ours, so that gradients flow
    _aggregation, _synchronization = "none", "auto"
    _regularizer: Any = None
    _constraint: Any = None
    _overwrite_with_gradient = False
    autocast = True

    @property
    def can_be_weight(self) -> bool:
        """True if it becomes a weight of the layer that it is set on: it is its own, and not a layer's or metric's."""
        return "_tensor" in vars(self)

    def __init__(
        self,
        initializer: Any,
        shape: Sequence[int] | None = None,
        dtype: DType = None,
        trainable: bool = True,
        autocast: bool = True,
        aggregation: str | None = "none",
        synchronization: str | None = "auto",
        name: str | None = None,
        layout: Any = None,
        **kwargs: Any,
    ):
        name = name or unique_name(snake_case(type(self).__name__))
        if not isinstance(name, str) or "/" in name:
            raise ValueError(f"Variable: name must be a string without '/'; got {name!r}.")
        self._aggregation = _one_of(aggregation or "none", AGGREGATIONS, "aggregation", name)
        self._synchronization = _one_of(synchronization or "none", SYNCHRONIZATIONS, "synchronization", name)
        self.name, self.path, self.autocast = name, scopes.path_of(name), bool(autocast)
        self._trainable = bool(trainable)
        if callable(initializer) or isinstance(initializer, str):
            if shape is None:
                raise ValueError(
                    f"Variable {name!r}: an initializer needs a shape; got {initializer!r} and shape=None."
                )
            make = initializers.get(initializer)
            assert make is not None
            value = make(_whole_shape(shape, name), dtype=as_dtype(dtype))
        else:
            value = _initial_value(initializer, dtype)
        value = (
            torch.as_tensor(value).detach().to(config.device(), None if dtype is None else as_dtype(dtype), copy=True)
        )
        self._tensor: Tensor = nn.Parameter(value) if self._trainable and value.is_floating_point() else value

    @property
    def value(self) -> Tensor:
        """The torch tensor that holds the value; inside a `StatelessScope`, that of the scope."""
        return self.read()

    @property
    def parameter(self) -> Tensor:
        """The tensor in torch's layout, for `torch.optim` and `torch.autograd`; `value` itself where the layouts agree."""
        return self._tensor

    def read(self) -> Tensor:
        """Returns the value as a tensor in Keras' layout."""
        if opened.stateless is not None and (noted := opened.stateless.get_current_value(self)) is not None:
            return noted
        return self._tensor

    def assign(self, value: Any) -> Variable:
        """Sets the value; a tensor on another device takes the variable there.

        Raises: ValueError: if the shape is another.
        """
        now = self._tensor
        value = value.read() if isinstance(value, Variable) else value
        if not isinstance(value, Tensor):
            value = from_array(value, now.device)
        if value.shape != now.shape:
            raise ValueError(f"{self.name}: cannot assign shape {tuple(value.shape)} to {tuple(self.shape)}.")
        if opened.stateless is not None:
            opened.stateless.add_update((self, value.to(now.dtype)))
        elif not isinstance(now, nn.Parameter):
            with torch.no_grad():
                self._tensor = value.detach().to(now.dtype, copy=True)
        elif value.device == now.device:
            with torch.no_grad():
                now.copy_(value)
        else:
            now.data = value.detach().to(now.dtype, copy=True)
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
    def aggregation(self) -> str:
        """The way in which Keras would combine copies of it in several processes."""
        return self._aggregation

    @property
    def synchronization(self) -> str:
        """The time at which Keras would do so."""
        return self._synchronization

    @property
    def overwrite_with_gradient(self) -> bool:
        """True if an optimizer is to replace it by its gradient."""
        return self._overwrite_with_gradient

    @overwrite_with_gradient.setter
    def overwrite_with_gradient(self, value: bool) -> None:
        if not isinstance(value, bool):
            raise TypeError(f"{self.name}: overwrite_with_gradient must be a bool; got {value!r}.")
        self._overwrite_with_gradient = value

    @property
    def regularizer(self) -> Any:
        """The penalty on it."""
        return self._regularizer

    @regularizer.setter
    def regularizer(self, value: Any) -> None:
        self._regularizer = callable_or_none(value, "regularizer", self)

    @property
    def constraint(self) -> Any:
        """The projection after each step."""
        return self._constraint

    @constraint.setter
    def constraint(self, value: Any) -> None:
        self._constraint = callable_or_none(value, "constraint", self)

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
        return float(self._scalar())

    def __int__(self) -> int:
        return int(self._scalar())

    def _scalar(self) -> Tensor:
        value = self.read()
        if value.ndim:
            raise TypeError(f"Only a variable without axes is a number; {self.path} has shape {tuple(value.shape)}.")
        return value.detach()

    def __pos__(self) -> Tensor:
        return self.read()

    def __round__(self, ndigits: int | None = None) -> Tensor:
        return torch.round(self.read(), decimals=ndigits) if ndigits else torch.round(self.read())

    def __repr__(self) -> str:
        return f"<Variable path={self.path}, shape={tuple(self.shape)}, dtype={self.dtype}, value={self.numpy()}>"


def _read(value: Any) -> Any:
    return value.read() if isinstance(value, Variable) else value


def _one_of(value: str, allowed: tuple[str, ...], what: str, name: str) -> str:
    if value not in allowed:
        raise ValueError(f"Variable {name!r}: {what} must be one of {', '.join(map(repr, allowed))}; got {value!r}.")
    return value


def callable_or_none(value: Any, what: str, variable: Variable) -> Any:
    if value is not None and not callable(value):
        raise ValueError(f"{variable.name}: {what} must be callable or None; got {value!r}.")
    return value


def _whole_shape(shape: Sequence[int], name: str) -> tuple[int, ...]:
    sizes = tuple(shape)
    if not all(hasattr(size, "__index__") and size >= 0 for size in sizes):
        raise ValueError(f"Variable {name!r}: shape must be known and not negative; got {sizes}.")
    return tuple(map(int, sizes))


def _initial_value(value: Any, dtype: DType) -> Any:
    """Returns a value as a tensor; Python numbers and lists of them take Keras' dtypes: int32 and `config.floatx()`."""
    if isinstance(value, Variable):
        return value.read()
    if isinstance(value, Tensor):
        return value
    array = np.asarray(value)
    if dtype is None and (
        isinstance(value, float) or not isinstance(value, (np.ndarray, np.generic))
    ):  # float64 is a float
        names = {"float64": config.floatx(), "int64": "int32", "complex128": "complex64"}
        if array.dtype.name in names and not (array.dtype.name == "int64" and np.any(np.abs(array) >= 2**31)):
            return torch.as_tensor(array, dtype=as_dtype(names[array.dtype.name]))
    return from_array(array)


def _operator(name: str) -> Callable[..., Any]:
    method = getattr(Tensor, name)

    def operate(self: Variable, *others: Any) -> Any:
        if others and hasattr(others[0], "record_history"):
            return NotImplemented  # a symbolic tensor, which reads the variable when the graph runs
        return method(self.read(), *[self._operand(_read(other)) for other in others])

    operate.__name__ = name
    return operate


def _logical(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Returns the operator for which Keras has a logical operation, where torch's is that of bits."""

    def operate(self: Variable, other: Any) -> Any:
        if hasattr(other, "record_history"):
            return NotImplemented
        value = self.read()
        return function(value, torch.as_tensor(self._operand(_read(other)), device=value.device))

    operate.__name__ = name
    return operate


for _name in (
    "add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod pow rpow matmul rmatmul neg abs invert "
    "lt le gt ge eq ne"
).split():
    setattr(Variable, f"__{_name}__", _operator(f"__{_name}__"))
for _name in ("and", "or", "xor"):
    for _side in (_name, f"r{_name}"):
        setattr(Variable, f"__{_side}__", _logical(getattr(torch, f"logical_{_name}"), f"__{_side}__"))


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
