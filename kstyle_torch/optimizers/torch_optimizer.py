"""A torch optimizer in the place of one of ours."""

from __future__ import annotations

import functools
import inspect
import warnings
from typing import Any

import torch

from kstyle_torch.optimizers.base import Optimizer
from kstyle_torch.registry import snake_case


class TorchOptimizer(Optimizer):
    """Drives a `torch.optim.Optimizer`, which keeps its own parameters, state and learning rate.

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
        """No: its state is its own."""
        return False

    def __init__(self, optimizer: Any):
        made = getattr(optimizer, "func", optimizer)  # of a functools.partial
        kind = made if isinstance(made, type) else type(made)
        super().__init__(name=snake_case(kind.__name__))
        if issubclass(kind, torch.optim.LBFGS):
            raise ValueError(
                "LBFGS computes the loss several times a step; fit computes it once. Take another optimizer."
            )
        self.optimizer = optimizer
        self._makes_groups = False  # whether the optimizer was made here, for all that is trained

    def build(self, variables: Any) -> None:
        self.track(variables)

    def track(self, variables: Any) -> None:
        """Notes whose gradients come; makes the optimizer if it was given as a class.

        Raises: ValueError: if the optimizer holds none of the variables.
        """
        known = len(self._parameters)
        self._select(self._places(list(variables)))
        if not hasattr(self.optimizer, "param_groups"):
            self.optimizer = self.optimizer(self._parameters)
            self._makes_groups = True
        held = {id(parameter) for group in self.optimizer.param_groups for parameter in group["params"]}
        joined = [parameter for parameter in self._parameters[known:] if id(parameter) not in held]
        if joined and self._makes_groups:
            self.optimizer.add_param_group({"params": joined})
            return
        if joined and known:
            mine = [id(self._parameters[place]) in held for place in self._current().places]
            warnings.warn(
                f"{type(self.optimizer).__name__} holds {sum(mine)} of the {len(mine)} weights that require a gradient; the "
                "others, which the model got later, are not trained. Add them with add_param_group().",
                stacklevel=5,
            )
        if self._parameters and not any(id(parameter) in held for parameter in self._parameters):
            raise ValueError(
                f"{type(self.optimizer).__name__} holds none of the model's trainable weights. Make it of "
                "model.parameters() after the model is built, or pass its class or a functools.partial of it."
            )

    @property
    def learning_rate(self) -> Any:
        """The rate of the first parameter group; before there is one, the rate that it will start with."""
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

    def get_config(self) -> dict[str, Any]:
        raise TypeError(f"{type(self.optimizer).__name__} is a torch optimizer and has no Keras config.")


def is_torch_optimizer(value: Any) -> bool:
    """Returns whether it is a torch optimizer, its class, or a partial of one; asked without importing torch.optim's parts."""
    kind = getattr(value, "func", value)  # of a functools.partial
    kind = kind if isinstance(kind, type) else type(kind)
    return issubclass(kind, torch.optim.Optimizer)
