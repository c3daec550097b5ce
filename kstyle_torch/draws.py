"""Numbers drawn from a seed, for initializers and `kstyle_torch.random`: those that Keras draws from it on torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["generator", "normal", "truncated_normal", "uniform"]

Generator = torch.Generator | None  # None for torch's own, which `torch.manual_seed` seeds


def generator(seed: Any, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator that gives the same numbers for the same seed.

    Args:
        seed: An int; a `SeedGenerator`, which moves on; or None to take the seed from torch's own random state, so that
            `torch.manual_seed` makes weights repeatable.
        device: Where it draws.
    """
    if seed is None:
        return torch.Generator(device).manual_seed(int(torch.randint(2**62, (), device="cpu")))
    if hasattr(seed, "next"):
        seed = sum(seed.next().tolist())
    return torch.Generator(device).manual_seed(int(seed) & 0xFFFFFFFF)


def normal(
    shape: Sequence[int],
    mean: float,
    stddev: float,
    dtype: torch.dtype,
    generator: Generator,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draws from a normal distribution."""
    return torch.normal(mean, stddev, tuple(shape), generator=generator, dtype=dtype, device=device)


def uniform(
    shape: Sequence[int],
    low: float,
    high: float,
    dtype: torch.dtype,
    generator: Generator,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draws from a uniform distribution over [low, high)."""
    return (high - low) * torch.rand(tuple(shape), generator=generator, dtype=dtype, device=device) + low


def truncated_normal(
    shape: Sequence[int],
    mean: float,
    stddev: float,
    dtype: torch.dtype,
    generator: Generator,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draws from a normal distribution cut at two standard deviations."""
    tries = normal((*shape, 4), 0.0, 1.0, dtype, generator, device)
    first = (tries.abs() < 2).max(-1, keepdim=True).indices
    kept = tries.gather(-1, first).squeeze(-1).clamp(-2, 2)  # once in 230,000 none of the four is within
    return kept * stddev + mean
