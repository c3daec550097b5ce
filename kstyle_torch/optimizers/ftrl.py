"""Ftrl."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kstyle_torch._torch import (
    foreach_add_,
    foreach_addcmul_,
    foreach_clamp_max,
    foreach_clamp_min_,
    foreach_copy_,
    foreach_div_,
    foreach_pow,
    foreach_sub_,
)
from kstyle_torch.optimizers.base import VarListOptimizer, registry


@registry.register()
class Ftrl(VarListOptimizer):
    """Follow-the-regularized-leader: weights from the sum of all gradients, sparse with an L1 penalty.

    Args:
        learning_rate: Size of a step.
        learning_rate_power: How steps shrink with the sum of squares; at most 0.
        initial_accumulator_value: What that sum starts at.
        l1_regularization_strength: L1 penalty.
        l2_regularization_strength: L2 penalty, of the weights.
        l2_shrinkage_regularization_strength: L2 penalty, of the size of the steps.
        beta: Added to the root of the sum.
        weight_decay: See `Optimizer`, as are all others.
    Raises: ValueError: if `learning_rate_power` is above 0, or another number below.
    Source: McMahan et al. 2013.

    Example:
        >>> weight = torch.nn.Parameter(torch.zeros(2))
        >>> Ftrl(learning_rate=0.1).apply([torch.tensor([1.0, -1.0])], [weight])
        >>> weight.detach()
        tensor([-0.0953,  0.0953])
    """

    slots = (("accumulator", "linear"),)
    packs = "weights"

    def __init__(
        self,
        learning_rate: Any = 0.001,
        learning_rate_power: float = -0.5,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        l2_shrinkage_regularization_strength: float = 0.0,
        beta: float = 0.0,
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
        for key, value in (
            ("initial_accumulator_value", initial_accumulator_value),
            ("l1_regularization_strength", l1_regularization_strength),
            ("l2_regularization_strength", l2_regularization_strength),
            ("l2_shrinkage_regularization_strength", l2_shrinkage_regularization_strength),
            ("-learning_rate_power", -learning_rate_power),
        ):
            if value < 0:
                raise ValueError(f"Ftrl: {key} must be at least 0; got {value!r}.")
        super().__init__(
            learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum,
            ema_overwrite_frequency, loss_scale_factor, gradient_accumulation_steps, name, **kwargs,
        )  # fmt: skip
        self.learning_rate_power, self.initial_accumulator_value = learning_rate_power, initial_accumulator_value
        self.l1_regularization_strength = l1_regularization_strength
        self.l2_regularization_strength = l2_regularization_strength
        self.l2_shrinkage_regularization_strength = l2_shrinkage_regularization_strength
        self.beta = beta

    def _initial(self, slot: str, parameter: Tensor, variable: Any) -> Tensor:
        if slot != "accumulator":
            return super()._initial(slot, parameter, variable)
        return torch.full_like(parameter, self.initial_accumulator_value, requires_grad=False)

    def update(
        self, parameters: list[Tensor], gradients: list[Tensor], state: dict[str, list[Any]], learning_rate: float
    ) -> None:
        sums, linear = state["accumulator"], state["linear"]
        before = foreach_pow(sums, -self.learning_rate_power)
        foreach_addcmul_(sums, gradients, gradients, 1.0)
        after = foreach_pow(sums, -self.learning_rate_power)
        foreach_add_(linear, gradients)
        if self.l2_shrinkage_regularization_strength:
            foreach_add_(linear, parameters, alpha=2 * self.l2_shrinkage_regularization_strength)
        foreach_sub_(before, after)
        foreach_addcmul_(linear, before, parameters, 1 / learning_rate)
        foreach_div_(after, learning_rate)
        foreach_add_(after, 2 * self.l2_regularization_strength + self.beta / learning_rate)
        target = foreach_clamp_max(linear, self.l1_regularization_strength)
        foreach_clamp_min_(target, -self.l1_regularization_strength)
        foreach_sub_(target, linear)
        foreach_div_(target, after)
        foreach_copy_(parameters, target)
