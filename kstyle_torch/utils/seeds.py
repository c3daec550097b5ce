"""Reset of global state: seeds of all random numbers, and counters of layer names."""

from __future__ import annotations

import gc

import numpy as np
import torch

from kstyle_torch.draws import seed_all
from kstyle_torch.registry import reset_names

__all__ = ["clear_session", "set_random_seed"]


def set_random_seed(seed: int) -> None:
    """Makes a program reproducible: seeds `random`, NumPy and torch, on all devices.

    Afterwards a program has the same initial weights as in Keras on torch: layers without a seed draw one from Python's
    `random` when they are created. `torch.manual_seed` with another seed switches back to torch's random state.

    Args:
        seed: From 0 to 2**32 - 1, the range of NumPy's seeds.
    Raises: ValueError: for anything else.

    Example:
        >>> set_random_seed(1)
        >>> first = torch.rand(3)
        >>> set_random_seed(1)
        >>> torch.equal(first, torch.rand(3))
        True
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**32:
        raise ValueError(f"set_random_seed: seed must be an int from 0 to 2**32 - 1; got {seed!r}.")
    seed_all(int(seed))


def clear_session(free_memory: bool = True) -> None:
    """Resets the counters of layer and model names, which start again at `dense`, `sequential`, ...

    Args:
        free_memory: Whether to collect unreferenced objects.

    Example:
        >>> clear_session()
        >>> [layers.Dense(1).name, layers.Dense(1).name]
        ['dense', 'dense_1']
    """
    reset_names()
    if free_memory:
        gc.collect()
        if torch.accelerator.is_available():
            torch.accelerator.empty_cache()
