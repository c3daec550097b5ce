"""Optimizer state with Keras' interface: numbers on the host, and slots in Keras' layout."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kstyle_torch.arrays import from_array
from kstyle_torch.initializers import as_dtype
from kstyle_torch.layer.keras_value import KerasValue, in_keras_layout
from kstyle_torch.layer.layout import SAME, Layout
from kstyle_torch.scopes import opened
from kstyle_torch.variables import Variable


class HostNumber(Variable):
    """A number that the host reads at every step: stored as a Python number, never on a device.

    Args:
        number: Value, rounded to the dtype.
        dtype: Dtype in Keras' files.
        name: Name of the variable.
        path: Its name, prefixed with the optimizer's.
    """

    def __init__(self, number: float, dtype: str, name: str, path: str = ""):
        self._dtype = as_dtype(dtype)
        self.number = self._rounded(number)
        self._trainable, self.name, self.path = False, name, path or name

    def _rounded(self, number: Any) -> Any:
        return torch.tensor(number, dtype=self._dtype).item()

    @property
    def value(self) -> Tensor:
        """The number as a tensor on the CPU."""
        if opened.stateless is not None and (noted := opened.stateless.get_current_value(self)) is not None:
            return noted
        return torch.tensor(self.number, dtype=self._dtype)

    @property
    def parameter(self) -> Tensor:
        return self.value

    def read(self) -> Tensor:
        return self.value

    def assign(self, value: Any) -> HostNumber:
        """Sets the number; waits for the device if the value is on one."""
        number = value.item() if hasattr(value, "item") else float(value)
        if opened.stateless is not None:
            opened.stateless.add_update((self, torch.tensor(number, dtype=self._dtype)))
        else:
            self.number = self._rounded(number)
        return self


class SlotView(Variable):
    """View of a state tensor in Keras' layout of its weight.

    Args:
        tensors: The state of all weights; a tensor may be replaced by one on another device.
        index: Index of the tensor.
        layout: Layout of the weight.
        name: Name of the variable.
        path: Its name, prefixed with the optimizer's.
    """

    _trainable = False

    def __init__(self, tensors: list[Any], index: int, layout: Layout, name: str, path: str):
        self._tensors, self._index, self.layout = tensors, index, layout
        self.name, self.path = name, path

    @property
    def value(self) -> Tensor:
        """The state in Keras' layout; changing it in place changes the optimizer's."""
        if opened.stateless is not None:
            return self.read()
        return in_keras_layout(self.parameter, self.layout)

    @property
    def parameter(self) -> Tensor:
        """The tensor itself, in torch's layout."""
        tensor: Tensor = self._tensors[self._index]
        return tensor

    def read(self) -> Tensor:
        """Returns the value in Keras' layout."""
        if opened.stateless is not None and (noted := opened.stateless.get_current_value(self)) is not None:
            return noted
        return self.layout.to_keras(self.parameter)

    def assign(self, value: Any) -> SlotView:
        """Sets the value, given in Keras' layout.

        Raises: ValueError: if the shape is another.
        """
        with torch.no_grad():
            given = value.read() if isinstance(value, Variable) else from_array(value)
            if given.shape != self.shape:
                raise ValueError(f"{self.path}: cannot assign shape {tuple(given.shape)} to {tuple(self.shape)}.")
            if opened.stateless is not None:
                opened.stateless.add_update((self, given.to(self.parameter.dtype)))
            else:
                self.parameter.copy_(self.layout.to_torch(given))
        return self


def parameter_of(variable: Any) -> Tensor:
    """Returns the torch tensor behind a weight, its `value` or a parameter."""
    if isinstance(variable, (Variable, KerasValue)):
        return variable.parameter
    return variable


def tensor_now(variable: Any) -> Tensor | None:
    """Returns the current tensor of a tracked weight; None if it is gone, such as `weight_orig` after `prune.remove`."""
    try:
        return parameter_of(variable)
    except AttributeError:
        return None


def layout_of(variable: Any) -> Layout:
    """Returns the layout of a weight or its `value`; torch's for a torch parameter."""
    if isinstance(variable, KerasValue):
        return variable.keras_layout
    return getattr(variable, "layout", SAME) if isinstance(variable, Variable) else SAME


def in_keras(gradient: Tensor | None, variable: Any) -> Tensor | None:
    """Returns the gradient of a parameter in the layout of the variable."""
    return gradient if gradient is None else layout_of(variable).to_keras(gradient)


def path_of(variable: Any) -> str:
    """Returns the path of a weight; a bare parameter has none."""
    return getattr(variable, "path", None) or "variable"
