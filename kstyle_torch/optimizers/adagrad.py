"""Adagrad."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kstyle_torch._torch import foreach_addcdiv_, foreach_addcmul_, foreach_sqrt_
from kstyle_torch.optimizers import foreach
from kstyle_torch.optimizers.base import VarListOptimizer, registry


@registry.register()
class Adagrad(VarListOptimizer):
    """Optimizer that divides the gradient by the root of the sum of all its squares.

    Args:
        learning_rate: Size of a step.
        initial_accumulator_value: What the sum starts at.
        epsilon: Added to the sum.
        weight_decay: See `Optimizer`, as are all others.
    Raises: ValueError: if `initial_accumulator_value` is negative.
    Source: Duchi et al. 2011.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> Adagrad(learning_rate=0.1).apply([torch.tensor([1.0, -1.0])], [weight])
        >>> weight.detach()
        tensor([0.9047, 1.0953])
    """

    slots = ("accumulator",)

    def __init__(
        self,
        learning_rate: Any = 0.001,
        initial_accumulator_value: float = 0.1,
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
        if initial_accumulator_value < 0:
            raise ValueError(
                f"Adagrad: initial_accumulator_value must be at least 0; got {initial_accumulator_value!r}."
            )
        super().__init__(
            learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum,
            ema_overwrite_frequency, loss_scale_factor, gradient_accumulation_steps, name, **kwargs,
        )  # fmt: skip
        self.initial_accumulator_value, self.epsilon = initial_accumulator_value, epsilon

    def _initial(self, slot: str, parameter: Tensor, variable: Any) -> Tensor:
        if slot != "accumulator":
            return super()._initial(slot, parameter, variable)
        return torch.full_like(parameter, self.initial_accumulator_value, requires_grad=False)

    def update(
        self, parameters: list[Tensor], gradients: list[Tensor], state: dict[str, list[Any]], learning_rate: float
    ) -> None:
        foreach_addcmul_(state["accumulator"], gradients, gradients, 1.0)
        denominator = foreach.add(state["accumulator"], self.epsilon)
        foreach_sqrt_(denominator)
        foreach_addcdiv_(parameters, gradients, denominator, -learning_rate)
