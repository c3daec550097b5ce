"""Initial values of weights. Initializers are called with a shape in Keras' layout: (..., inputs, outputs)."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kstyle_torch import config, draws, serialization
from kstyle_torch._torch import fake_mode
from kstyle_torch.arrays import from_array
from kstyle_torch.draws import default_seed, generator

__all__ = [
    "STFT",
    "Constant",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Identity",
    "IdentityInitializer",
    "Initializer",
    "LecunNormal",
    "LecunUniform",
    "Ones",
    "Orthogonal",
    "OrthogonalInitializer",
    "RandomNormal",
    "RandomUniform",
    "STFTInitializer",
    "TruncatedNormal",
    "VarianceScaling",
    "Zeros",
    "constant",
    "deserialize",
    "get",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "identity",
    "lecun_normal",
    "lecun_uniform",
    "ones",
    "orthogonal",
    "random_normal",
    "random_uniform",
    "serialize",
    "stft",
    "truncated_normal",
    "variance_scaling",
    "zeros",
]

Shape = Sequence[int]
DType = torch.dtype | str | None
registry = serialization.registry("initializer", "keras.initializers")
_left_out: ContextVar[bool] = ContextVar("initializers_left_out", default=False)


@contextlib.contextmanager
def left_out() -> Iterator[None]:
    """Makes new weights zeros inside the block, since they will be loaded from a file."""
    token = _left_out.set(True)
    try:
        yield
    finally:
        _left_out.reset(token)


def are_left_out() -> bool:
    """Returns whether weights need no initial values, since they will be loaded from a file or are fake tensors."""
    return _left_out.get() or fake_mode() is not None


register = registry.register


def as_dtype(dtype: DType) -> torch.dtype:
    """Returns the torch dtype for a dtype, its name (`"float32"`) or None (`config.floatx()`).

    Raises: ValueError: for an unknown name.
    """
    if isinstance(dtype, torch.dtype):
        return dtype
    found = getattr(torch, dtype or config.floatx(), None)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"Unknown dtype {dtype!r}; expected a name such as 'float32' or a torch.dtype.")
    return found


class Initializer(serialization.Configurable):
    """Base class: override `__call__(self, shape, dtype=None)` and return a tensor of that shape on the CPU."""

    def __call__(self, shape: Shape, dtype: DType = None) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} must define __call__(self, shape, dtype=None).")

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments as plain data, the seed first, as Keras does."""
        config = super().get_config()
        return {"seed": config["seed"], **config} if "seed" in config else config

    def clone(self) -> Any:
        """Returns a new initializer with the same arguments."""
        return type(self).from_config(self.get_config())


@register("zero")
class Zeros(Initializer):
    """All 0."""

    def __call__(self, shape: Shape, dtype: DType = None) -> Tensor:
        return torch.zeros(shape, dtype=as_dtype(dtype), device="cpu")


@register("one")
class Ones(Initializer):
    """All 1."""

    def __call__(self, shape: Shape, dtype: DType = None) -> Tensor:
        return torch.ones(shape, dtype=as_dtype(dtype), device="cpu")


@register()
class Constant(Initializer):
    """All `value`.

    Args:
        value: A number, or an array that broadcasts to the shape.
    """

    def __init__(self, value: Any = 0.0):
        self.value = value

    def __call__(self, shape: Shape, dtype: DType = None) -> Tensor:
        value = from_array(np.asarray(self.value)).to(as_dtype(dtype))
        return value.expand(tuple(shape)).clone()


@register("IdentityInitializer")
class Identity(Initializer):
    """`gain` times the identity matrix, for weights of rank 2.

    Raises: ValueError: for any other rank.
    """

    def __init__(self, gain: float = 1.0):
        self.gain = gain

    def __call__(self, shape: Shape, dtype: DType = None) -> Tensor:
        if len(shape) != 2:
            raise ValueError(f"Identity makes matrices only; got shape {tuple(shape)}.")
        return self.gain * torch.eye(*shape, dtype=as_dtype(dtype), device="cpu")


class RandomInitializer(Initializer):
    """Base of random initializers. With an int `seed`, each call draws the same numbers, which are Keras' on torch.

    With a `random.SeedGenerator` or without a seed it draws new ones; after `utils.set_random_seed`, the seed is drawn when
    the initializer is made.
    """

    def __init__(self, seed: Any = None):
        if seed is not None and not isinstance(seed, (int, np.integer)) and not hasattr(seed, "next"):
            raise ValueError(f"{type(self).__name__}: seed must be an int, a SeedGenerator or None; got {seed!r}.")
        self.seed = default_seed() if seed is None else seed

    def _normal(self, shape: Shape, mean: float, stddev: float, dtype: DType) -> Tensor:
        return draws.normal(shape, mean, stddev, as_dtype(dtype), generator(self.seed))

    def _uniform(self, shape: Shape, low: float, high: float, dtype: DType) -> Tensor:
        return draws.uniform(shape, low, high, as_dtype(dtype), generator(self.seed))

    def _truncated_normal(self, shape: Shape, mean: float, stddev: float, dtype: DType) -> Tensor:
        """Returns a normal distribution cut at two standard deviations."""
        return draws.truncated_normal(shape, mean, stddev, as_dtype(dtype), generator(self.seed))


@register("normal")
class RandomNormal(RandomInitializer):
    """Normal distribution.

    Args:
        mean: Its mean.
        stddev: Its standard deviation.
        seed: Int for the same numbers at every call, or a `SeedGenerator`.
    """

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: Any = None):
        super().__init__(seed)
        self.mean, self.stddev = mean, stddev

    def __call__(self, shape: Shape, dtype: DType = None) -> Tensor:
        return self._normal(shape, self.mean, self.stddev, dtype)


@register()
class TruncatedNormal(RandomInitializer):
    """Normal distribution, truncated at two standard deviations from the mean.

    Args:
        mean: Mean before the cut.
        stddev: Standard deviation before the cut.
        seed: Int for the same numbers at every call, or a `SeedGenerator`.
    """

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: Any = None):
        super().__init__(seed)
        self.mean, self.stddev = mean, stddev

    def __call__(self, shape: Shape, dtype: DType = None) -> Tensor:
        return self._truncated_normal(shape, self.mean, self.stddev, dtype)


@register("uniform")
class RandomUniform(RandomInitializer):
    """Uniform distribution over [minval, maxval).

    Args:
        minval: Lower bound.
        maxval: Upper bound.
        seed: Int for the same numbers at every call, or a `SeedGenerator`.
    """

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: Any = None):
        super().__init__(seed)
        self.minval, self.maxval = minval, maxval

    def __call__(self, shape: Shape, dtype: DType = None) -> Tensor:
        return self._uniform(shape, self.minval, self.maxval, dtype)


@register()
class VarianceScaling(RandomInitializer):
    """Distribution with the variance `scale / n`, where n counts the units that a weight connects.

    Args:
        scale: Positive factor.
        mode: What n is: `"fan_in"`, `"fan_out"` or `"fan_avg"`.
        distribution: `"truncated_normal"`, `"untruncated_normal"` or `"uniform"`.
        seed: Int for the same numbers at every call, or a `SeedGenerator`.
        input_axes: Axes of the shape that hold inputs; the last but one (and the window) if None.
        output_axes: Axes of the shape that hold outputs; the last (and the window) if None.
    Raises: ValueError: for an unknown mode or distribution, or a scale that is not positive.
    Source: He et al. 2015.
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: Any = None,
        input_axes: Sequence[int] | None = None,
        output_axes: Sequence[int] | None = None,
    ):
        super().__init__(seed)
        if scale <= 0:
            raise ValueError(f"VarianceScaling: scale must be positive; got {scale}.")
        if mode not in ("fan_in", "fan_out", "fan_avg"):
            raise ValueError(f"VarianceScaling: mode must be 'fan_in', 'fan_out' or 'fan_avg'; got {mode!r}.")
        distribution = "truncated_normal" if distribution == "normal" else distribution
        if distribution not in ("truncated_normal", "untruncated_normal", "uniform"):
            raise ValueError(
                "VarianceScaling: distribution must be 'truncated_normal', 'untruncated_normal' or 'uniform'; "
                f"got {distribution!r}."
            )
        self.scale, self.mode, self.distribution = scale, mode, distribution
        self.input_axes, self.output_axes = input_axes, output_axes

    def __call__(self, shape: Shape, dtype: DType = None) -> Tensor:
        fan_in, fan_out = compute_fans(shape, self.input_axes, self.output_axes)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, fan)
        if self.distribution == "uniform":
            limit = math.sqrt(3 * variance)
            return self._uniform(shape, -limit, limit, dtype)
        if self.distribution == "untruncated_normal":
            return self._normal(shape, 0.0, math.sqrt(variance), dtype)
        cut = 0.87962566103423978  # standard deviation of a unit normal cut at +-2
        return self._truncated_normal(shape, 0.0, math.sqrt(variance) / cut, dtype)


def with_axes(initializer: Any, input_axes: Iterable[int], output_axes: Iterable[int]) -> Any:
    """Returns a kernel's initializer that knows which axes of the kernel are inputs and which are outputs.

    Args:
        initializer: Returned as it is unless it is a `VarianceScaling` that was not given both.
    """
    if not isinstance(initializer, VarianceScaling) or None not in (initializer.input_axes, initializer.output_axes):
        return initializer
    told = copy.copy(initializer)
    told.input_axes, told.output_axes = [*input_axes], [*output_axes]
    return told


class _FixedScaling(VarianceScaling):
    """A `VarianceScaling` whose scale, mode and distribution are its class."""

    fixed: tuple[float, str, str]

    def __init__(
        self,
        seed: Any = None,
        input_axes: Sequence[int] | None = None,
        output_axes: Sequence[int] | None = None,
    ):
        super().__init__(*self.fixed, seed, input_axes, output_axes)


@register()
class GlorotUniform(_FixedScaling):
    """Uniform within `sqrt(6 / (fan_in + fan_out))`. Source: Glorot & Bengio 2010."""

    fixed = (1.0, "fan_avg", "uniform")


@register()
class GlorotNormal(_FixedScaling):
    """Truncated normal with the variance `2 / (fan_in + fan_out)`. Source: Glorot & Bengio 2010."""

    fixed = (1.0, "fan_avg", "truncated_normal")


@register()
class HeUniform(_FixedScaling):
    """Uniform within `sqrt(6 / fan_in)`. Source: He et al. 2015."""

    fixed = (2.0, "fan_in", "uniform")


@register()
class HeNormal(_FixedScaling):
    """Truncated normal with the variance `2 / fan_in`. Source: He et al. 2015."""

    fixed = (2.0, "fan_in", "truncated_normal")


@register()
class LecunUniform(_FixedScaling):
    """Uniform within `sqrt(3 / fan_in)`. Source: Klambauer et al. 2017."""

    fixed = (1.0, "fan_in", "uniform")


@register()
class LecunNormal(_FixedScaling):
    """Truncated normal with the variance `1 / fan_in`. Source: Klambauer et al. 2017."""

    fixed = (1.0, "fan_in", "truncated_normal")


@register("OrthogonalInitializer")
class Orthogonal(RandomInitializer):
    """A random orthogonal matrix (of all axes but the last by the last), times `gain`.

    Args:
        gain: Factor.
        seed: Int for the same numbers at every call, or a `SeedGenerator`.
    Raises: ValueError: for a rank under 2.
    Source: Saxe et al. 2014.
    """

    def __init__(self, gain: float = 1.0, seed: Any = None):
        super().__init__(seed)
        self.gain = gain

    def __call__(self, shape: Shape, dtype: DType = None) -> Tensor:
        if len(shape) < 2:
            raise ValueError(f"Orthogonal needs a shape of rank 2 or more; got {tuple(shape)}.")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        drawn = self._normal((max(rows, columns), min(rows, columns)), 0.0, 1.0, torch.float32)
        q, r = torch.linalg.qr(drawn)
        q = q * r.diagonal().sign()  # makes the distribution uniform
        q = q.T if rows < columns else q
        return (self.gain * q.reshape(tuple(shape))).to(as_dtype(dtype))


@register("STFTInitializer")
class STFT(Initializer):
    """Kernels of shape (frame_length, 1, fft_length // 2 + 1) whose convolution is a short-time Fourier transform.

    Args:
        side: `"real"` or `"imag"` part.
        window: Name of a scipy window, an array of the frame's length, or None for no window.
        scaling: `"density"`, `"spectrum"` or None.
        periodic: Whether a named window is periodic rather than symmetric.
    Raises: ValueError: for an unknown side or scaling.
    """

    def __init__(
        self, side: str = "real", window: Any = "hann", scaling: str | None = "density", periodic: bool = False
    ):
        if side not in ("real", "imag"):
            raise ValueError(f"STFT: side must be 'real' or 'imag'; got {side!r}.")
        if scaling not in ("density", "spectrum", None):
            raise ValueError(f"STFT: scaling must be 'density', 'spectrum' or None; got {scaling!r}.")
        self.side, self.window, self.scaling, self.periodic = side, window, scaling, periodic

    def __call__(self, shape: Shape, dtype: DType = None) -> Tensor:
        length, bins = shape[0], shape[2]
        fft_length = (bins - 1) * 2
        time = torch.arange(length, dtype=torch.float64, device="cpu").reshape(-1, 1, 1)
        frequency = torch.arange(bins, dtype=torch.float64, device="cpu").reshape(1, 1, -1)
        angle = 2 * math.pi * time * frequency / fft_length
        wave = angle.cos() if self.side == "real" else -angle.sin()
        window = self._window(length)
        return (wave * window.reshape(-1, 1, 1)).to(as_dtype(dtype))

    def _window(self, length: int) -> Tensor:
        window = np.ones(length)
        if isinstance(self.window, str):
            from scipy.signal import get_window

            window = get_window(self.window, length, self.periodic)
        elif self.window is not None:
            window = np.asarray(self.window, dtype=np.float64)
        scale = 1.0
        if self.window is not None and self.scaling == "density":
            scale = 1 / math.sqrt((window**2).sum())
        elif self.window is not None and self.scaling == "spectrum":
            scale = 1 / np.abs(window).sum()
        return torch.from_numpy(window * scale)


def compute_fans(
    shape: Shape, input_axes: Sequence[int] | None = None, output_axes: Sequence[int] | None = None
) -> tuple[int, int]:
    """Returns how many inputs and outputs a weight of `shape` (..., inputs, outputs) connects, its window counted in both."""
    if input_axes is not None and output_axes is not None:
        return math.prod(shape[axis] for axis in input_axes), math.prod(shape[axis] for axis in output_axes)
    if len(shape) < 2:
        return (shape[0], shape[0]) if shape else (1, 1)
    window = math.prod(shape[:-2])
    return shape[-2] * window, shape[-1] * window


def get(identifier: Any) -> Callable[..., Tensor] | None:
    """Returns the initializer for a name, config, class, callable or array of values.

    Raises: ValueError: for an unknown name; the message suggests the nearest.
    """
    if isinstance(identifier, (np.ndarray, Tensor)):
        return Constant(identifier)
    return serialization.get(identifier, registry)


def serialize(initializer: Any) -> Any:
    """Returns the initializer's config in Keras' JSON form."""
    return serialization.serialize_keras_object(initializer)


def deserialize(config: Any, custom_objects: dict[str, Any] | None = None) -> Any:
    """Returns the initializer for a result of `serialize`."""
    return serialization.deserialized(config, custom_objects, registry=registry)


constant, zeros, ones, identity = Constant, Zeros, Ones, Identity
random_normal, random_uniform, truncated_normal = RandomNormal, RandomUniform, TruncatedNormal
variance_scaling, orthogonal, stft = VarianceScaling, Orthogonal, STFT
glorot_normal, glorot_uniform, he_normal, he_uniform = GlorotNormal, GlorotUniform, HeNormal, HeUniform
lecun_normal, lecun_uniform = LecunNormal, LecunUniform
IdentityInitializer, OrthogonalInitializer, STFTInitializer = Identity, Orthogonal, STFT
