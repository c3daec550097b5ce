"""Random layers: layers that draw random numbers, from torch's random state or from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kstyle_torch import config, splitmix64
from kstyle_torch.layer.base import Layer
from kstyle_torch.layer.seed_states import DrawsFromTorch, seed_states_in
from kstyle_torch.layer.weights import Weight

DRAWS = Weight("_draws", name="seed_generator_state")


class RandomLayer(DrawsFromTorch, Layer):
    """Base of the layers that draw random numbers.

    Args:
        seed: An int for the same numbers in every run and on every device, which depend only on the seed and the number of
            draws so far; None for torch's random state.
    Raises: ValueError: if `seed` is not an int.
    """

    def __init__(self, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if seed is not None and (isinstance(seed, bool) or not hasattr(seed, "__index__")):
            raise ValueError(f"{self.name}: seed must be an int or None; got {seed!r}.")
        self.seed = seed
        if seed is not None:
            self._start = splitmix64.start_of(seed)
            draws = torch.zeros((), dtype=torch.int64, device=config.device())
            self.register_buffer("_draws", draws, persistent=False)

    def _seed_states(self) -> list[Any]:
        if getattr(self, "rate", getattr(self, "stddev", None)) == 0:
            return seed_states_in(self)  # Keras makes a seed generator only where something is drawn
        return super()._seed_states() if self.seed is None else [self._view(DRAWS), *seed_states_in(self)]

    def _uniform(self, shape: Sequence[int], device: torch.device) -> Tensor:
        """Returns new float32 numbers, uniform in [0, 1)."""
        if self.seed is None:
            return torch.rand(*shape, device=device)
        return splitmix64.uniform(shape, self._next_counter(device), self._start)

    def _normal(self, shape: Sequence[int], device: torch.device) -> Tensor:
        """Returns new float32 numbers, normal with mean 0 and variance 1."""
        if self.seed is None:
            return torch.randn(*shape, device=device)
        return splitmix64.normal(shape, self._next_counter(device), self._start)

    def _next_counter(self, device: torch.device) -> Tensor:
        counter: Tensor = self._draws.to(device) * splitmix64.PER_DRAW
        self._draws.add_(1)
        return counter
