"""Steps of common optimizers as pure functions, with rates as tensors, for compiled graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kstyle_torch.optimizers.adam import Adam, AdamW
from kstyle_torch.optimizers.adam_step import correction_of, functional_step
from kstyle_torch.optimizers.base import APPLY, SCALE_LOSS, Optimizer
from kstyle_torch.optimizers.rate import current_rate
from kstyle_torch.optimizers.rmsprop import RMSprop
from kstyle_torch.optimizers.schedules import LearningRateSchedule
from kstyle_torch.optimizers.sgd import SGD
from kstyle_torch.optimizers.variables import HostNumber

State = dict[str, list[Tensor]]
Change = Callable[[Any, list[Tensor], list[Tensor], State, Tensor], tuple[list[Tensor], State]]
PREVENTING = ("loss_scale_factor", "gradient_accumulation_steps")
GIVEN = "weight_decay clipnorm clipvalue global_clipnorm use_ema ema_momentum ema_overwrite_frequency".split()


class PureStep(NamedTuple):
    """Settings of an optimizer's step.

    Args:
        change: Function of optimizer, weights, gradients, state and step size that returns new weights and state.
        settings: The optimizer's attributes that it reads.
    """

    change: Change
    settings: tuple[str, ...]


def why_not_pure(optimizer: Any) -> str | None:
    """Returns the reason why the optimizer's step has no pure function; None if it has one."""
    if type(optimizer) not in STEPS:
        return f"the optimizer is {type(optimizer).__name__}; it would have to be SGD, RMSprop, Adam or AdamW"
    for name, method in (("apply", APPLY), ("scale_loss", SCALE_LOSS)):
        if name in vars(optimizer) or getattr(type(optimizer), name) is not method:
            return f"the optimizer's {name}() is the user's"
    if optimizer._by_variable or "update" in vars(optimizer) or type(optimizer).update is not UPDATES[type(optimizer)]:
        return "the optimizer's update is the user's"
    for name in PREVENTING:
        if getattr(optimizer, name):
            return f"the optimizer has {name}"
    if not isinstance(optimizer._learning_rate, (HostNumber, LearningRateSchedule)):
        return "the learning rate is a function"
    if optimizer.use_ema and "average" not in optimizer.state:
        return "use_ema was set after the optimizer was made"
    if optimizer.use_ema and len(optimizer._current().parameters) != len(optimizer._parameters):
        return "it keeps running means of weights that are not trained"
    return None


def settings_of(optimizer: Any) -> tuple[Any, ...]:
    """Returns all settings that a pure step treats as constants; the learning rate is not one of them."""
    part = optimizer._current()
    constraints = [(id(constraint), str(vars(constraint))) for _, constraint in part.constraints]
    decayed = [id(parameter) for parameter in part.decayed]
    return (
        type(optimizer),
        *(getattr(optimizer, name) for name in (*STEPS[type(optimizer)].settings, *GIVEN)),
        *decayed,
        *constraints,
    )


def step_sizes(optimizer: Any, steps: int) -> Tensor:
    """Returns the `sizes` of `pure_step` for each of the next steps: (steps, 4), float32.

    The columns are the learning rate; the learning rate with bias corrections; the share of the new weights in their running
    mean; and whether the weights are set to that mean.
    """
    rate, first = optimizer._learning_rate, optimizer._iterations.number
    known = rate.number if isinstance(rate, HostNumber) else [rate.at(step) for step in range(first, first + steps)]
    sizes = np.zeros((4, steps))
    sizes[:2] = known
    if isinstance(optimizer, Adam):
        count = np.arange(first + 1, first + steps + 1, dtype=np.float64)
        sizes[1] *= correction_of(optimizer.beta_1, optimizer.beta_2, count, np.sqrt)
    if optimizer.use_ema:
        sizes[2] = 1 - optimizer.ema_momentum
        sizes[2, : first == 0] = 1
        if optimizer.ema_overwrite_frequency:
            sizes[3] = (np.arange(first + 1, first + steps + 1) % optimizer.ema_overwrite_frequency) == 0
    return torch.from_numpy(sizes.T.astype(np.float32))


def step_size(optimizer: Any) -> list[float]:
    """Returns `step_sizes` for the next step alone, as numbers."""
    done = optimizer._iterations.number
    rate = size = current_rate(optimizer._learning_rate, optimizer._iterations)
    if isinstance(optimizer, Adam):
        size = rate * correction_of(optimizer.beta_1, optimizer.beta_2, done + 1)
    if not optimizer.use_ema:
        return [rate, size, 0.0, 0.0]
    frequency = optimizer.ema_overwrite_frequency
    return [
        rate,
        size,
        1 - optimizer.ema_momentum if done else 1.0,
        float(bool(frequency) and (done + 1) % frequency == 0),
    ]


def clipped(optimizer: Any, gradients: list[Tensor]) -> list[Tensor]:
    """Returns the gradients, clipped as the optimizer specifies."""
    if optimizer.clipnorm:
        return [
            gradient * (optimizer.clipnorm / gradient.norm().clamp(min=optimizer.clipnorm)) for gradient in gradients
        ]
    if optimizer.global_clipnorm:
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
        factor = optimizer.global_clipnorm / norm.clamp(min=optimizer.global_clipnorm) + (norm - norm)
        return [gradient * factor for gradient in gradients]
    if optimizer.clipvalue:
        return [gradient.clamp(-optimizer.clipvalue, optimizer.clipvalue) for gradient in gradients]
    return gradients


def pure_step(
    optimizer: Any, weights: list[Tensor], gradients: list[Tensor], state: State, sizes: Tensor, decayed: list[Any]
) -> tuple[list[Tensor], State]:
    """Returns the weights and the state after a step, without changing its arguments.

    Args:
        optimizer: Optimizer for which `why_not_pure` returns None.
        weights: Weights in the order of `track`, possibly packed.
        gradients: Clipped gradient of each weight.
        state: For each slot, a tensor for each weight.
        sizes: Sizes of this step; see `step_sizes`.
        decayed: For each weight, whether it decays; for a pack, a tensor of flags.
    """
    rate, size, share, taken = sizes.unbind()
    if optimizer.weight_decay:
        weights = [
            w if flag is False else w * (1 - rate * optimizer.weight_decay * flag) for w, flag in zip(weights, decayed)
        ]
    weights, after = STEPS[type(optimizer)].change(optimizer, weights, gradients, state, size)
    if optimizer.use_ema:
        means = [mean + (w - mean) * share for w, mean in zip(weights, state["average"], strict=True)]
        weights = [torch.where(taken > 0, mean, w) for w, mean in zip(weights, means, strict=True)]
        after["average"] = means
    return weights, after


def _sgd(
    optimizer: Any, weights: list[Tensor], gradients: list[Tensor], state: State, size: Tensor
) -> tuple[list[Tensor], State]:
    if not optimizer.momentum:
        return [weight - size * gradient for weight, gradient in zip(weights, gradients, strict=True)], {}
    share = optimizer.momentum
    momenta = [share * m - size * gradient for m, gradient in zip(state["momentum"], gradients, strict=True)]
    steps = momenta
    if optimizer.nesterov:
        steps = [share * m - size * gradient for m, gradient in zip(momenta, gradients, strict=True)]
    return [weight + step for weight, step in zip(weights, steps, strict=True)], {"momentum": momenta}


def _adam(
    optimizer: Any, weights: list[Tensor], gradients: list[Tensor], state: State, size: Tensor
) -> tuple[list[Tensor], State]:
    numbers = (optimizer.beta_1, optimizer.beta_2, optimizer.epsilon)
    return functional_step(weights, gradients, state, size, *numbers)


def _rmsprop(
    optimizer: Any, weights: list[Tensor], gradients: list[Tensor], state: State, size: Tensor
) -> tuple[list[Tensor], State]:
    rho = optimizer.rho
    squares = [v * rho + g * g * (1 - rho) for v, g in zip(state["velocity"], gradients, strict=True)]
    after, spreads = {"velocity": squares}, squares
    if optimizer.centered:
        means = [m + (g - m) * (1 - rho) for m, g in zip(state["average_gradient"], gradients, strict=True)]
        after["average_gradient"] = means
        spreads = [v - m * m for v, m in zip(squares, means, strict=True)]
    steps = [size * g / (v + optimizer.epsilon).sqrt() for g, v in zip(gradients, spreads, strict=True)]
    if optimizer.momentum > 0:
        steps = [m * optimizer.momentum + step for m, step in zip(state["momentum"], steps, strict=True)]
        after["momentum"] = steps
    return [weight - step for weight, step in zip(weights, steps, strict=True)], after


ADAM = PureStep(_adam, ("beta_1", "beta_2", "epsilon", "amsgrad"))
STEPS: dict[type[Optimizer], PureStep] = {
    SGD: PureStep(_sgd, ("momentum", "nesterov")),
    RMSprop: PureStep(_rmsprop, ("rho", "momentum", "epsilon", "centered")),
    Adam: ADAM,
    AdamW: ADAM,
}
UPDATES = {cls: cls.update for cls in STEPS}  # as they are made; users may replace them
