"""Learning rates that depend on the step. The optimizer asks for plain numbers: nothing here touches a device."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import torch

from kstyle_torch import config, serialization
from kstyle_torch.serialization import Configurable

__all__ = [
    "CosineDecay",
    "CosineDecayRestarts",
    "ExponentialDecay",
    "InverseTimeDecay",
    "LearningRateSchedule",
    "PiecewiseConstantDecay",
    "PolynomialDecay",
    "deserialize",
    "serialize",
]

registry = serialization.registry("learning rate schedule", "keras.optimizers.schedules")


def serialize(learning_rate_schedule: Any) -> Any:
    """Returns the schedule in Keras' JSON form."""
    return serialization.serialize_keras_object(learning_rate_schedule)


def deserialize(config: Any, custom_objects: dict[str, Any] | None = None) -> Any:
    """Returns the schedule that a config describes."""
    return serialization.deserialized(config, custom_objects, registry=registry)


class LearningRateSchedule(Configurable):
    """Base class of schedules. A subclass defines `__call__(step)`, or `at(step)` with plain numbers, which is faster.

    Example:
        >>> class Warmup(LearningRateSchedule):
        ...     def __init__(self, peak, steps):
        ...         self.peak, self.steps = peak, steps
        ...     def __call__(self, step):
        ...         return self.peak * torch.clamp((step + 1) / self.steps, max=1.0)
        >>> float(Warmup(peak=1.0, steps=4)(torch.tensor(1)))
        0.5
    """

    def __call__(self, step: Any) -> Any:
        """Returns the learning rate at a step, counted from 0, as a float32 tensor."""
        if type(self).at is LearningRateSchedule.at:
            raise NotImplementedError(f"{type(self).__name__} must define __call__(self, step).")
        return torch.tensor(self.at(float(step)), dtype=torch.float32)

    def at(self, step: float) -> float:
        """Returns the learning rate at a step, as a number."""
        with config.device_scope("cpu"):
            return float(self(torch.tensor(step, dtype=torch.int32)))


def _positive(schedule: Any, name: str, value: Any) -> float:
    if not value > 0:
        raise ValueError(f"{type(schedule).__name__}: {name} must be positive; got {value!r}.")
    return value


@registry.register()
class ExponentialDecay(LearningRateSchedule):
    """`initial_learning_rate * decay_rate ** (step / decay_steps)`.

    Args:
        initial_learning_rate: The rate at step 0.
        decay_steps: After how many steps it is `decay_rate` times as large; positive.
        decay_rate: Factor.
        staircase: Whether it stays the same in between.
        name: Name of the schedule.
    Raises: ValueError: if `decay_steps` is not positive.

    Example:
        >>> ExponentialDecay(0.5, decay_steps=10, decay_rate=0.5)(20)
        tensor(0.1250)
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
        name: str = "ExponentialDecay",
    ):
        self.initial_learning_rate, self.decay_rate = initial_learning_rate, decay_rate
        self.decay_steps = _positive(self, "decay_steps", decay_steps)
        self.staircase, self.name = staircase, name

    def at(self, step: float) -> float:
        part = step / self.decay_steps
        return self.initial_learning_rate * self.decay_rate ** (math.floor(part) if self.staircase else part)


@registry.register()
class InverseTimeDecay(LearningRateSchedule):
    """`initial_learning_rate / (1 + decay_rate * step / decay_steps)`.

    Args:
        initial_learning_rate: The rate at step 0.
        decay_steps: Positive.
        decay_rate: Positive for a rate that falls.
        staircase: Whether it stays the same for `decay_steps` steps.
        name: Name of the schedule.
    Raises: ValueError: if `decay_steps` is not positive.

    Example:
        >>> InverseTimeDecay(0.5, decay_steps=10, decay_rate=1.0)(10)
        tensor(0.2500)
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
        name: str = "InverseTimeDecay",
    ):
        self.initial_learning_rate, self.decay_rate = initial_learning_rate, decay_rate
        self.decay_steps = _positive(self, "decay_steps", decay_steps)
        self.staircase, self.name = staircase, name

    def at(self, step: float) -> float:
        part = step / self.decay_steps
        return self.initial_learning_rate / (1 + self.decay_rate * (math.floor(part) if self.staircase else part))


@registry.register()
class PiecewiseConstantDecay(LearningRateSchedule):
    """One rate up to and including each boundary, the last one after them all.

    Args:
        boundaries: Steps, ascending.
        values: Rates, one more than boundaries.
        name: Name of the schedule.
    Raises: ValueError: if the numbers do not go together, or the boundaries do not ascend.

    Example:
        >>> schedule = PiecewiseConstantDecay([100, 200], [1.0, 0.5, 0.1])
        >>> [round(float(schedule(step)), 1) for step in (0, 100, 101, 201)]
        [1.0, 1.0, 0.5, 0.1]
    """

    def __init__(self, boundaries: Sequence[float], values: Sequence[float], name: str = "PiecewiseConstant"):
        if len(boundaries) != len(values) - 1:
            raise ValueError(
                f"PiecewiseConstantDecay needs one boundary less than values; got {len(boundaries)} boundaries for "
                f"{len(values)} values."
            )
        if any(low >= high for low, high in itertools.pairwise(boundaries)):
            raise ValueError(f"PiecewiseConstantDecay: boundaries must ascend; got {list(boundaries)}.")
        self.boundaries, self.values, self.name = boundaries, values, name

    def at(self, step: float) -> float:
        return float(self.values[bisect_left(self.boundaries, step)])


@registry.register()
class PolynomialDecay(LearningRateSchedule):
    """Schedule that falls to `end_learning_rate` in `decay_steps` steps.

    Args:
        initial_learning_rate: The rate at step 0.
        decay_steps: How many steps it falls for; positive.
        end_learning_rate: The rate at their end.
        power: 1 falls in a straight line.
        cycle: Whether it starts again at the end, from the initial rate, for a longer fall each time.
        name: Name of the schedule.
    Raises: ValueError: if `decay_steps` is not positive.

    Example:
        >>> PolynomialDecay(1.0, decay_steps=10, end_learning_rate=0.0)(5)
        tensor(0.5000)
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        name: str = "PolynomialDecay",
    ):
        self.initial_learning_rate, self.end_learning_rate = initial_learning_rate, end_learning_rate
        self.decay_steps = _positive(self, "decay_steps", decay_steps)
        self.power, self.cycle, self.name = power, cycle, name

    def at(self, step: float) -> float:
        steps = self.decay_steps
        if self.cycle:
            steps *= math.ceil(step / steps) if step else 1
        fall = self.initial_learning_rate - self.end_learning_rate
        return fall * (1 - min(step, steps) / steps) ** self.power + self.end_learning_rate


@registry.register()
class CosineDecay(LearningRateSchedule):
    """Schedule that falls along half a cosine, after a straight rise where there is a `warmup_target`.

    Args:
        initial_learning_rate: The rate at step 0.
        decay_steps: How many steps it falls for; positive.
        alpha: What is left at the end, as a share of the rate that it fell from.
        name: Name of the schedule.
        warmup_target: The rate at the end of the rise; no rise if None.
        warmup_steps: How many steps the rise takes.
    Raises: ValueError: if `decay_steps` is not positive.
    Source: Loshchilov & Hutter 2016.

    Example:
        >>> CosineDecay(0.0, decay_steps=10, warmup_target=1.0, warmup_steps=10)(15)
        tensor(0.5000)
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        alpha: float = 0.0,
        name: str = "CosineDecay",
        warmup_target: float | None = None,
        warmup_steps: float = 0,
    ):
        self.initial_learning_rate, self.alpha, self.name = initial_learning_rate, alpha, name
        self.decay_steps = _positive(self, "decay_steps", decay_steps)
        self.warmup_target, self.warmup_steps = warmup_target, warmup_steps

    def at(self, step: float) -> float:
        start = self.initial_learning_rate
        if self.warmup_target is not None:
            if step < self.warmup_steps:
                return start + (self.warmup_target - start) * step / self.warmup_steps
            start, step = self.warmup_target, step - self.warmup_steps
        wave = 0.5 * (1 + math.cos(math.pi * min(step, self.decay_steps) / self.decay_steps))
        return start * ((1 - self.alpha) * wave + self.alpha)


@registry.register()
class CosineDecayRestarts(LearningRateSchedule):
    """Schedule that falls along half a cosine again and again.

    Args:
        initial_learning_rate: The rate at step 0.
        first_decay_steps: How many steps the first fall takes; positive.
        t_mul: How many times as long each fall is as the one before.
        m_mul: How many times as high each one starts.
        alpha: What is left at the end, as a share of `initial_learning_rate`.
        name: Name of the schedule.
    Raises: ValueError: if `first_decay_steps` is not positive.
    Source: Loshchilov & Hutter 2016.

    Example:
        >>> schedule = CosineDecayRestarts(1.0, first_decay_steps=10)
        >>> [round(float(schedule(step)), 2) for step in (0, 5, 10, 20, 30)]
        [1.0, 0.5, 1.0, 0.5, 1.0]
    """

    def __init__(
        self,
        initial_learning_rate: float,
        first_decay_steps: float,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        alpha: float = 0.0,
        name: str = "SGDRDecay",
    ):
        self.initial_learning_rate, self.alpha, self.name = initial_learning_rate, alpha, name
        self.first_decay_steps = _positive(self, "first_decay_steps", first_decay_steps)
        self._t_mul, self._m_mul = t_mul, m_mul

    def at(self, step: float) -> float:
        restarts, part = self._place(step / self.first_decay_steps)
        wave = 0.5 * self._m_mul**restarts * (1 + math.cos(math.pi * part))
        return self.initial_learning_rate * ((1 - self.alpha) * wave + self.alpha)

    def _place(self, falls: float) -> tuple[int, float]:
        """Returns how many restarts there were, and which part of the fall since then is over."""
        if self._t_mul == 1.0:
            return math.floor(falls), falls % 1.0
        # in float32, as Keras, so that a restart is on the same step
        ratio = torch.tensor(1 - falls * (1 - self._t_mul)).log() / torch.tensor(float(self._t_mul)).log()
        restarts = int(ratio.floor())
        length = self._t_mul**restarts
        return restarts, (falls - (1 - length) / (1 - self._t_mul)) / length
