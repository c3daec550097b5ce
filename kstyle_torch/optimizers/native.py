"""A torch optimizer in the place of one of ours."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

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

    def __init__(self, optimizer: Any):
        made = getattr(optimizer, "func", optimizer)  # of a functools.partial
        super().__init__(name=snake_case(getattr(made, "__name__", type(made).__name__)))
        self.optimizer = optimizer

    def build(self, variables: Any) -> None:
        """Notes whose gradients come; makes the optimizer if it was given as a class."""
        super().build(variables)
        if not hasattr(self.optimizer, "param_groups"):
            self.optimizer = self.optimizer(self._parameters)

    @property
    def learning_rate(self) -> Any:
        """That of the first parameter group."""
        return self.optimizer.param_groups[0]["lr"]

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = float(value)

    lr = learning_rate

    def step(self, gradients: list[Tensor | None]) -> None:
        self.iterations.count += 1
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()
        with torch.no_grad():
            for variable, constraint in self._constraints:
                variable.assign(constraint(variable.read()))
        for parameter in self._parameters:
            parameter.grad = None

    def get_config(self) -> dict[str, Any]:
        raise TypeError(f"{type(self.optimizer).__name__} is a torch optimizer and has no Keras config.")


def is_torch_optimizer(value: Any) -> bool:
    """Whether it is a torch optimizer, its class, or a partial of one; asked without importing torch.optim's parts."""
    kind = getattr(value, "func", value)  # of a functools.partial
    kind = kind if isinstance(kind, type) else type(kind)
    return issubclass(kind, torch.optim.Optimizer)
