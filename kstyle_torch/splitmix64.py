"""Counter-based random numbers: SplitMix64 in torch's signed integers.

Unlike them, a generator object cannot be traced, has to draw on the CPU to return the same numbers on every device, and is
not restored after shape inference.
Source: Steele et al. 2014.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

STEP, FIRST, SECOND, PER_SEED = (
    value - 2**64 for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD1B54A32D192ED03)
)
PER_DRAW = 2**36  # more numbers than one draw takes


def start_of(seed: int) -> int:
    """Returns the start of the sequence of a seed."""
    return (int(seed) * PER_SEED + 2**63) % 2**64 - 2**63


def uniform(shape: Sequence[int], counter: Tensor, start: int = 0) -> Tensor:
    """Returns float32 numbers from 0 up to 1.

    Args:
        shape: Of the numbers.
        counter: An int64 tensor without axes, where counting begins; on the device where the numbers are wanted.
        start: See `start_of`.
    """
    number = torch.arange(math.prod(shape), device=counter.device).view(*shape)
    z = (number + counter) * STEP + start  # added at first, or the compiler multiplies constants beyond 64 bits
    z = (z ^ ((z >> 30) & (2**34 - 1))) * FIRST  # masked: torch's >> repeats the sign
    z = (z ^ ((z >> 27) & (2**37 - 1))) * SECOND
    return ((z >> 40) & (2**24 - 1)).to(torch.float32) * 2.0**-24  # the upper bits are the better ones; 24 are exact


def normal(shape: Sequence[int], counter: Tensor, start: int = 0) -> Tensor:
    """Returns float32 numbers of mean 0 and variance 1, by the inverse of their distribution; see `uniform`."""
    centred = uniform(shape, counter, start) * 2 + (2.0**-24 - 1)  # within -1 and 1, exactly
    return torch.erfinv(centred) * math.sqrt(2)
