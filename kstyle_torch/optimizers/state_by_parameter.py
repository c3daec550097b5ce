"""Optimizer state by the identity of parameters, which may join, leave and be replaced."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import TensorWeakRef

from kstyle_torch.layer.replaced_parameters import latest
from kstyle_torch.optimizers.variables import HostNumber, parameter_of, tensor_now


class StateByParameter:
    """Base of `Optimizer` that finds and makes the state of its parameters."""

    state: dict[str, list[Any]]
    _variables: list[Any]
    _parameters: list[Tensor]
    _given: list[Any]
    _parts: dict[tuple[int, ...], Any]
    _undecayed: tuple[list[Any], str]
    _left: list[tuple[TensorWeakRef, dict[str, Any]]]
    _iterations: HostNumber

    def _known(self) -> dict[int, int]:
        """Returns the places by the id of the parameter, after moving state to parameters that have replaced others."""
        for place, before in enumerate(self._parameters):
            if (parameter := latest(before)) is not before:
                self._put(place, parameter)
                for slot, tensors in self.state.items():
                    if tensors[place] is not None and before.shape != parameter.shape:
                        tensors[place] = self._initial(slot, parameter, self._variables[place])
        return {id(parameter): place for place, parameter in enumerate(self._parameters)}

    def _unknown(self, variables: list[Any]) -> list[Any]:
        known = self._known()
        return [each for each in variables if id(parameter_of(each)) not in known]

    def _places(self, variables: list[Any]) -> list[int]:
        """Returns the place of the state of each variable; makes state for new ones.

        State belongs to the parameter object, not to its name: pruning and parametrizations rename parameters, and another
        one may be registered under an old name.
        """
        self._given, known = variables, self._known()
        taken = {known.get(id(parameter_of(variable))) for variable in variables}
        now = [tensor_now(variable) for variable in self._variables] if None in taken else []
        of_variable = {id(tensor): place for place, tensor in enumerate(now)}
        places = []
        for variable in variables:
            parameter = parameter_of(variable)
            place = known.get(id(parameter))
            if place is None:
                place = of_variable.get(id(parameter))  # under the name of another, also in a copy of the model
                if place is None or place in taken:
                    place = self._add(variable, parameter)
                else:
                    self._replace(place, variable, parameter)
                known[id(parameter)] = place
                taken.add(place)
            elif tensor_now(self._variables[place]) is not parameter:
                self._undecayed[0][:] = [
                    variable if other is self._variables[place] else other for other in self._undecayed[0]
                ]
                self._variables[place] = variable
                self._parts.clear()
            places.append(place)
        return places

    def _put(self, place: int, parameter: Tensor) -> None:
        self._parameters[place] = parameter
        self._parts.clear()

    def _replace(self, place: int, variable: Any, parameter: Tensor) -> None:
        """Gives the place of a parameter to another one. Its state is kept while the old parameter is alive elsewhere."""
        state = {slot: tensors[place] for slot, tensors in self.state.items()}
        self._left.append((TensorWeakRef(self._parameters[place]), state))
        self._put(place, parameter)
        for slot, tensor in self._state_of(variable, parameter).items():
            self.state[slot][place] = tensor

    def _state_of(self, variable: Any, parameter: Tensor) -> dict[str, Any]:
        """Returns the state of a parameter that joins: new, or its old state if it had left before."""
        self._left = [(reference, state) for reference, state in self._left if reference() is not None]
        for index, (reference, state) in enumerate(self._left):
            if reference() is parameter:
                del self._left[index]
                return state
        state = {slot: self._initial(slot, parameter, variable) for slot in self.state}
        if "average" in state and self._iterations.number:  # only the first step of all sets it to the weight
            state["average"] = parameter.detach().clone()
        return state

    def _add(self, variable: Any, parameter: Tensor) -> int:
        self._variables.append(variable)
        self._parameters.append(parameter)
        for slot, tensor in self._state_of(variable, parameter).items():
            self.state[slot].append(tensor)
        return len(self._variables) - 1

    def _initial(self, slot: str, parameter: Tensor, variable: Any) -> Any:
        return torch.zeros_like(parameter, requires_grad=False)

    def _set_too_late(self, setting: str) -> AttributeError:
        """Returns the error of a setting that needs state, which is made with the optimizer; Keras' is of this type."""
        name = type(self).__name__
        return AttributeError(
            f"{name}.{setting} was set to {getattr(self, setting)!r} on an optimizer made without it, which has no state "
            f"for it. Pass {setting}= to {name}(), and compile the model with that optimizer."
        )
