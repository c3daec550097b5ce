"""Nadam."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from kstyle_torch._torch import foreach_add_, foreach_addcdiv_, foreach_sqrt
from kstyle_torch.optimizers.adam_step import move_means
from kstyle_torch.optimizers.base import VarListOptimizer, registry
from kstyle_torch.optimizers.parameter_group import Part
from kstyle_torch.optimizers.variables import HostNumber


@registry.register()
class Nadam(VarListOptimizer):
    """Adam with Nesterov momentum.

    Args:
        learning_rate: Size of a step.
        beta_1: How much of the mean stays at each step, in the end; less in the first steps.
        beta_2: How much of the mean square stays.
        epsilon: Added to the square root.
        weight_decay: See `Optimizer`, as are all others.
    Source: Dozat 2015.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> Nadam(learning_rate=0.1).apply([torch.tensor([1.0, -1.0])], [weight])
        >>> weight.detach()
        tensor([0.8937, 1.1063])
    """

    slots = (("momentum", "velocity"),)
    packs = "steps"

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
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
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon
        self._product = HostNumber(1.0, "float32", "variable")  # of the momenta of all steps

    def _begin(self) -> None:
        self._added.append(self._product)

    def back(self, steps: int) -> None:
        for _ in range(steps):
            super().back(1)
            self._product.number /= self._momentum_at(self.local_step)

    def _momentum_at(self, step: int) -> float:
        return self.beta_1 * (1 - 0.5 * 0.96**step)

    def _change(self, part: Part, gradients: list[Tensor]) -> None:
        self._product.number *= self._momentum_at(self.local_step)  # once per step; subclasses may update one by one
        super()._change(part, gradients)

    def update(
        self, parameters: list[Tensor], gradients: list[Tensor], state: dict[str, list[Any]], learning_rate: float
    ) -> None:
        step, product = self.local_step, self._product.number
        now, after = self._momentum_at(step), self._momentum_at(step + 1)
        move_means(gradients, state, self.beta_1, self.beta_2)
        scale = math.sqrt(1 - self.beta_2**step)
        denominator = foreach_sqrt(state["velocity"])
        foreach_add_(denominator, self.epsilon * scale)
        size = learning_rate * scale
        foreach_addcdiv_(parameters, state["momentum"], denominator, -size * after / (1 - product * after))
        foreach_addcdiv_(parameters, gradients, denominator, -size * (1 - now) / (1 - product))
