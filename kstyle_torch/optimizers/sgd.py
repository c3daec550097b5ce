"""Gradient descent."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kstyle_torch._torch import foreach_add_, fused_sgd_
from kstyle_torch.optimizers import foreach
from kstyle_torch.optimizers.base import Optimizer, registry
from kstyle_torch.optimizers.fused import descend, has_fused_sgd


@registry.register()
class SGD(Optimizer):
    """Gradient descent, with momentum or without.

    Args:
        learning_rate: Size of a step.
        momentum: How much of the last step is taken again; 0 to 1.
        nesterov: Whether the momentum is applied before the gradient. Source: Sutskever et al. 2013.
        weight_decay: See `Optimizer`, as are all others.
    Raises: ValueError: if the momentum is not between 0 and 1.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> SGD(learning_rate=0.5).apply([torch.tensor([1.0, -1.0])], [weight])
        >>> weight.detach()
        tensor([0.5000, 1.5000])
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
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
        if not isinstance(momentum, (int, float)) or not 0 <= momentum <= 1:
            raise ValueError(f"SGD: momentum must be between 0 and 1; got {momentum!r}.")
        self.momentum, self.nesterov = momentum, nesterov
        self.slots = ("momentum",) if momentum else ()
        super().__init__(
            learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum,
            ema_overwrite_frequency, loss_scale_factor, gradient_accumulation_steps, name, **kwargs,
        )  # fmt: skip

    def update(
        self, parameters: list[Tensor], gradients: list[Tensor], state: dict[str, list[Any]], learning_rate: float
    ) -> None:
        if self._current().fused:
            self._fused(parameters, gradients, state, learning_rate)
        else:
            self._foreach(parameters, gradients, state, learning_rate)

    def _fused(
        self, parameters: list[Tensor], gradients: list[Tensor], state: dict[str, list[Any]], learning_rate: float
    ) -> None:
        if not self.momentum or self.nesterov:
            descend(parameters, gradients, learning_rate)
        if not self.momentum:
            return
        # the kernel's buffer becomes Keras' momentum, which holds the learning rate of its own steps:
        # maximize turns the gradient's sign, 1 - dampening is its factor, and a share of the buffer is added to the weight
        fused_sgd_(
            parameters, gradients, state["momentum"], weight_decay=0.0, momentum=self.momentum,
            lr=-self.momentum if self.nesterov else -1.0, dampening=1 - learning_rate, nesterov=False, maximize=True,
            is_first_step=False,
        )  # fmt: skip

    def is_fused(self, parameter: Tensor) -> bool:
        return has_fused_sgd(parameter.device, parameter.dtype)

    def _foreach(
        self, parameters: list[Tensor], gradients: list[Tensor], state: dict[str, list[Any]], learning_rate: float
    ) -> None:
        if not self.momentum:
            foreach_add_(parameters, gradients, alpha=-learning_rate)
            return
        momenta = state["momentum"]
        foreach.mul_(momenta, self.momentum)
        foreach_add_(momenta, gradients, alpha=-learning_rate)
        if self.nesterov:
            foreach_add_(parameters, momenta, alpha=self.momentum)
            foreach_add_(parameters, gradients, alpha=-learning_rate)
        else:
            foreach_add_(parameters, momenta)
