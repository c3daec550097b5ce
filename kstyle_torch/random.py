"""Random numbers, with Keras' seeds: an int gives the same numbers at every call, a `SeedGenerator` new ones.

Without a seed they come from torch's own random state, which `torch.manual_seed` sets, and can be compiled. With one, and
outside of layers after `utils.set_random_seed`, they are, on a CPU, the numbers that Keras draws on torch.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kstyle_torch import config, draws, serialization
from kstyle_torch._torch import is_compiling, sample_dirichlet, standard_gamma
from kstyle_torch.draws import default_seed, generator, seeded, shared_since_seeding
from kstyle_torch.initializers import DType, as_dtype
from kstyle_torch.mode import running
from kstyle_torch.ops.operation import TensorLike, as_tensor, operation
from kstyle_torch.registry import unique_name
from kstyle_torch.scopes import name_scope
from kstyle_torch.variables import Variable

__all__ = [
    "SeedGenerator",
    "beta",
    "binomial",
    "categorical",
    "dropout",
    "gamma",
    "normal",
    "randint",
    "shuffle",
    "truncated_normal",
    "uniform",
]

Shape = Sequence[int]
registry = serialization.registry("seed generator", "keras.random")


@registry.register()
class SeedGenerator(serialization.Configurable):
    """A seed that advances: each draw returns new numbers, which are the same in every run of the program.

    Args:
        seed: Int where it starts; if None, a number from torch's random state.
        name: Name of the generator.
        kwargs: `backend`, which must be None or torch's.
    Raises: ValueError: if `seed` is not an int.

    Example:
        >>> seed = random.SeedGenerator(1)
        >>> torch.equal(random.normal((3,), seed=seed), random.normal((3,), seed=seed))
        False
        >>> seed.state.numpy()  # where it started, and how often it was used
        array([1, 2], dtype=int32)
    """

    def __init__(self, seed: int | None = None, name: str | None = None, **kwargs: Any):
        kwargs.pop("backend", None)
        serialization.reject_unknown(self, kwargs)
        if seed is not None and not isinstance(seed, numbers.Integral):
            raise ValueError(f"SeedGenerator: seed must be an int or None; got {seed!r}.")
        self.name = name or unique_name("seed_generator")
        self._initial_seed = seed
        if seed is None:
            seed = default_seed() or int(torch.randint(1, 10**9, (), device="cpu"))
        start = int(seed)
        # drawing reads it, and must not wait for another device
        with config.device_scope("cpu"), name_scope(self.name, caller=self):
            state = torch.tensor([(start & 0xFFFFFFFF ^ 0x80000000) - 0x80000000, 0])
            self.state = Variable(state, dtype="int32", trainable=False, name="seed_generator_state")

    def next(self, ordered: bool = True) -> Tensor:
        """Returns the state before it moves on, two numbers that are added to a seed.

        Args:
            ordered: Whether the second number counts the calls; else both jump.
        """
        now = self.state.value
        self.state.assign(now + torch.tensor([0, 1], dtype=now.dtype) if ordered else (now + 1) * 5387 % 933199)
        return now


Seed = int | SeedGenerator | None


def normal(shape: Shape, mean: float = 0.0, stddev: float = 1.0, dtype: DType = None, seed: Seed = None) -> Tensor:
    """Draws from a normal distribution.

    Args:
        shape: Shape of the result.
        mean: Its mean.
        stddev: Its standard deviation.
        dtype: `config.floatx()` if None.
        seed: Int for the same numbers at every call, a `SeedGenerator`, or None.

    Example:
        >>> random.normal((2, 3), seed=1).shape
        torch.Size([2, 3])
    """
    return draws.normal(shape, mean, stddev, as_dtype(dtype), *_source(seed))


def truncated_normal(
    shape: Shape, mean: float = 0.0, stddev: float = 1.0, dtype: DType = None, seed: Seed = None
) -> Tensor:
    """Draws from a normal distribution, truncated at two standard deviations from the mean.

    Args:
        shape: Shape of the result.
        mean: Mean before the cut.
        stddev: Standard deviation before the cut.
        dtype: `config.floatx()` if None.
        seed: As in `normal`.
    """
    return draws.truncated_normal(shape, mean, stddev, as_dtype(dtype), *_source(seed))


def uniform(shape: Shape, minval: float = 0.0, maxval: float = 1.0, dtype: DType = None, seed: Seed = None) -> Tensor:
    """Draws from a uniform distribution over [minval, maxval).

    Args:
        shape: Shape of the result.
        minval: Lower bound.
        maxval: Upper bound.
        dtype: A float type; `config.floatx()` if None.
        seed: As in `normal`.
    Raises: ValueError: if `dtype` is not a float type.
    """
    if not as_dtype(dtype).is_floating_point:
        raise ValueError(f"uniform: dtype must be a float type; got {dtype!r}. Use randint for integers.")
    return draws.uniform(shape, minval, maxval, as_dtype(dtype), *_source(seed))


def randint(shape: Shape, minval: int, maxval: int, dtype: DType = "int32", seed: Seed = None) -> Tensor:
    """Draws uniformly distributed integers from minval to maxval - 1.

    Args:
        shape: Shape of the result.
        minval: Lower bound.
        maxval: Upper bound, exclusive.
        dtype: An integer type.
        seed: As in `normal`.
    Raises: ValueError: if `dtype` is not an integer type.
    """
    whole = as_dtype(dtype or "int32")
    if whole.is_floating_point or whole.is_complex or whole is torch.bool:
        raise ValueError(f"randint: dtype must be an integer type; got {dtype!r}.")
    source, device = _source(seed)
    return torch.randint(int(minval), int(maxval), tuple(shape), generator=source, dtype=whole, device=device)


@operation
def categorical(logits: TensorLike, num_samples: int, dtype: DType = "int32", seed: Seed = None) -> Tensor:
    """Draws class numbers with the probabilities `softmax(logits)`.

    Args:
        logits: (batch, classes).
        num_samples: Number of draws per row.
        dtype: Of the result.
        seed: As in `normal`.
    Returns: (batch, num_samples).
    Raises: ValueError: if `logits` has another rank than 2.
    """
    if logits.ndim != 2:
        raise ValueError(f"categorical: logits must be (batch, classes); got shape {tuple(logits.shape)}.")
    source, _ = _source(seed, logits.device)
    drawn = torch.multinomial(logits.softmax(-1), num_samples, replacement=True, generator=source)
    return drawn.to(as_dtype(dtype))


@operation
def dropout(
    inputs: TensorLike, rate: float, noise_shape: Sequence[int | None] | None = None, seed: Seed = None
) -> Tensor:
    """Sets a random part of the values to 0 and scales the others by `1 / (1 - rate)`.

    Args:
        inputs: Tensor.
        rate: Share of values, 0 to 1.
        noise_shape: Shape of the drawn mask, broadcast over the inputs; None in it means the inputs' size.
        seed: As in `normal`.
    """
    if rate in (0, 1):
        return inputs if rate == 0 else torch.zeros_like(inputs)
    unseeded = seed is None or (isinstance(seed, SeedGenerator) and seed._initial_seed is None)
    if unseeded and noise_shape is None:
        return F.dropout(inputs, rate)  # torch's fused kernel takes no seed
    shape = inputs.shape if noise_shape is None else noise_shape
    sizes = [size if wanted is None else wanted for wanted, size in zip(shape, inputs.shape, strict=True)]
    source, device = _source(seed, inputs.device)
    kept = torch.full(sizes, 1 - rate, device=device).bernoulli(generator=source).bool()
    return torch.where(kept, inputs / (1 - rate), 0)


@operation
def shuffle(x: TensorLike, axis: int = 0, seed: Seed = None) -> Tensor:
    """Shuffles `x` along `axis`, independently for each index of the preceding axes.

    Args:
        x: Tensor.
        axis: The axis.
        seed: As in `normal`.

    Example:
        >>> random.shuffle(torch.arange(3), seed=1).sort().values
        tensor([0, 1, 2])
    """
    axis %= x.ndim
    source, device = _source(seed, x.device)
    order = torch.rand(x.shape[: axis + 1], generator=source, device=device).argsort(axis)
    return x.gather(axis, order.reshape(*order.shape, *[1] * (x.ndim - axis - 1)).expand_as(x))


def gamma(shape: Shape, alpha: Any, dtype: DType = None, seed: Seed = None) -> Tensor:
    """Draws from a gamma distribution of rate 1.

    Args:
        shape: Shape of the result.
        alpha: Its shape parameter; broadcasts to `shape`.
        dtype: `config.floatx()` if None.
        seed: As in `normal`.
    """
    alpha, source = _spread(shape, seed, alpha)
    drawn = standard_gamma(alpha, generator=source)
    return drawn.clamp(min=torch.finfo(drawn.dtype).tiny).to(as_dtype(dtype))


def binomial(shape: Shape, counts: Any, probabilities: Any, dtype: DType = None, seed: Seed = None) -> Tensor:
    """Draws from a binomial distribution.

    Args:
        shape: Shape of the result.
        counts: Number of tries; broadcasts to `shape`.
        probabilities: Probability of success in one try, likewise.
        dtype: `config.floatx()` if None.
        seed: As in `normal`.
    """
    counts, probabilities, source = _spread(shape, seed, counts, probabilities)
    return torch.binomial(counts, probabilities, generator=source).to(as_dtype(dtype))


def beta(shape: Shape, alpha: Any, beta: Any, dtype: DType = None, seed: Seed = None) -> Tensor:
    """Draws from a beta distribution.

    Args:
        shape: Shape of the result.
        alpha: Its first parameter; broadcasts to `shape`.
        beta: Its second, likewise.
        dtype: `config.floatx()` if None.
        seed: As in `normal`.
    """
    alpha, beta, source = _spread(shape, seed, alpha, beta)
    drawn = sample_dirichlet(torch.stack([alpha, beta], -1), generator=source)
    return drawn[..., 0].to(as_dtype(dtype))


def _source(seed: Seed, device: torch.device | None = None) -> tuple[torch.Generator | None, torch.device]:
    """Returns the generator and its device; None for torch's own generator."""
    device = config.device() if device is None else device
    if seed is not None and not isinstance(seed, (numbers.Integral, SeedGenerator)):
        raise ValueError(f"seed must be an int, a SeedGenerator or None; got {seed!r}.")
    shared = _shared_generator() if seed is None else None
    if shared is not None:
        seed = sum(shared.next(ordered=False).tolist())
    return (None if seed is None else generator(seed, device)), device


def _shared_generator() -> SeedGenerator | None:
    """Returns Keras' global seed generator, for draws outside of layers after `utils.set_random_seed`; None otherwise.

    Within layers and training steps torch's own generator draws, which compiled and recorded steps can repeat.
    """
    if is_compiling() or running.inside or running.losses is not None or not seeded():
        return None
    return shared_since_seeding(SeedGenerator)


def _spread(shape: Shape, seed: Seed, *parameters: Any) -> tuple[Any, ...]:
    """Returns a distribution's parameters as floats of the result's shape, and what draws."""
    source, device = _source(seed)
    tensors = [as_tensor(parameter).to(device) for parameter in parameters]
    floats = [x if x.is_floating_point() else x.to(as_dtype(None)) for x in tensors]
    return *(x.broadcast_to(tuple(shape)) for x in floats), source
