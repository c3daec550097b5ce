"""Schedule-free AdamW."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kstyle_torch._torch import foreach_addcdiv_, foreach_addcmul_, foreach_div, foreach_lerp_, foreach_sqrt_
from kstyle_torch.optimizers import foreach
from kstyle_torch.optimizers.base import VarListOptimizer, registry


@registry.register()
class ScheduleFreeAdamW(VarListOptimizer):
    """AdamW that averages its weights instead of lowering the learning rate. The weights are where gradients are taken.

    Args:
        learning_rate: Size of a step.
        beta_1: Share of the average in the weights.
        beta_2: How much of the mean square stays at each step.
        epsilon: Added to the square root.
        warmup_steps: For how many steps the learning rate rises.
        weight_decay: See `Optimizer`, as are all others.
    Source: Defazio et al. 2024.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> ScheduleFreeAdamW(learning_rate=0.1).apply([torch.tensor([1.0, -1.0])], [weight])
        >>> weight.detach()
        tensor([0.9000, 1.1000])
    """

    slots = (("momentum", "velocity"),)
    packs = "weights"

    def __init__(
        self,
        learning_rate: Any = 0.0025,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        warmup_steps: int = 0,
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
        self.beta_1, self.beta_2, self.epsilon, self.warmup_steps = beta_1, beta_2, epsilon, warmup_steps

    def _initial(self, slot: str, parameter: Tensor, variable: Any) -> Tensor:
        if slot != "momentum":
            return super()._initial(slot, parameter, variable)
        return parameter.detach().clone()

    def update(
        self, parameters: list[Tensor], gradients: list[Tensor], state: dict[str, list[Any]], learning_rate: float
    ) -> None:
        step = self.local_step
        if self.warmup_steps > 0:
            learning_rate *= min(step / self.warmup_steps, 1.0)
        ahead, velocity = state["momentum"], state["velocity"]
        foreach.mul_(velocity, self.beta_2)
        foreach_addcmul_(velocity, gradients, gradients, 1 - self.beta_2)
        denominator = foreach_div(velocity, 1 - self.beta_2**step)
        foreach_sqrt_(denominator)
        foreach.add_(denominator, self.epsilon)
        foreach_addcdiv_(ahead, gradients, denominator, -learning_rate)
        # Keras on torch takes the share (1 - beta_1) of `ahead` out and in again after it has moved, so that beta_1
        # drops out; in the paper, and in Keras on its other backends, it is taken out where it was before
        foreach_lerp_(parameters, ahead, 1 / step)
