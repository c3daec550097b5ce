"""Adam's step: by torch's fused kernel, and by foreach calls where there is none."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor

from kstyle_torch.optimizers import foreach


def correction_of(beta_1: float, beta_2: float, step: Any) -> Any:
    """The factor of the learning rate that corrects the bias of a step, the first of which is 1; a tensor if `step` is."""
    if isinstance(step, Tensor):  # 1 - beta**step in float32 would lose digits
        first, second = (-torch.expm1(step * (math.log(beta) if beta else -math.inf)) for beta in (beta_1, beta_2))
        return second.sqrt() / first
    return math.sqrt(1 - beta_2**step) / (1 - beta_1**step)


def fused_step(
    parameters: list[Tensor],
    gradients: list[Tensor],
    state: dict[str, list[Any]],
    size: Any,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    weight_decay: float = 0.0,
) -> None:
    """Changes parameters and state, all of one device and dtype, for which `has_fused_adam`.

    Args:
        parameters: The weights.
        gradients: Of each of them.
        state: Their "momentum", "velocity" and, for AMSGrad, "velocity_hat".
        size: The learning rate, corrected; it may be a tensor on the device.
        beta_1: How much of the momentum stays.
        beta_2: How much of the velocity stays.
        epsilon: Added before the bias correction, as Keras does; torch adds it after.
        weight_decay: Share of the weights, times `size`, that is taken away first.
    """
    tops = state.get("velocity_hat", [])
    torch._fused_adamw_(
        parameters, gradients, state["momentum"], state["velocity"], tops,
        [endless(parameters[0].device)] * len(parameters), lr=size, beta1=beta_1, beta2=beta_2, weight_decay=weight_decay,
        eps=epsilon, amsgrad=bool(tops), maximize=False,
    )  # fmt: skip


@functools.cache
def endless(device: torch.device) -> Tensor:
    """A count of steps after which the kernel corrects no bias."""
    return torch.full((), math.inf, device=device)


def foreach_step(
    parameters: list[Tensor],
    gradients: list[Tensor],
    state: dict[str, list[Any]],
    size: Any,
    beta_1: float,
    beta_2: float,
    epsilon: float,
) -> None:
    """The same, anywhere."""
    velocity = state["velocity"]
    torch._foreach_lerp_(state["momentum"], gradients, 1 - beta_1)
    foreach.mul_(velocity, beta_2)
    torch._foreach_addcmul_(velocity, gradients, gradients, 1 - beta_2)
    if "velocity_hat" in state:
        torch._foreach_maximum_(state["velocity_hat"], velocity)
        velocity = state["velocity_hat"]
    denominator = torch._foreach_sqrt(velocity)
    foreach.add_(denominator, epsilon)
    if not isinstance(size, Tensor):
        torch._foreach_addcdiv_(parameters, state["momentum"], denominator, -size)
        return
    change = torch._foreach_div(state["momentum"], denominator)
    torch._foreach_mul_(change, size)
    torch._foreach_sub_(parameters, change)
