"""Snapshots of the complete state of a training, as plain data and tensors."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kstyle_torch.arrays import from_array, to_array
from kstyle_torch.metrics.base import Metric
from kstyle_torch.optimizers.base import Optimizer
from kstyle_torch.optimizers.variables import HostNumber, parameter_of
from kstyle_torch.random import SeedGenerator
from kstyle_torch.variables import Variable

ARRAY = "__array__"  # key of a NumPy array that is stored as a tensor
NOT_STATE = {"_model", "params", "validation_data"}  # attributes of callbacks that are not saved
_NOTHING = object()


# ------------------------------------------------------------------------------------------------ attributes of objects


def plain(value: Any) -> Any:
    """Returns a copy of a number, text, array, tensor or nest of these that can be saved; `_NOTHING` for other objects."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, np.ndarray):
        is_kept = value.dtype.kind in "biuf" or value.dtype.name == "bfloat16"
        return {ARRAY: from_array(value.copy())} if is_kept else _NOTHING
    if type(value) in (list, tuple):
        items = [plain(item) for item in value]
        return _NOTHING if any(item is _NOTHING for item in items) else type(value)(items)
    if type(value) is dict:
        pairs = {key: plain(item) for key, item in value.items() if isinstance(key, (str, int))}
        whole = len(pairs) == len(value) and not any(item is _NOTHING for item in pairs.values())
        return pairs if whole else _NOTHING
    return _NOTHING


def saved(state: Any, name: str) -> Any:
    """Converts the result of an object's `state_dict` to data that can be saved.

    Raises: TypeError: if it contains other objects.
    """
    found = plain(state)
    if found is _NOTHING:
        raise TypeError(
            f"state_dict() of {name} may hold numbers, strings, arrays, tensors, and lists and dicts of them only."
        )
    return found


def revived(value: Any) -> Any:
    """Inverts `plain`."""
    if isinstance(value, dict):
        return to_array(value[ARRAY]) if ARRAY in value else {key: revived(item) for key, item in value.items()}
    return type(value)(map(revived, value)) if isinstance(value, (list, tuple)) else value


def attributes(thing: Any, leave_out: Iterable[str] = ()) -> dict[str, Any]:
    """Returns an object's plain attributes."""
    found = {name: plain(value) for name, value in vars(thing).items() if name not in leave_out}
    return {name: value for name, value in found.items() if value is not _NOTHING}


def prints(values: dict[str, Any]) -> dict[str, Any]:
    """Returns a fingerprint of each attribute, to detect changes."""
    return {name: _print(value) for name, value in values.items()}


def _print(value: Any) -> Any:
    if isinstance(value, Tensor):
        raw = value.contiguous().reshape(-1).view(torch.uint8).numpy().data
        return tuple(value.shape), str(value.dtype), zlib.crc32(raw)
    if isinstance(value, dict):
        return [(key, _print(item)) for key, item in value.items()]
    return [type(value), *map(_print, value)] if isinstance(value, (list, tuple)) else (type(value), value)


class Changes:
    """The state of some objects.

    It is the result of `state_dict`, or else the plain attributes that change after this object is made; this excludes the
    constructor's arguments.

    Args:
        things: The objects, by name.
    """

    def __init__(self, things: dict[str, Any]):
        self.things = things
        self.before = {name: prints(_visible(thing)) for name, thing in things.items()}

    def take(self) -> dict[str, Any]:
        """Returns the state by object name, for objects that have state."""
        taken = {name: self._state(name, thing) for name, thing in self.things.items()}
        return {name: state for name, state in taken.items() if state}

    def _state(self, name: str, thing: Any) -> Any:
        own = None if isinstance(thing, nn.Module) or not hasattr(thing, "state_dict") else thing.state_dict()
        if own is not None:
            return saved(own, name)
        before = self.before[name]
        return {key: value for key, value in _visible(thing).items() if before.get(key, _NOTHING) != _print(value)}

    def give_back(self, taken: dict[str, Any]) -> None:
        """Restores the objects from the result of `take` in another process; new objects are not changed."""
        for name, state in taken.items():
            thing = self.things.get(name)
            if thing is not None and hasattr(thing, "load_state_dict") and not isinstance(thing, nn.Module):
                thing.load_state_dict(revived(state))
            elif thing is not None:
                vars(thing).update(revived(state))


def _visible(thing: Any) -> dict[str, Any]:
    if isinstance(thing, nn.Module):  # attributes with _ are internal and hold the weights
        return attributes(thing, ["training", *(name for name in vars(thing) if name.startswith("_"))])
    return attributes(thing, NOT_STATE)


def numbered(things: Iterable[Any]) -> dict[str, Any]:
    """Returns objects by class name, numbered if there are several: stable names across processes."""
    named: dict[str, Any] = {}
    for thing in things:
        name = type(thing).__qualname__
        number = sum(key.partition("#")[0] == name for key in named)
        named[f"{name}#{number}"] = thing
    return named


# ----------------------------------------------------------------------------------------------------- tensors of models


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Returns all parameters and buffers, including those that `state_dict` excludes."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def optimizers_of(model: Any) -> list[Any]:
    """Returns the compiled optimizer, and those in attributes of the model."""
    own = [value for module in model.modules() for value in vars(module).values()]
    found = [model.optimizer, *(value for value in own if isinstance(value, (Optimizer, torch.optim.Optimizer)))]
    return list({id(each): each for each in found if each is not None}.values())


def cells_of(model: Any) -> dict[str, Any]:
    """Returns variables, seed generators and torch generators in attributes of the modules, by name."""
    known = {id(tensor) for tensor in tensors_of(model).values()}
    found = {}
    for path, module in model.named_modules():
        for name, leaf in _leaves(vars(module)):
            leaf = leaf.state if isinstance(leaf, SeedGenerator) else leaf
            if isinstance(leaf, torch.Generator) or (isinstance(leaf, Variable) and id(leaf.parameter) not in known):
                found[f"{path}:{name}"] = leaf
    return found


def _leaves(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if type(value) in (list, tuple):
            yield from ((f"{name}.{number}", item) for number, item in enumerate(value))
        elif type(value) is dict and name not in ("_parameters", "_buffers", "_modules"):
            yield from ((f"{name}.{key}", item) for key, item in value.items())
        else:
            yield name, value


def read_cell(cell: Any) -> Any:
    """Returns a copy of a variable's, tensor's or generator's state."""
    if isinstance(cell, torch.Generator):
        return cell.get_state()
    if isinstance(cell, HostNumber):
        return cell.number  # with more digits than its dtype
    return (cell.parameter if isinstance(cell, Variable) else cell).detach().cpu().clone()


@torch.no_grad()
def write_cell(cell: Any, state: Any) -> None:
    """Restores a variable, tensor or generator from the result of `read_cell`."""
    if isinstance(cell, torch.Generator):
        cell.set_state(state)
    elif isinstance(cell, HostNumber):
        cell.number = state
    elif isinstance(cell, Tensor):
        cell.copy_(state)
    elif cell.parameter is cell.parameter:  # true for stored parameters, false if a property makes them from a number
        cell.parameter.copy_(state)
    else:
        cell.assign(state)


# ------------------------------------------------------------------------------------------------ optimizers and metrics


def weights_of(model: Any) -> dict[str, Any]:
    """Returns the names of the weights for which an optimizer is built."""
    names = {id(tensor): name for name, tensor in tensors_of(model).items()}
    return {names[id(view.parameter)]: view for view in model.weights if id(view.parameter) in names}


def take_optimizer(model: Any, optimizer: Any) -> dict[str, Any]:
    """Returns the state of an optimizer, of this package or torch's, and of its schedulers."""
    if isinstance(optimizer, torch.optim.Optimizer):
        return {"torch": optimizer.state_dict()}
    names = {id(view.parameter): name for name, view in weights_of(model).items()}
    return {
        "weights": [names.get(id(parameter_of(variable))) for variable in _built_with(optimizer)],
        "cells": [read_cell(cell) for cell in optimizer.variables],
        "parts": {name: part.state_dict() for name, part in _torch_parts(optimizer)},
    }


def _built_with(optimizer: Any) -> list[Any]:
    return getattr(optimizer, "inner_optimizer", optimizer)._variables


def build_optimizer(model: Any, optimizer: Any, state: dict[str, Any]) -> None:
    """Builds an optimizer for the weights in the result of `take_optimizer`, in their order."""
    if state.get("weights"):
        known = weights_of(model)
        optimizer.build([known[name] for name in state["weights"] if name in known])


def fits(optimizer: Any, state: dict[str, Any]) -> bool:
    """Returns whether the result of `take_optimizer` fits this optimizer and these weights."""
    if isinstance(optimizer, torch.optim.Optimizer) or "torch" in state:
        return isinstance(optimizer, torch.optim.Optimizer) and "torch" in state
    own, others = [read_cell(cell) for cell in optimizer.variables], state["cells"]
    return [getattr(cell, "shape", None) for cell in own] == [getattr(cell, "shape", None) for cell in others]


def give_optimizer(optimizer: Any, state: dict[str, Any]) -> None:
    """Restores an optimizer from the result of `take_optimizer`."""
    if "torch" in state:
        optimizer.load_state_dict(state["torch"])
        return
    for cell, own in zip(optimizer.variables, state["cells"], strict=True):
        write_cell(cell, own)
    for name, part in _torch_parts(optimizer):
        part.load_state_dict(state["parts"][name])


def _torch_parts(optimizer: Any) -> list[tuple[str, Any]]:
    parts = vars(optimizer).items()
    return [(n, p) for n, p in parts if hasattr(p, "load_state_dict") and not isinstance(p, (type, nn.Module))]


def shape_of(cell: Any) -> Any:
    """Returns the shape of the result of `read_cell`; None for a number."""
    return getattr(read_cell(cell), "shape", None)


def fits_metric(metric: Any, state: dict[str, Any]) -> bool:
    """Returns whether the result of `take_metric` fits this metric."""
    return [shape_of(variable) for variable in metric.variables] == [cell.shape for cell in state["cells"]]


def take_metric(metric: Any) -> dict[str, Any]:
    """Returns the state of a metric."""
    inner = getattr(metric, "metric", None)  # of another library, in an adapter
    return {
        "cells": [read_cell(variable) for variable in metric.variables],
        "inner": {} if inner is None or isinstance(inner, Metric) else attributes(inner),
    }


def give_metric(metric: Any, state: dict[str, Any]) -> None:
    """Restores a metric from the result of `take_metric`."""
    for variable, value in zip(metric.variables, state["cells"], strict=True):
        variable.assign(value.to(variable.value.device))
    if state["inner"]:
        vars(metric.metric).update({name: revived(value) for name, value in state["inner"].items()})
