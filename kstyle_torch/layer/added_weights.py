"""Weights made by `add_weight`: torch parameters and buffers with the interface of Keras' variables.

`layer.weights` lists the tensors themselves. torch functions treat them as any parameter, at full speed.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kstyle_torch.arrays import from_array, to_array
from kstyle_torch.layer.weights import Weight, put_in_place
from kstyle_torch.scopes import opened
from kstyle_torch.variables import Variable

# NumPy ufunc -> torch function
UFUNCS: dict[str, Callable[..., Any]] = {
    "add": torch.add,
    "subtract": torch.sub,
    "multiply": torch.mul,
    "divide": torch.true_divide,
    "floor_divide": torch.floor_divide,
    "remainder": torch.remainder,
    "power": torch.pow,
    "matmul": torch.matmul,
    "less": torch.lt,
    "less_equal": torch.le,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "equal": torch.eq,
    "not_equal": torch.ne,
    "bitwise_and": torch.bitwise_and,
    "bitwise_or": torch.bitwise_or,
    "bitwise_xor": torch.bitwise_xor,
}
OPERATORS = "add sub mul truediv floordiv mod pow matmul lt le gt ge eq ne".split()
LOGICAL = ("and", "or", "xor")  # as in Keras; torch's operators of these names are those of bits


class _VariableMethods:
    """Keras' variable interface, as a mixin for tensors made by `add_weight`."""

    _row: Weight | None = None  # of the layer's weight table
    _owner: Callable[[], Any] | None = None
    _path = ""
    aggregation, synchronization, overwrite_with_gradient, autocast = "none", "auto", False, True

    def attach(self, layer: Any, row: Weight) -> None:
        """Sets the layer that owns the weight; a weak reference, since the layer holds the weight."""
        self._owner, self._row = weakref.ref(layer), row
        self._path = self.path

    @property
    def _layer(self) -> Any:
        return None if self._owner is None else self._owner()

    @property
    def name(self) -> str:
        """The name passed to `add_weight`."""
        return "variable" if self._row is None else self._row.name

    @property
    def path(self) -> str:
        """The name, prefixed with the names of the layers around it."""
        layer = self._layer
        if layer is not None:
            self._path = "/".join(part for part in (layer._path_above, layer.name, self.name) if part)
        return self._path or self.name

    @property
    def value(self: Any) -> Any:
        """The tensor itself; inside a `StatelessScope`, that of the scope."""
        noted = None if opened.stateless is None else opened.stateless.get_current_value(self)
        return self if noted is None else noted

    @property
    def parameter(self: Any) -> Any:
        """The tensor itself."""
        return self

    @property
    def trainable(self: Any) -> bool:
        """True if training changes it."""
        return bool(self.requires_grad)

    @trainable.setter
    def trainable(self: Any, value: bool) -> None:
        if isinstance(self, nn.Parameter):
            self.requires_grad_(bool(value))
        elif value:
            raise ValueError(
                f"{self.path} is a buffer, which training cannot change; pass trainable=True to add_weight()."
            )

    @property
    def effective(self: Any) -> Any:
        """The weight itself; differs only for weights that torch computes from other parameters."""
        return self

    @property
    def computed(self) -> None:
        """None, since torch does not compute it from other parameters."""
        return

    def parameters(self: Any) -> dict[str, nn.Parameter]:
        """Returns a dict with the parameter by its path from the layer; empty for a buffer."""
        key = self.name if self._row is None else self._row.path
        return {key: self} if isinstance(self, nn.Parameter) else {}

    @property
    def regularizer(self) -> Callable[[Tensor], Tensor] | None:
        """The penalty on it."""
        regularizer: Callable[[Tensor], Tensor] | None = self._of_layer("regularizer")
        return regularizer

    @property
    def constraint(self) -> Callable[[Tensor], Tensor] | None:
        """The projection after each step."""
        constraint: Callable[[Tensor], Tensor] | None = self._of_layer("constraint")
        return constraint

    def _of_layer(self, kind: str) -> Any:
        return getattr(self._row, kind, None) or getattr(self._layer, f"{self.name}_{kind}", None)

    def read(self: Any) -> Any:
        """Returns the tensor itself."""
        return self

    _stands_in = False  # for another, inside a StatelessScope

    def _is_real(self) -> bool:
        return not self._stands_in

    def _put_in_place(self: Any, value: Tensor) -> Callable[[], None]:
        """Replaces the weight by a value, and returns a function that restores it."""
        layer, row = self._layer, self._row
        value = (
            value.view_as(value).as_subclass(_StandIn)
            if isinstance(self, nn.Parameter)
            else value.clone().as_subclass(State)
        )
        module, name = row.place(layer)
        restore = put_in_place(module, name, value)
        stand_in: Any = module._parameters.get(name, module._buffers.get(name))
        stand_in._stands_in, stand_in._owner, stand_in._row = True, self._owner, row
        return restore

    def _value_in_place(self: Any) -> Tensor:
        tensor: Tensor = self._row.tensor_of(self._layer)
        return torch.Tensor.as_subclass(tensor, Tensor)

    def assign(self: Any, value: Any) -> Any:
        """Sets the value.

        Raises: ValueError: if the shape differs.
        """
        given = value.read() if isinstance(value, Variable) else from_array(value)
        if given.shape != self.shape:
            raise ValueError(f"{self.path}: cannot assign shape {tuple(given.shape)} to {tuple(self.shape)}.")
        if opened.stateless is not None and self._is_real():
            opened.stateless.add_update((self, given.to(self.dtype)))
            return self
        with torch.no_grad():
            self.copy_(given)
        torch.clear_autocast_cache()  # it may hold a copy of the old value
        return self

    def assign_add(self: Any, value: Any) -> Any:
        """Adds to the value."""
        if opened.stateless is not None and self._is_real():
            return self.assign(self.value + _operand(value, self))
        with torch.no_grad():
            return self.add_(_operand(value, self))

    def assign_sub(self: Any, value: Any) -> Any:
        """Subtracts from the value."""
        if opened.stateless is not None and self._is_real():
            return self.assign(self.value - _operand(value, self))
        with torch.no_grad():
            return self.sub_(_operand(value, self))

    def numpy(self: Any, *, force: bool = False) -> Any:
        """Returns the value as an array; waits for the device."""
        return to_array(self.detach().as_subclass(Tensor))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array: np.ndarray = self.numpy()
        return array if dtype is None else array.astype(dtype)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """Makes operators between arrays and weights return differentiable tensors."""
        function = UFUNCS.get(ufunc.__name__)
        if function is not None and method == "__call__" and not kwargs:
            return function(*[_operand(each, self, numbers=False) for each in inputs])
        arrays = [each.numpy() if isinstance(each, _VariableMethods) else each for each in inputs]
        return getattr(ufunc, method)(*arrays, **kwargs)

    def __round__(self: Any, ndigits: int | None = None) -> Tensor:
        return torch.round(self, decimals=ndigits or 0)

    def __deepcopy__(self: Any, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            memo[id(self)] = _remake(type(self), self.detach().clone(), self.requires_grad)
        return memo[id(self)]

    def __reduce_ex__(self: Any, protocol: Any) -> Any:
        return _remake, (type(self), self.detach().as_subclass(Tensor), self.requires_grad)


def _operand(value: Any, like: Any, numbers: bool = True) -> Any:
    """Converts an operand of a weight to a tensor; leaves numbers as they are if `numbers`."""
    value = value.read() if isinstance(value, Variable) else value
    if isinstance(value, Tensor) or (numbers and isinstance(value, (int, float))):
        return value
    return from_array(value, like.device)


def _operator(name: str) -> Callable[..., Any]:
    method = getattr(Tensor, name)

    def operate(self: Any, other: Any) -> Any:
        return method(self, torch.as_tensor(other, device=self.device) if type(other) in (list, tuple) else other)

    operate.__name__ = name
    return operate


def _reflected(name: str) -> Callable[..., Any]:
    """Returns the operator for the right-hand side.

    Python prefers it to the operator of a tensor on the left, which must give the bits of that tensor's own operator.
    """
    method, own = getattr(Tensor, f"__{name}__"), getattr(Tensor, f"__r{name}__")

    def operate(self: Any, other: Any) -> Any:
        if isinstance(other, Tensor):
            return method(other, self)
        if type(other) in (list, tuple):
            return method(torch.as_tensor(other, device=self.device), self)
        return own(self, other)

    operate.__name__ = f"__r{name}__"
    return operate


def _logical(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    def operate(self: Any, other: Any) -> Any:
        return function(self, torch.as_tensor(_operand(other, self), device=self.device))

    operate.__name__ = name
    return operate


for _name in OPERATORS:
    setattr(_VariableMethods, f"__{_name}__", _operator(f"__{_name}__"))
for _name in OPERATORS[: OPERATORS.index("lt")]:  # comparisons are reflected by one another
    setattr(_VariableMethods, f"__r{_name}__", _reflected(_name))
for _name in LOGICAL:
    for _side in (f"__{_name}__", f"__r{_name}__"):
        setattr(_VariableMethods, _side, _logical(getattr(torch, f"logical_{_name}"), _side))


class TrainableWeight(_VariableMethods, nn.Parameter):
    """A parameter made by `add_weight`."""


class State(_VariableMethods, Tensor):
    """A buffer made by `add_weight(trainable=False)`."""

    __torch_function__ = nn.Parameter.__torch_function__  # results are plain tensors


class _StandIn(State):
    """The value of a parameter inside a `StatelessScope`."""


def _remake(cls: type, data: Tensor, requires_grad: bool) -> Any:
    return TrainableWeight(data, requires_grad) if cls is TrainableWeight else data.as_subclass(State)


def attach_weights(layer: Any, rows: dict[str, Weight]) -> None:
    """Restores the class of `add_weight` tensors that torch has replaced by plain ones, and attaches them to the layer."""
    for tensors, cls in ((layer._parameters, TrainableWeight), (layer._buffers, State)):
        for key in rows.keys() & tensors.keys():
            if type(tensors[key]) in (Tensor, nn.Parameter):
                tensors[key].__class__ = cls
            if isinstance(tensors[key], _VariableMethods):
                tensors[key].attach(layer, rows[key])
