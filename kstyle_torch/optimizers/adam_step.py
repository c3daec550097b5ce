"""Adam's formula: with torch's fused kernel, with foreach calls as fallback, and as a pure function.

With g the gradient, m the momentum, v the velocity and n the number of the step:

    m <- m + (1 - beta_1) (g - m)
    v <- beta_2 v + (1 - beta_2) g^2
    weight <- weight - rate sqrt(1 - beta_2^n) / (1 - beta_1^n) m / (sqrt(v) + epsilon)

AMSGrad takes the largest v so far in the last line. All three forms take the same arguments.
Source: Kingma & Ba 2014, the more efficient order of section 2; Reddi et al. 2018.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kstyle_torch._torch import (
    foreach_addcdiv_,
    foreach_addcmul_,
    foreach_div,
    foreach_lerp_,
    foreach_maximum_,
    foreach_mul_,
    foreach_sqrt,
    foreach_sub_,
    fused_adamw_,
)
from kstyle_torch.optimizers import foreach


def correction_of(beta_1: float, beta_2: float, step: Any, sqrt: Callable[[Any], Any] = math.sqrt) -> Any:
    """Returns the factor of the learning rate that corrects the bias of a step.

    Args:
        beta_1: Decay rate of the momentum.
        beta_2: Decay rate of the velocity.
        step: Number of the step, from 1; a tensor yields a tensor, and an array needs `sqrt`.
        sqrt: Square root for the type of `step`, unless it is a tensor.
    """
    if isinstance(step, Tensor):  # 1 - beta**step in float32 would lose digits
        first, second = (-torch.expm1(step * (math.log(beta) if beta else -math.inf)) for beta in (beta_1, beta_2))
        return second.sqrt() / first
    return sqrt(1 - beta_2**step) / (1 - beta_1**step)


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
    """Updates parameters and state, of one device and dtype, in a fused kernel; requires `has_fused_adam`.

    Args:
        parameters: The weights.
        gradients: Gradient of each weight.
        state: Their "momentum", "velocity" and, for AMSGrad, "velocity_hat".
        size: The learning rate with bias correction; it may be a tensor on the device.
        beta_1: Decay rate of the momentum.
        beta_2: Decay rate of the velocity.
        epsilon: Added before the bias correction, as in Keras; torch adds it after.
        weight_decay: Share of the weights, times `size`, that is subtracted first.
    """
    tops = state.get("velocity_hat", [])
    fused_adamw_(
        parameters, gradients, state["momentum"], state["velocity"], tops,
        [endless(parameters[0].device)] * len(parameters), lr=size, beta1=beta_1, beta2=beta_2, weight_decay=weight_decay,
        eps=epsilon, amsgrad=bool(tops), maximize=False,
    )  # fmt: skip


@functools.cache
def endless(device: torch.device) -> Tensor:
    """Returns a step count at which the kernel's bias correction has no effect."""
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
    """Does the same on any device, with foreach calls."""
    move_means(gradients, state, beta_1, beta_2)
    velocity = state["velocity"]
    if "velocity_hat" in state:
        foreach_maximum_(state["velocity_hat"], velocity)
        velocity = state["velocity_hat"]
    denominator = foreach_sqrt(velocity)
    foreach.add_(denominator, epsilon)
    if not isinstance(size, Tensor):
        foreach_addcdiv_(parameters, state["momentum"], denominator, -size)
        return
    change = foreach_div(state["momentum"], denominator)
    foreach_mul_(change, size)
    foreach_sub_(parameters, change)


def move_means(gradients: list[Tensor], state: dict[str, list[Any]], beta_1: float, beta_2: float) -> None:
    """Updates "momentum" and "velocity", the running means of gradients and of their squares."""
    foreach_lerp_(state["momentum"], gradients, 1 - beta_1)
    foreach.mul_(state["velocity"], beta_2)
    foreach_addcmul_(state["velocity"], gradients, gradients, 1 - beta_2)


def functional_step(
    parameters: list[Tensor],
    gradients: list[Tensor],
    state: dict[str, list[Tensor]],
    size: Any,
    beta_1: float,
    beta_2: float,
    epsilon: float,
) -> tuple[list[Tensor], dict[str, list[Tensor]]]:
    """Returns new parameters and state without changing its arguments, for compiled graphs.

    The compiler fuses these elementwise operations, which foreach calls and in-place changes would prevent.
    """
    rest_1, rest_2 = 1 - beta_1, 1 - beta_2
    momenta = [m + (g - m) * rest_1 for m, g in zip(state["momentum"], gradients, strict=True)]
    squares = [v * beta_2 + g * g * rest_2 for v, g in zip(state["velocity"], gradients, strict=True)]
    after = {"momentum": momenta, "velocity": squares}
    if "velocity_hat" in state:
        squares = [torch.maximum(top, v) for top, v in zip(state["velocity_hat"], squares, strict=True)]
        after["velocity_hat"] = squares
    triples = zip(parameters, momenta, squares, strict=True)
    return [weight - size * m / (v.sqrt() + epsilon) for weight, m, v in triples], after
