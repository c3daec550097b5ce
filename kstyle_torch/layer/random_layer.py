"""Where layers get random numbers from: torch's own state, or a seed of theirs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kstyle_torch import config
from kstyle_torch.layer.base import Layer

# SplitMix64 (Steele et al. 2014): a counter times a constant, scrambled. A generator object would not trace, would have
# to draw on the CPU to give the same numbers on every device, and would not be put back after a run for shapes.
STEP, FIRST, SECOND, PER_SEED = (
    value - 2**64 for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD1B54A32D192ED03)
)
PER_DRAW = 2**36  # more numbers than one draw takes


class RandomLayer(Layer):
    """Base of the layers that draw numbers.

    Args:
        seed: Int for the same numbers at every run, on every device; they then depend on nothing but the seed and on
            how often the layer drew. torch's random state decides if None.
    Raises: ValueError: if `seed` is no int.
    """

    def __init__(self, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if seed is not None and (isinstance(seed, bool) or not hasattr(seed, "__index__")):
            raise ValueError(f"{self.name}: seed must be an int or None; got {seed!r}.")
        self.seed = seed
        if seed is not None:
            self._start = (int(seed) * PER_SEED + 2**63) % 2**64 - 2**63
            draws = torch.zeros((), dtype=torch.int64, device=config.device())
            self.register_buffer("_draws", draws, persistent=False)

    def _uniform(self, shape: Sequence[int], device: torch.device) -> Tensor:
        """float32 numbers from 0 up to 1, always new ones."""
        if self.seed is None:
            return torch.rand(*shape, device=device)
        return self._bits(shape, device).to(torch.float32) * 2.0**-24

    def _normal(self, shape: Sequence[int], device: torch.device) -> Tensor:
        """float32 numbers of mean 0 and variance 1, always new ones."""
        if self.seed is None:
            return torch.randn(*shape, device=device)
        centred = (self._bits(shape, device) * 2 + (1 - 2**24)).to(torch.float32) * 2.0**-24  # within -1 and 1
        return torch.erfinv(centred) * math.sqrt(2)

    def _bits(self, shape: Sequence[int], device: torch.device) -> Tensor:
        """Whole numbers of 24 random bits, which float32 holds exactly."""
        number = torch.arange(math.prod(shape), device=device).view(*shape)
        z = scrambled(number + self._draws.to(device) * PER_DRAW, self._start)
        self._draws.add_(1)
        return (z >> 40) & (2**24 - 1)


def scrambled(number: Tensor, start: int | Tensor) -> Tensor:
    """Random bits for each number, its upper half the better one; other ones for another start."""
    z = number * STEP + start
    z = (z ^ ((z >> 30) & (2**34 - 1))) * FIRST  # masked: torch's >> repeats the sign
    return (z ^ ((z >> 27) & (2**37 - 1))) * SECOND
