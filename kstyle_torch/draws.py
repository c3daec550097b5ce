"""Random numbers from a seed, equal to Keras' on torch, for initializers and `kstyle_torch.random`."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "default_seed",
    "generator",
    "isolated_seed",
    "normal",
    "random_state",
    "reseeded",
    "seed_all",
    "seeded",
    "set_random_state",
    "shared_since_seeding",
    "skip_default_seed",
    "torch_seeded",
    "truncated_normal",
    "uniform",
]

T = TypeVar("T")
Generator = torch.Generator | None  # None for torch's own, which `torch.manual_seed` seeds


class _Seeding:
    """The last `seed_all`: its seed, None before the first; and what draws without a seed share since then."""

    seed: int | None = None
    shared: Any = None
    lock = threading.RLock()  # of `isolated_seed`: the random state belongs to the whole process


def seed_all(seed: int) -> None:
    """Seeds Python's random numbers, NumPy's and torch's; from here on `default_seed` draws as Keras does."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    _Seeding.seed, _Seeding.shared = seed, None


@contextlib.contextmanager
def isolated_seed(seed: int) -> Iterator[None]:
    """Seeds all random numbers, as `seed_all` does, in a block, and puts them back afterwards.

    Blocks of several threads run one after another; threads outside of such blocks see the seed.
    """
    with _Seeding.lock:
        state, seeding = random_state(), (_Seeding.seed, _Seeding.shared)
        seed_all(seed)
        try:
            yield
        finally:
            set_random_state(state)
            _Seeding.seed, _Seeding.shared = seeding


def seeded() -> bool:
    """Returns whether the last `seed_all` decides; False while torch's own random state does."""
    return torch.initial_seed() == _Seeding.seed


def shared_since_seeding(make: Callable[[], T]) -> T:
    """Returns the object that `make` gave at the first call since the last `seed_all`."""
    if _Seeding.shared is None:
        _Seeding.shared = make()
    return _Seeding.shared


def default_seed() -> int | None:
    """Returns a seed for an initializer or seed generator that got none.

    Keras draws it from Python's `random` when the object is made. After `utils.set_random_seed`, so does this function, and a
    program has the same initial weights. A call of `torch.manual_seed` with another seed takes over from it.

    Returns: The seed; None while torch's own random state is used.
    """
    return random.randint(1, 10**9) if seeded() else None


def skip_default_seed(seed: Any) -> None:
    """Draws and discards a default seed, so that later layers get the same seeds as in Keras.

    Args:
        seed: That which the layer was given. With None, Keras makes a seed generator.
    """
    if seed is None:
        default_seed()


def generator(seed: Any, device: torch.device | str = "cpu") -> torch.Generator:
    """Returns a generator that draws the same numbers for the same seed.

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
    """Returns the random state of the process as plain data: torch's (including the accelerator's), NumPy's and Python's.

    Args:
        generators: Generators of the user whose state is included.
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
    """Restores a result of `random_state`."""
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
    """Seeds torch's random state for a block, then restores it. Yields a function that returns whether it was used."""
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


@contextlib.contextmanager
def reseeded(source: torch.Generator, seed: int) -> Iterator[Callable[[], bool]]:
    """Does what `torch_seeded` does, for one generator."""
    before = source.get_state()
    source.manual_seed(seed)
    start = source.get_state()
    try:
        yield lambda: not torch.equal(start, source.get_state())
    finally:
        source.set_state(before)


def _device_module() -> Any:
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return None if device is None else torch.get_device_module(device)
