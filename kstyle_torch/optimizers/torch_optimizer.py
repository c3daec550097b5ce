"""Adapter of `torch.optim` optimizers."""

from __future__ import annotations

import functools
import inspect
import warnings
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from kstyle_torch.layer.replaced_parameters import latest
from kstyle_torch.optimizers.base import Optimizer
from kstyle_torch.optimizers.parameter_group import carried
from kstyle_torch.registry import snake_case


class TorchOptimizer(Optimizer):
    """Adapter of a `torch.optim.Optimizer`, which keeps its own parameters, state and learning rate.

    Args:
        optimizer: The optimizer; or a class or `functools.partial` that makes one of a list of parameters.

    Example:
        >>> import functools
        >>> model = Sequential([Input((2,)), layers.Dense(1)])
        >>> model.compile(functools.partial(torch.optim.SGD, lr=0.1), "mse")
        >>> model.optimizer.name
        'sgd'
    """

    @property
    def reversible(self) -> bool:
        """False: its state is not accessible in a general way."""
        return False

    def __init__(self, optimizer: Any):
        made = getattr(optimizer, "func", optimizer)  # of a functools.partial
        kind = made if isinstance(made, type) else type(made)
        super().__init__(0.001, name=snake_case(kind.__name__))
        if issubclass(kind, torch.optim.LBFGS):
            raise ValueError(
                "LBFGS computes the loss several times a step; fit computes it once. Take another optimizer."
            )
        self.optimizer = optimizer
        self._maker: Any = None  # the class or partial, if the optimizer was made here
        self._aside = WeakTensorKeyDictionary()  # state of parameters that are currently not trained
        self._dtypes = WeakTensorKeyDictionary()  # of the trained parameters, at the last `track`
        self._warned: set[int] = set()  # parameters in the last warning that some are not trained

    def build(self, variables: Any) -> None:
        self.track(variables)

    def track(self, variables: Any) -> None:
        """Sets the variables of the next steps; makes the optimizer if it was given as a class, and updates its groups.

        Raises: ValueError: if the optimizer holds none of the variables.
        """
        before = [*self._parameters]
        self._select(self._places(list(variables)))
        trained = self._current().parameters
        if not hasattr(self.optimizer, "param_groups"):
            self._maker, self.optimizer = self.optimizer, self.optimizer(trained)
        elif self._maker is not None:
            self._succeed(before)
            self._hold(trained)
        else:
            self._check_held(trained)
        self._follow_dtypes(trained)

    def _follow_dtypes(self, trained: list[Tensor]) -> None:
        """Casts the state of weights that `model.double()` or its like has moved to another dtype.

        State that had another dtype than its weight before keeps it, as float32 beside weights in bfloat16.
        """
        for parameter in trained:
            before = self._dtypes.get(parameter, parameter.dtype)
            self._dtypes[parameter] = parameter.dtype
            if before is parameter.dtype:
                continue
            state = self.optimizer.state.get(parameter, {})
            for key, each in state.items():
                if key != "step" and isinstance(each, Tensor) and each.dtype is before:
                    state[key] = each.to(parameter.dtype)

    def _succeed(self, before: list[Tensor]) -> None:
        """Moves state to the parameters by which torch itself has replaced others."""
        for old, new in zip(before, self._parameters, strict=False):
            if old is not new and latest(old) is new and old in self.optimizer.state:
                state = self.optimizer.state.pop(old)
                if old.shape == new.shape:
                    is_like = {key: isinstance(each, Tensor) and each.shape == new.shape for key, each in state.items()}
                    self.optimizer.state[new] = {
                        key: carried(each, new) if is_like[key] else each for key, each in state.items()
                    }

    def _hold(self, trained: list[Tensor]) -> None:
        """Makes the groups hold exactly the trained parameters; new ones join the first group with new state."""
        first, *others = self.optimizer.param_groups
        held = {id(parameter): parameter for group in (first, *others) for parameter in group["params"]}
        wanted = {id(parameter) for parameter in trained}
        state = self.optimizer.state
        for key, parameter in held.items():
            if key not in wanted and parameter in state:
                self._aside[parameter] = state.pop(parameter)  # state_dict() fails for parameters without a group
        joined = [parameter for parameter in trained if id(parameter) not in held]
        fresh = self._maker(joined).state if joined else {}  # some create state in the constructor
        for parameter in joined:
            known = self._aside.pop(parameter, fresh.get(parameter))
            if known is not None:
                state[parameter] = known
        for group in others:
            group["params"] = [parameter for parameter in group["params"] if id(parameter) in wanted]
        elsewhere = {id(parameter) for group in others for parameter in group["params"]}
        first["params"] = [parameter for parameter in trained if id(parameter) not in elsewhere]

    def _check_held(self, trained: list[Tensor]) -> None:
        held = {id(parameter) for group in self.optimizer.param_groups for parameter in group["params"]}
        missing = {id(parameter) for parameter in trained} - held
        if missing and len(missing) == len(trained):
            raise ValueError(
                f"{type(self.optimizer).__name__} holds none of the model's trainable weights. Make it of "
                "model.parameters() after the model is built, or pass its class or a functools.partial of it."
            )
        if missing - self._warned:
            warnings.warn(
                f"{type(self.optimizer).__name__} holds {len(trained) - len(missing)} of the {len(trained)} weights that "
                "require a gradient; the others, which it was not made of, are not trained. Add them with "
                "add_param_group(), or freeze them.",
                stacklevel=6,
            )
        self._warned = missing

    @property
    def learning_rate(self) -> Any:
        """The learning rate of the first parameter group; before it exists, its initial rate."""
        if hasattr(self.optimizer, "param_groups"):
            return self.optimizer.param_groups[0]["lr"]
        return inspect.signature(self.optimizer).parameters["lr"].default

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        if not hasattr(self.optimizer, "param_groups"):
            self.optimizer = functools.partial(self.optimizer, lr=float(value))
            return
        for group in self.optimizer.param_groups:
            group["lr"] = float(value)

    @property
    def variables(self) -> list[Any]:
        """The step count; the state is in the torch optimizer's own `state_dict()`."""
        return [self._iterations]

    def _step(self, gradients: Any) -> None:
        part = self._current()
        for parameter, gradient in zip(part.parameters, gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()
        with torch.no_grad():
            for variable, constraint in part.constraints:
                variable.assign(constraint(variable.read()))
        for parameter in part.parameters:
            parameter.grad = None
        self._iterations.number += 1

    def __getstate__(self) -> dict[str, Any]:
        fresh: dict[str, Any] = {"_dtypes": None, "_warned": set()}
        return {**super().__getstate__(), "_aside": [*self._aside.items()], **fresh}

    def __setstate__(self, state: dict[str, Any]) -> None:
        aside = WeakTensorKeyDictionary()
        for parameter, each in state["_aside"]:
            aside[parameter] = each
        vars(self).update({**state, "_aside": aside, "_dtypes": WeakTensorKeyDictionary()})

    def get_config(self) -> dict[str, Any]:
        raise TypeError(f"{type(self.optimizer).__name__} is a torch optimizer and has no Keras config.")


def is_torch_optimizer(value: Any) -> bool:
    """Returns whether a value is a torch optimizer, its class, or a partial; does not import parts of torch.optim."""
    kind = getattr(value, "func", value)  # of a functools.partial
    kind = kind if isinstance(kind, type) else type(kind)
    return issubclass(kind, torch.optim.Optimizer)
