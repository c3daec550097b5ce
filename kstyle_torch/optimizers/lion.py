"""Lion."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kstyle_torch._torch import foreach_add_, foreach_sign_
from kstyle_torch.optimizers import foreach
from kstyle_torch.optimizers.base import VarListOptimizer, registry


@registry.register()
class Lion(VarListOptimizer):
    """Steps by the sign of a mean of gradient and momentum.

    Args:
        learning_rate: Size of a step; a third to a tenth of what Adam would be given.
        beta_1: Share of the momentum in the step.
        beta_2: How much of the momentum stays.
        weight_decay: See `Optimizer`, as are all others.
    Raises: ValueError: if `beta_1` is not above 0 and at most 1.
    Source: Chen et al. 2023.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> Lion(learning_rate=0.1).apply([torch.tensor([3.0, -0.5])], [weight])
        >>> weight.detach()
        tensor([0.9000, 1.1000])
    """

    slots = ("momentum",)
    shares = ("beta_2",)

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.99,
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
        if not 0 < beta_1 <= 1:
            raise ValueError(f"Lion: beta_1 must be above 0 and at most 1; got {beta_1!r}.")
        super().__init__(
            learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum,
            ema_overwrite_frequency, loss_scale_factor, gradient_accumulation_steps, name, **kwargs,
        )  # fmt: skip
        self.beta_1, self.beta_2 = beta_1, beta_2

    def update(
        self, parameters: list[Tensor], gradients: list[Tensor], state: dict[str, list[Any]], learning_rate: float
    ) -> None:
        direction = foreach.mul(state["momentum"], self.beta_1)
        foreach_add_(direction, gradients, alpha=1 - self.beta_1)
        foreach_sign_(direction)
        foreach_add_(parameters, direction, alpha=-learning_rate)
        foreach.mul_(state["momentum"], self.beta_2)
        foreach_add_(state["momentum"], gradients, alpha=1 - self.beta_2)
