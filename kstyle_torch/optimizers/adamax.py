"""Adamax."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kstyle_torch._torch import foreach_abs, foreach_addcdiv_, foreach_lerp_, foreach_maximum_
from kstyle_torch.optimizers import foreach
from kstyle_torch.optimizers.base import VarListOptimizer, registry


@registry.register()
class Adamax(VarListOptimizer):
    """Adam with the largest gradient so far, fading, in place of the root mean square.

    Args:
        learning_rate: Size of a step.
        beta_1: How much of the mean stays at each step.
        beta_2: How much of the largest gradient stays.
        epsilon: Added to the largest gradient.
        weight_decay: See `Optimizer`, as are all others.
    Source: Kingma & Ba 2014, section 7.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> Adamax(learning_rate=0.1).apply([torch.tensor([1.0, -1.0])], [weight])
        >>> weight.detach()
        tensor([0.9000, 1.1000])
    """

    slots = (("momentum", "norm"),)
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

    def update(
        self, parameters: list[Tensor], gradients: list[Tensor], state: dict[str, list[Any]], learning_rate: float
    ) -> None:
        foreach_lerp_(state["momentum"], gradients, 1 - self.beta_1)
        foreach.mul_(state["norm"], self.beta_2)
        foreach_maximum_(state["norm"], foreach_abs(gradients))
        denominator = foreach.add(state["norm"], self.epsilon)
        size = learning_rate / (1 - self.beta_1**self.local_step)
        foreach_addcdiv_(parameters, state["momentum"], denominator, -size)
