"""Adam and AdamW."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kstyle_torch.optimizers.adam_step import correction_of, foreach_step, fused_step
from kstyle_torch.optimizers.base import VarListOptimizer, registry
from kstyle_torch.optimizers.fused import has_fused_adam
from kstyle_torch.optimizers.parameter_group import Part


@registry.register()
class Adam(VarListOptimizer):
    """Steps by running means of the gradient and of its square.

    Keras adds `epsilon` before the bias correction, torch after it; here it is as in Keras.

    Args:
        learning_rate: Size of a step.
        beta_1: How much of the mean stays at each step.
        beta_2: How much of the mean square stays.
        epsilon: Added to the square root.
        amsgrad: Whether the largest mean square so far is used. Source: Reddi et al. 2018.
        weight_decay: See `Optimizer`, as are all others.
    Source: Kingma & Ba 2014.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> Adam(learning_rate=0.1).apply([torch.tensor([1.0, -1.0])], [weight])
        >>> weight.detach()
        tensor([0.9000, 1.1000])
    """

    slots: tuple[Any, ...] = (("momentum", "velocity"),)

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
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
        self.slots = (*self.slots, "velocity_hat") if amsgrad else self.slots
        super().__init__(
            learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum,
            ema_overwrite_frequency, loss_scale_factor, gradient_accumulation_steps, name, **kwargs,
        )  # fmt: skip
        self.beta_1, self.beta_2, self.epsilon, self.amsgrad = beta_1, beta_2, epsilon, amsgrad
        self._decays_in_kernel = False  # of the step that is being taken

    def update(
        self, parameters: list[Tensor], gradients: list[Tensor], state: dict[str, list[Any]], learning_rate: float
    ) -> None:
        count: Any = self.local_step
        if self._taken_back is not None:
            count = count - self._taken_back
        correction = correction_of(self.beta_1, self.beta_2, count)
        numbers = (learning_rate * correction, self.beta_1, self.beta_2, self.epsilon)
        if self._decays_in_kernel:
            self._decays_in_kernel = False
            fused_step(parameters, gradients, state, *numbers, self.weight_decay / correction)
        elif self._current().fused:
            fused_step(parameters, gradients, state, *numbers)
        else:
            foreach_step(parameters, gradients, state, *numbers)

    def _decay(self, part: Part, rate: float) -> None:
        self._decays_in_kernel = bool(
            self.weight_decay
            and part.fused
            and len(part.decayed) == len(part.parameters)
            and self._taken_back is None
            and type(self).update is UPDATE
            and not self._by_variable
        )
        if not self._decays_in_kernel:
            super()._decay(part, rate)

    def is_fused(self, parameter: Tensor) -> bool:
        return has_fused_adam(parameter.device, parameter.dtype)


UPDATE = Adam.update  # as it is made; users may replace it


@registry.register("adamw")
class AdamW(Adam):
    """Adam with weight decay from the start.

    Args:
        learning_rate: Size of a step.
        weight_decay: Share of each weight that a step takes away, times the learning rate.
        beta_1: As for Adam, as are all others.
    Source: Loshchilov & Hutter 2019.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> AdamW(learning_rate=0.1).apply([torch.tensor([1.0, -1.0])], [weight])
        >>> weight.detach()
        tensor([0.8996, 1.0996])
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
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
        if weight_decay is None:
            raise ValueError("AdamW needs a weight_decay; without one it is Adam.")
        super().__init__(
            learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay, clipnorm, clipvalue, global_clipnorm,
            use_ema, ema_momentum, ema_overwrite_frequency, loss_scale_factor, gradient_accumulation_steps, name,
            **kwargs,
        )  # fmt: skip
