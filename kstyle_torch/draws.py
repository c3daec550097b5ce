"""Numbers drawn from a seed, for initializers and `kstyle_torch.random`: those that Keras draws from it on torch."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "default_seed",
    "generator",
    "normal",
    "random_state",
    "seed_all",
    "seeded",
    "set_random_state",
    "skip_default_seed",
    "torch_seeded",
    "truncated_normal",
    "uniform",
]

Generator = torch.Generator | None  # None for torch's own, which `torch.manual_seed` seeds


class _Seeding:
    """The last `seed_all`: its seed, None before the first; and how many there were."""

    seed: int | None = None
    count = 0


def seed_all(seed: int) -> None:
    """Seeds Python's random numbers, NumPy's and torch's; from here on `default_seed` draws as Keras does."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    _Seeding.seed = seed
    _Seeding.count += 1


def seeded() -> int:
    """Returns a number that every `seed_all` changes; 0 while torch's own random state decides."""
    return _Seeding.count if torch.initial_seed() == _Seeding.seed else 0


def default_seed() -> int | None:
    """Returns a seed for an initializer or seed generator that got none.

    Keras draws it from Python's `random` when the object is made. After `utils.set_random_seed` so do we, and the same
    program starts from the same weights. A call of `torch.manual_seed` with another seed takes over from it.

    Returns: The seed; None where torch's own random state decides.
    """
    return random.randint(1, 10**9) if seeded() else None


def skip_default_seed(seed: Any) -> None:
    """Draws a default seed that nothing uses, so that later layers get the seeds that they have in Keras.

    Args:
        seed: That which the layer was given. With None, Keras makes a seed generator.
    """
    if seed is None:
        default_seed()


def generator(seed: Any, device: torch.device | str = "cpu") -> torch.Generator:
    """Returns a generator that gives the same numbers for the same seed.

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
    drawn = torch.rand(tuple(shape), generator=generator, dtype=dtype, device=device)
    return drawn.mul_(high - low).add_(low)  # in place: new memory costs more than the numbers


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


def random_state(generators: Iterable[torch.Generator] = ()) -> dict[str, Any]:
    """Returns where all random numbers of the process are: torch's (also the accelerator's), NumPy's, Python's; as plain data.

    Args:
        generators: Generators of the user's whose state is wanted too.
    """
    kind, key, *rest = np.random.get_state()
    device_state = getattr(_device_module(), "get_rng_state_all", list)
    return {
        "torch": torch.get_rng_state(),
        "devices": list(device_state()),
        "numpy": (str(kind), torch.from_numpy(np.asarray(key).astype(np.int64)), *rest),
        "python": random.getstate(),
        "generators": [each.get_state() for each in generators],
    }


def set_random_state(state: dict[str, Any], generators: Iterable[torch.Generator] = ()) -> None:
    """Goes back to what `random_state` gave."""
    torch.set_rng_state(state["torch"])
    if state["devices"] and hasattr(_device_module(), "set_rng_state_all"):
        _device_module().set_rng_state_all(state["devices"])
    kind, key, *rest = state["numpy"]
    np.random.set_state((kind, key.numpy().astype(np.uint32), *rest))
    random.setstate(state["python"])
    for each, own in zip(generators, state["generators"], strict=True):
        each.set_state(own)


@contextlib.contextmanager
def torch_seeded(seed: int) -> Iterator[Callable[[], bool]]:
    """Seeds torch's random state in a block, and puts it back afterwards. Gives a function: whether it has moved since."""
    device = _device_module()

    def states() -> list[Tensor]:
        return [torch.get_rng_state(), *getattr(device, "get_rng_state_all", list)()]

    before = states()
    torch.manual_seed(seed)
    start = states()
    try:
        yield lambda: any(not torch.equal(old, new) for old, new in zip(start, states(), strict=True))
    finally:
        torch.set_rng_state(before[0])
        if len(before) > 1:
            device.set_rng_state_all(before[1:])


def _device_module() -> Any:
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return None if device is None else torch.get_device_module(device)
