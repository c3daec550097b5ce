"""RMSprop."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kstyle_torch._torch import foreach_addcdiv_, foreach_addcmul_, foreach_lerp_, foreach_sqrt_, foreach_sub_
from kstyle_torch.optimizers import foreach
from kstyle_torch.optimizers.base import VarListOptimizer, registry


@registry.register("rmsprop")
class RMSprop(VarListOptimizer):
    """Optimizer that divides the gradient by its running root mean square.

    Args:
        learning_rate: Size of a step.
        rho: How much of the mean square stays at each step.
        momentum: How much of the last step is taken again.
        epsilon: Added to the mean square.
        centered: Whether the gradient's variance is used instead of its mean square.
        weight_decay: See `Optimizer`, as are all others.
    Source: Hinton 2012 (lecture 6e); Graves 2013 (centered).

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> RMSprop(learning_rate=0.1).apply([torch.tensor([1.0, -1.0])], [weight])
        >>> weight.detach()
        tensor([0.6838, 1.3162])
    """

    packs = "steps"

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
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
        self.rho, self.momentum, self.epsilon, self.centered = rho, momentum, epsilon, centered
        self.slots = ("velocity", *(["momentum"] if momentum > 0 else []), *(["average_gradient"] if centered else []))
        super().__init__(
            learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum,
            ema_overwrite_frequency, loss_scale_factor, gradient_accumulation_steps, name, **kwargs,
        )  # fmt: skip

    def update(
        self, parameters: list[Tensor], gradients: list[Tensor], state: dict[str, list[Any]], learning_rate: float
    ) -> None:
        foreach.mul_(state["velocity"], self.rho)
        foreach_addcmul_(state["velocity"], gradients, gradients, 1 - self.rho)
        denominator = foreach.add(state["velocity"], self.epsilon)
        if self.centered:
            mean = state["average_gradient"]
            foreach_lerp_(mean, gradients, 1 - self.rho)
            foreach_addcmul_(denominator, mean, mean, -1)
        foreach_sqrt_(denominator)
        if self.momentum > 0:
            foreach.mul_(state["momentum"], self.momentum)
            foreach_addcdiv_(state["momentum"], gradients, denominator, learning_rate)
            foreach_sub_(parameters, state["momentum"])
        else:
            foreach_addcdiv_(parameters, gradients, denominator, -learning_rate)
