"""Adafactor."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from kstyle_torch.layer.layout import SAME, Layout
from kstyle_torch.optimizers.base import VarListOptimizer, registry
from kstyle_torch.optimizers.parameter_group import Part
from kstyle_torch.optimizers.variables import SlotView, layout_of


@registry.register()
class Adafactor(VarListOptimizer):
    """Adam with little memory: of the mean square of a matrix only the sums of rows and columns are kept.

    Args:
        learning_rate: Largest size of a step, relative to the weight.
        beta_2_decay: How fast the mean square forgets less.
        epsilon_1: Added to the squares.
        epsilon_2: Smallest root mean square of a weight that steps are relative to.
        clip_threshold: Largest root mean square of a step, before the learning rate.
        relative_step: Whether steps shrink with the root of their number.
        weight_decay: See `Optimizer`, as are all others.
    Source: Shazeer & Stern 2018.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> Adafactor(learning_rate=0.1).apply([torch.tensor([1.0, -1.0])], [weight])
        >>> weight.detach()
        tensor([0.9000, 1.1000])
    """

    slots = (("r", "c", "velocity"),)

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_2_decay: float = -0.8,
        epsilon_1: float = 1e-30,
        epsilon_2: float = 1e-3,
        clip_threshold: float = 1.0,
        relative_step: bool = True,
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
        self.beta_2_decay, self.epsilon_1, self.epsilon_2 = beta_2_decay, epsilon_1, epsilon_2
        self.clip_threshold, self.relative_step = clip_threshold, relative_step

    def _initial(self, slot: str, parameter: Tensor, variable: Any) -> Tensor:
        if slot not in ("r", "c"):
            return super()._initial(slot, parameter, variable)
        shape = layout_of(variable).to_keras(parameter).shape
        if len(shape) < 2:
            return parameter.new_zeros((), dtype=torch.int32)  # only there to be saved, as Keras does
        return parameter.new_zeros(shape[:-1] if slot == "r" else (*shape[:-2], shape[-1]), requires_grad=False)

    def _slot_layout(self, slot: str, variable: Any) -> Layout:
        return SAME if slot in ("r", "c") else super()._slot_layout(slot, variable)

    def _slot_view(self, slot: str, place: int) -> SlotView:
        view = super()._slot_view(slot, place)
        if slot in ("r", "c"):
            view.name = getattr(self._variables[place], "name", None) or "variable"
            view.path = f"{self.name}/{view.name}" if view.ndim else view.name
        return view

    def _update_all(self, part: Part, gradients: list[Tensor], rate: float) -> None:
        size = min(rate, 1 / math.sqrt(self.local_step))
        for index, (variable, gradient) in enumerate(zip(part.variables, gradients, strict=True)):
            layout = layout_of(variable)
            parameter = part.parameters[index]
            change = self._change_of(layout.to_keras(gradient), index, part.state, layout)
            # root mean squares, in whose ratio the number of elements drops out; that of the change is clipped
            root = math.sqrt(parameter.numel())
            norm = torch.linalg.vector_norm(parameter).clamp_(min=self.epsilon_2 * root)
            change_norm = torch.linalg.vector_norm(change).clamp_(min=self.clip_threshold * root)
            parameter.addcmul_(layout.to_torch(change), norm.div_(change_norm), value=-size * self.clip_threshold)

    def _change_of(self, gradient: Tensor, index: int, state: dict[str, list[Any]], layout: Layout) -> Tensor:
        """Returns the step before it is clipped and scaled, in Keras' layout."""
        share = self.local_step**self.beta_2_decay
        squares = gradient.square().add_(self.epsilon_1)
        velocity = state["velocity"][index]
        if gradient.ndim >= 2:
            rows, columns = state["r"][index], state["c"][index]
            rows.lerp_(squares.mean(-1), share)
            columns.lerp_(squares.mean(-2), share)
            velocity.copy_(layout.to_torch((rows / rows.mean(-1, keepdim=True))[..., None] * columns[..., None, :]))
        else:
            velocity.lerp_(layout.to_torch(squares), share)
        return gradient / layout.to_keras(velocity).sqrt()
