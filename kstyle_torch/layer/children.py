"""Attributes of a layer: modules, lists and dicts of them, weights and metrics that a user sets on it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from kstyle_torch import tree
from kstyle_torch.layer.added_weights import State
from kstyle_torch.layer.call_pairs import CALLS, replace_call, restore_call
from kstyle_torch.layer.changes import changes
from kstyle_torch.layer.checks import refuse_new_state
from kstyle_torch.layer.containers import (
    may_hold_metrics,
    may_hold_modules,
    modules_in,
    tracked,
    variables_in,
    with_replaced,
)
from kstyle_torch.layer.module_walk import set_unnoticed
from kstyle_torch.layer.reserved import OWN, is_none_until_set, own_methods, refuse_own
from kstyle_torch.layer.weight_holder import WeightHolder, sync_trainable
from kstyle_torch.mode import HasMode
from kstyle_torch.variables import Variable

TORCH_METHODS = frozenset(name for name, value in vars(nn.Module).items() if callable(value) and name[0] != "_")


class HasChildren(HasMode, WeightHolder):
    """A module that adopts layers and variables assigned to it."""

    _holds_metrics = False  # whether an attribute may hold a metric
    _arguments: dict[str, Any]  # of the constructor

    def __setattr__(self, name: str, value: Any) -> None:
        cls: Any = type(self)
        if name in OWN or (name in own_methods(cls) and not callable(value)):
            refuse_own(self, name)
        changes.count += name != "training"  # set in every fit, and checked separately
        if name in self._arguments and (name in self.__dict__ or name in self._modules):
            self._set_arguments.add(name)  # get_config() reads the attribute then
        if may_hold_metrics(value):
            set_unnoticed(self, _holds_metrics=True)  # searches skip layers without it
        if name in CALLS and callable(value) and not isinstance(value, nn.Module):
            replace_call(self, value)
            return
        if isinstance(value, nn.Module):
            self._refuse_new_layer(value)
            self._hand_mode_to(value)
            self._replace_in_containers(name, value)
        elif isinstance(value, (nn.Parameter, State)):
            if self._claim_weight(name, value):
                return
        elif isinstance(value, Variable):
            if value.can_be_weight:
                refuse_new_state(self, f"the variable {value.name!r}")
            self._adopt_attribute(name, value)
            return
        elif (
            tree.is_nested(value) and name != "__dict__" and may_hold_modules(value)
        ):  # torch.export's copies assign __dict__
            self.__dict__[name] = tracked(value, self, name)
            self._track_container(name)
            return
        elif name in TORCH_METHODS and not callable(value):
            raise AttributeError(
                f"{type(self).__name__}.{name} is a method of torch.nn.Module that other code relies on; "
                f"choose another name for the attribute, such as self.{name}_."
            )
        super().__setattr__(name, value)
        if isinstance(value, WeightHolder) and not self.trainable:
            sync_trainable(value, frozen_above=True)

    def __delattr__(self, name: str) -> None:
        changes.count += 1
        if name in CALLS and name in vars(self):
            restore_call(self)
        else:
            super().__delattr__(name)

    def _refuse_new_layer(self, value: nn.Module) -> None:
        """Raises a ValueError if a layer that is not inside this one yet is assigned within this one's own call."""
        if self.built and isinstance(value, WeightHolder) and not any(value is module for module in self.modules()):
            refuse_new_state(self, f"the layer {value.name!r}")

    def _replace_in_containers(self, name: str, module: nn.Module) -> None:
        """Replaces a child in the user's list or dict too, when another module, such as a wrapper, is assigned for it."""
        for attribute, known in self._in_containers.items():
            if name in known and known[name] is not module:
                self.__dict__[attribute] = with_replaced(self.__dict__[attribute], known[name], module)
                known[name] = module

    def _track_container(self, attribute: str) -> None:
        """Registers the modules in a container as children; those already registered keep their position."""
        known: dict[str, nn.Module] = self._in_containers.get(attribute, {})
        found = {
            self._child_key(key, known): module
            for key, module in modules_in(self.__dict__[attribute], attribute).items()
        }
        for key, variable in variables_in(self.__dict__[attribute], attribute).items():
            self._adopt(self._free_key(key), variable)
        if any(found.get(key) is not module for key, module in known.items()):
            for key in known:
                self._modules.pop(key, None)
            known = {}
        for key, module in found.items():
            if key not in known:
                self._refuse_new_layer(module)
                self.add_module(key, module)
        self._in_containers[attribute] = found

    def _child_key(self, key: str, known: dict[str, nn.Module]) -> str:
        while hasattr(self, key) and key not in known:
            key += "_"
        return key

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """Adds a parameter, also under the name of a class attribute that is None."""
        if name not in self._parameters and is_none_until_set(type(self), name):
            self._parameters[name] = None
        super().register_parameter(name, param)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Adds a buffer, also under the name of a class attribute that is None."""
        if name not in self._buffers and is_none_until_set(type(self), name):
            self._buffers[name] = None
        super().register_buffer(name, tensor, persistent)

    def add_module(self, name: str, module: nn.Module | None) -> None:
        """Adds a child, which takes on this module's mode."""
        if module is not None:
            self._hand_mode_to(module)
        super().add_module(name, module)
        if isinstance(module, WeightHolder) and not self.trainable:
            sync_trainable(module, frozen_above=True)
