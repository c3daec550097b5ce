"""Lamb."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from kstyle_torch._torch import foreach_add_, foreach_addcmul_, foreach_div, foreach_norm, foreach_sqrt
from kstyle_torch.optimizers.adam_step import move_means
from kstyle_torch.optimizers.base import VarListOptimizer, registry


@registry.register()
class Lamb(VarListOptimizer):
    """Adam with steps in proportion to the norm of each weight, for large batches.

    Args:
        learning_rate: Size of a step, relative to the weight.
        beta_1: How much of the mean stays at each step.
        beta_2: How much of the mean square stays.
        epsilon: Added to the square root.
        weight_decay: See `Optimizer`, as are all others.
    Source: You et al. 2019.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> Lamb(learning_rate=0.1).apply([torch.tensor([1.0, -1.0])], [weight])
        >>> weight.detach()
        tensor([0.9000, 1.1000])
    """

    slots = (("momentum", "velocity"),)

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

    def update(
        self, parameters: list[Tensor], gradients: list[Tensor], state: dict[str, list[Any]], learning_rate: float
    ) -> None:
        move_means(gradients, state, self.beta_1, self.beta_2)
        scale = math.sqrt(1 - self.beta_2**self.local_step)
        denominator = foreach_sqrt(state["velocity"])
        foreach_add_(denominator, self.epsilon * scale)
        change = foreach_div(state["momentum"], denominator)  # times a factor, which drops out of the ratio
        weight_norm, change_norm = (torch.stack(foreach_norm(each)) for each in (parameters, change))
        factor = scale / (1 - self.beta_1**self.local_step)
        ratio = torch.where((weight_norm > 0) & (change_norm > 0), weight_norm / change_norm, factor)
        foreach_addcmul_(parameters, change, list(ratio.unbind()), -learning_rate)
