"""Weights of layers: in torch's layout inside the native module, in Keras' layout for users.

A class declares its weights in its body: `kernel = Weight("linear.weight", permuted(1, 0))`.
"""

from __future__ import annotations

import functools
import math
import weakref
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from kstyle_torch import config
from kstyle_torch._torch import is_compiling
from kstyle_torch.arrays import from_array
from kstyle_torch.layer.changes import changes
from kstyle_torch.layer.keras_value import ComputedSource, KerasValue, Source, keras_value
from kstyle_torch.layer.layout import SAME, Layout
from kstyle_torch.layer.reparametrization import Reparametrization, reparametrizations
from kstyle_torch.scopes import opened
from kstyle_torch.variables import Variable, callable_or_none


class Weight:
    """One row of a layer class's weight table, and a descriptor that returns the weight of a built layer.

    A weight that a subclass makes under the same name takes precedence.

    Args:
        path: Path of the tensor from the layer (`"linear.weight"`).
        layout: Conversion to Keras' layout; or a function of the layer that returns it, if it depends on arguments.
        name: Keras' name; in a class body, the name of the attribute.
        regularizer: Penalty; the layer's `<name>_regularizer` if None.
        constraint: Projection; the layer's `<name>_constraint` if None.
    """

    def __init__(
        self,
        path: str,
        layout: Layout | Callable[[Any], Layout] = SAME,
        *,
        name: str = "",
        regularizer: Callable[[Tensor], Tensor] | None = None,
        constraint: Callable[[Tensor], Tensor] | None = None,
    ):
        self.path, self.layout, self.name = path, layout, name
        self.regularizer, self.constraint = regularizer, constraint

    def tensor_of(self, layer: Any) -> Any:
        """Returns the tensor; None if the layer was built without it."""
        owner, _, name = self.path.partition(".")
        holder = layer._modules.get(owner) if name else layer  # fast path for the usual places
        key = name or owner
        if holder is not None and (found := holder._parameters.get(key, holder._buffers.get(key))) is not None:
            return found
        module, name = self.place(layer)
        made = reparametrizations(module).get(name)
        return getattr(module, name) if made is None else made.value()

    def place(self, layer: Any) -> tuple[nn.Module, str]:
        """Returns the module that holds the tensor, and its name there.

        Raises: AttributeError: if the module is missing, as after a user has replaced it.
        """
        owner, _, name = self.path.rpartition(".")
        module = attrgetter(owner)(layer) if owner else layer
        return module, name

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, layer: Any, owner: type) -> Any:
        if layer is None:
            return self
        if self.name in layer._parameters:
            raise AttributeError  # the subclass's own; nn.Module finds it
        return None if self.tensor_of(layer) is None else layer._view(self)


@functools.cache
def weight_table(cls: type) -> tuple[Weight, ...]:
    """Returns the rows of a layer class, its base classes' first."""
    rows: dict[str, Weight] = {}
    for base in reversed(cls.__mro__):
        rows.update((name, row) for name, row in vars(base).items() if isinstance(row, Weight))
    return tuple(rows.values())


def become_view(variable: Variable, layer: nn.Module, row: Weight, path: str) -> None:
    """Turns a variable into the view of a weight; a subclass keeps its own methods."""
    cls = type(variable)
    vars(variable).clear() if cls is Variable else vars(variable).pop("_tensor")
    variable.__class__ = (
        WeightView if cls is Variable else type(cls.__name__, (cls, WeightView), {"__module__": cls.__module__})
    )
    WeightView.__init__(variable, layer, row, path)  # type: ignore[arg-type]


class WeightView(Variable):
    """View of a weight with Keras' name and layout, over the torch tensor in `.parameter`.

    Args:
        layer: The layer or module that owns the weight.
        row: Its row in the weight table.
        path: Its name, prefixed with the names of the layers around it.
    """

    def __init__(self, layer: nn.Module, row: Weight, path: str):
        self._owner, self._row = weakref.ref(layer), row  # weak, since the layer caches its views
        self.name, self.path = row.name, path
        self.holder = weakref.ref(row.place(layer)[0])  # the module that the tensor is in
        self._last: tuple[Tensor, Layout] = (row.tensor_of(layer), self.layout)  # fallback once the layer is freed
        self._effective: WeightView | None = None
        self._value: KerasValue | None = None  # cached while the parameter is the same

    @property
    def _layer(self) -> Any:
        return self._owner()

    @property
    def effective(self) -> WeightView:
        """The weight that torch computes from this one if it is parametrized; else this one."""
        return self if self._effective is None else self._effective

    @property
    def value(self) -> Tensor:
        """The weight in Keras' layout: in-place changes are written to the parameter, and `grad` is the parameter's.

        It is the parameter itself if Keras and torch use the same layout.
        """
        layout, parameter, computed = self.layout, self.parameter, self.computed
        if is_compiling() or (computed is None and layout is SAME):
            return layout.to_keras(parameter)
        if computed is not None:
            return keras_value(ComputedSource(computed, layout, self.path))
        if not isinstance(parameter, nn.Parameter):
            return layout.to_keras(parameter)  # a tensor from `functional_call`, say, which is not a leaf
        if self._value is None or self._value.parameter is not parameter:
            self._value = keras_value(Source(parameter, layout))
        self._value.refresh()
        return self._value

    @property
    def parameter(self) -> Tensor:
        """The torch parameter or buffer, in torch's layout; the computed weight if it is parametrized."""
        layer = self._owner()
        if layer is None:
            return self._last[0]
        tensor: Tensor = self._row.tensor_of(layer)
        if tensor is not self._last[0] and isinstance(tensor, nn.Parameter):
            self._last = tensor, self._last[1]
        return tensor

    @property
    def computed(self) -> Reparametrization | None:
        """The parametrization by which torch computes it; None if it is a parameter or buffer itself."""
        if self._layer is None:
            return None
        module, name = self._row.place(self._layer)
        if module._parameters.get(name) is not None:
            return None
        return reparametrizations(module).get(name)

    def parameters(self) -> dict[str, nn.Parameter]:
        """Returns the parameters that it consists of, by their names in the module that holds it; empty for a buffer."""
        computed = self.computed
        if computed is not None:
            return computed.originals()
        parameter = self.parameter
        return {self._row.path: parameter} if isinstance(parameter, nn.Parameter) else {}

    @property
    def layout(self) -> Layout:
        """The conversion to and from Keras' layout."""
        layout = self._row.layout
        if isinstance(layout, Layout):
            return layout
        return self._last[1] if self._layer is None else layout(self._layer)

    def read(self) -> Tensor:
        """Returns the value in Keras' layout."""
        return self.layout.to_keras(self.parameter)

    def assign(self, value: Any) -> WeightView:
        """Sets the value, given in Keras' layout.

        Raises: ValueError: if the shape differs.
        """
        with torch.no_grad():
            given = value.read() if isinstance(value, Variable) else from_array(value)
            given = given.plain() if isinstance(given, KerasValue) else given
            if given.shape != self.shape:
                raise ValueError(f"{self.path}: cannot assign shape {tuple(given.shape)} to {tuple(self.shape)}.")
            if opened.stateless is not None:
                opened.stateless.add_update((self, given.to(self.parameter.dtype)))
                return self
            computed = self.computed
            if computed is not None:
                computed.assign(self.layout.to_torch(given), self.path)
            else:
                _copy(self.layout.to_torch(given), self.parameter)
        torch.clear_autocast_cache()  # it may hold a copy of the old value
        return self

    def _put_in_place(self, value: Tensor) -> Callable[[], None]:
        """Replaces the weight by a value in Keras' layout, and returns a function that restores it.

        Raises: RuntimeError: if torch computes the weight from others.
        """
        if self.computed is not None or self._layer is None:
            raise RuntimeError(
                f"{self.path} cannot have another value in a StatelessScope: torch computes it from others."
            )
        module, name = self._row.place(self._layer)
        changes_in_place = name not in module._parameters  # as torch's kernels do with buffers
        return put_in_place(module, name, self.layout.to_torch(value.clone() if changes_in_place else value))

    def _value_in_place(self) -> Tensor:
        return self.layout.to_keras(self.parameter)

    @property
    def trainable(self) -> bool:
        """True if training changes it."""
        return any(parameter.requires_grad for parameter in self.parameters().values())

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for parameter in self.parameters().values():
            parameter.requires_grad_(bool(value))

    @property
    def regularizer(self) -> Callable[[Tensor], Tensor] | None:
        """The penalty, called with the weight in Keras' layout."""
        return self._row.regularizer or getattr(self._layer, f"{self.name}_regularizer", None)

    @regularizer.setter
    def regularizer(self, value: Any) -> None:
        self._set_of_layer("regularizer", value)

    @property
    def constraint(self) -> Callable[[Tensor], Tensor] | None:
        """The projection after each step, called with the weight in Keras' layout."""
        return self._row.constraint or getattr(self._layer, f"{self.name}_constraint", None)

    @constraint.setter
    def constraint(self, value: Any) -> None:
        self._set_of_layer("constraint", value)

    def _set_of_layer(self, kind: str, value: Any) -> None:
        """Sets the penalty or projection: on the weight's own row, or on the layer, whose class has the row."""
        callable_or_none(value, kind, self)
        if any(row is self._row for row in self._layer._rows.values()):
            setattr(self._row, kind, value)
            changes.count += 1
        else:
            setattr(self._layer, f"{self.name}_{kind}", value)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_owner": self._layer, "holder": self.holder(), "_value": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        owner, holder = (state[name] or nn.Module() for name in ("_owner", "holder"))
        vars(self).update({**state, "_owner": weakref.ref(owner), "holder": weakref.ref(holder)})


def put_in_place(module: nn.Module, name: str, tensor: Tensor) -> Callable[[], None]:
    """Replaces a parameter or buffer by a tensor, and returns a function that restores it."""
    table: dict[str, Any] = module._parameters if name in module._parameters else module._buffers
    before = table[name]
    table[name] = tensor
    changes.count += 1  # recorded steps hold the old tensor

    def restore() -> None:
        table[name] = before
        changes.count += 1

    return restore


def _copy(source: Tensor, target: Tensor) -> None:
    """Copies a value; kernels of images as matrices, which torch transposes in blocks: four times as fast."""
    is_kernel = type(target) is nn.Parameter and target.dim() == 4 and not is_compiling()  # a program has other strides
    if is_kernel and target.is_contiguous(memory_format=torch.channels_last):
        source, target = (each.permute(0, 2, 3, 1) for each in (source, target))
        rows, columns = len(target), math.prod(target.shape[1:])
        source, target = source.reshape(rows, columns), target.view(rows, columns)
    target.copy_(source)


class _SkipInit(TorchFunctionMode):
    """Function mode that turns the functions of `torch.nn.init` into no-ops."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(function, "__module__", None) == "torch.nn.init":
            return (kwargs or {}).get("tensor", args[0] if args else None)
        return function(*args, **(kwargs or {}))


def native(module_class: Callable[..., nn.Module], *args: Any, **kwargs: Any) -> Any:
    """Returns a native torch module on `config.device()`, with uninitialized weights."""
    with _SkipInit():
        return module_class(*args, device=config.device(), **kwargs)
