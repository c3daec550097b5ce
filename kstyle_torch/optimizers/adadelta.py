"""Adadelta."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kstyle_torch._torch import foreach_add_, foreach_addcmul_, foreach_div_, foreach_mul_, foreach_sqrt_
from kstyle_torch.optimizers import foreach
from kstyle_torch.optimizers.base import VarListOptimizer, registry
from kstyle_torch.optimizers.subclasses import UPDATE_STEPS


@registry.register()
class Adadelta(VarListOptimizer):
    """Optimizer that scales the gradient by the root mean squares of the steps and of itself.

    Args:
        learning_rate: Size of a step; 1.0 is that of the paper.
        rho: How much of the mean squares stays at each step.
        epsilon: Added to them.
        weight_decay: See `Optimizer`, as are all others.
    Source: Zeiler 2012.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> Adadelta(learning_rate=100.0).apply([torch.tensor([1.0, -1.0])], [weight])
        >>> weight.detach()
        tensor([0.8586, 1.1414])
    """

    slots = (("accumulated_grad", "accumulated_delta_var"),)
    packs = "steps"

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.95,
        epsilon: float = 1e-7,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum,
            ema_overwrite_frequency, loss_scale_factor, gradient_accumulation_steps, name, **kwargs,
        )  # fmt: skip
        self.rho, self.epsilon = rho, epsilon

    def update(
        self, parameters: list[Tensor], gradients: list[Tensor], state: dict[str, list[Any]], learning_rate: float
    ) -> None:
        squares, deltas = state["accumulated_grad"], state["accumulated_delta_var"]
        foreach.mul_(squares, self.rho)
        foreach_addcmul_(squares, gradients, gradients, 1 - self.rho)
        delta = self._root(deltas)
        foreach_mul_(delta, gradients)
        foreach_div_(delta, self._root(squares))
        foreach.mul_(deltas, self.rho)
        foreach_addcmul_(deltas, delta, delta, 1 - self.rho)
        foreach_add_(parameters, delta, alpha=-learning_rate)

    def update_step(self, grad: Tensor, variable: Any, learning_rate: Any) -> None:  # the name that Keras has here
        super().update_step(grad, variable, learning_rate)

    def _root(self, squares: list[Tensor]) -> list[Tensor]:
        root = foreach.add(squares, self.epsilon)
        foreach_sqrt_(root)
        return list(root)


UPDATE_STEPS.add(Adadelta.update_step)
