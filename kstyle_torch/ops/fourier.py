"""Fourier transforms of signals and of their windows. Complex numbers are pairs (real, imaginary)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kstyle_torch.ops.operation import Nest, TensorLike, as_tensor, operation

__all__ = ["extract_sequences", "fft", "fft2", "ifft2", "irfft", "istft", "rfft", "stft"]

Pair = tuple[Tensor, Tensor]
WINDOWS = {"hann": torch.hann_window, "hamming": torch.hamming_window}


@operation
def fft(x: Nest) -> Pair:
    """Returns the discrete Fourier transform along the last axis.

    Args:
        x: Pair of real and imaginary part, of the same shape.
    Returns: A pair of the same form.
    Raises: ValueError: if `x` is not such a pair of floats.
    """
    return _pair(torch.fft.fft(_complex(x, "fft")))


@operation
def fft2(x: Nest) -> Pair:
    """Returns the discrete Fourier transform along the last two axes. Argument and result are those of `fft`."""
    return _pair(torch.fft.fft2(_complex(x, "fft2")))


@operation
def ifft2(x: Nest) -> Pair:
    """Returns the inverse of `fft2`. Argument and result are those of `fft`."""
    return _pair(torch.fft.ifft2(_complex(x, "ifft2")))


@operation
def rfft(x: TensorLike, fft_length: int | None = None) -> Pair:
    """Returns the first half of the Fourier transform of real numbers along the last axis; the other half mirrors it.

    Args:
        x: Real numbers.
        fft_length: Length to which they are cut or padded with 0 first.
    Returns: Pair of real and imaginary part, `fft_length // 2 + 1` long.
    """
    return _pair(torch.fft.rfft(x, fft_length))


@operation
def irfft(x: Nest, fft_length: int | None = None) -> Tensor:
    """Returns the inverse of `rfft`.

    Args:
        x: Pair of real and imaginary part.
        fft_length: Length of the result; `2 * (length - 1)` if None.
    """
    return torch.fft.irfft(_complex(x, "irfft"), fft_length)


@operation
def extract_sequences(x: TensorLike, sequence_length: int, sequence_stride: int) -> Tensor:
    """Returns the windows of a signal.

    Args:
        x: (..., samples).
        sequence_length: Length of a window.
        sequence_stride: Step between them.
    Returns: (..., windows, sequence_length).

    Example:
        >>> ops.extract_sequences(torch.arange(5), 3, 2)
        tensor([[0, 1, 2],
                [2, 3, 4]])
    """
    return x.unfold(-1, sequence_length, sequence_stride)


@operation
def stft(
    x: TensorLike,
    sequence_length: int,
    sequence_stride: int,
    fft_length: int,
    window: Nest = "hann",
    center: bool = True,
) -> Pair:
    """Returns the Fourier transforms of a signal's windows.

    Args:
        x: (..., samples), float32 or float64.
        sequence_length: Length of a window.
        sequence_stride: Step between windows.
        fft_length: Length of the transforms, at least that of a window.
        window: `"hann"`, `"hamming"`, factors (sequence_length,), or None for no weighting.
        center: Whether a window's middle is at its sample; the signal is mirrored at its ends.
    Returns: Pair of real and imaginary part, (..., windows, fft_length // 2 + 1).
    Raises: ValueError: for lengths or a window that do not fit. TypeError: if `x` is not float32 or float64.
    """
    if x.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"stft: x must be float32 or float64; got {x.dtype}.")
    _check_stride(sequence_stride, "stft")
    if fft_length < sequence_length:
        raise ValueError(f"stft: fft_length ({fft_length}) must be at least sequence_length ({sequence_length}).")
    weights = _window(window, sequence_length, x, "stft")
    weights = x.new_ones(sequence_length) if weights is None else weights
    signals = x.reshape(-1, x.shape[-1])
    y = torch.stft(
        signals, fft_length, sequence_stride, sequence_length, weights, center=center, return_complex=True
    ).mT
    return _pair(y.reshape(*x.shape[:-1], *y.shape[-2:]))


@operation
def istft(
    x: Nest,
    sequence_length: int,
    sequence_stride: int,
    fft_length: int,
    length: int | None = None,
    window: Nest = "hann",
    center: bool = True,
) -> Tensor:
    """Returns the signal for an `stft`.

    Args:
        x: Pair of real and imaginary part, (..., windows, fft_length // 2 + 1).
        sequence_length: As in `stft`.
        sequence_stride: As in `stft`.
        fft_length: As in `stft`.
        length: Length of the signal; up to the end of the last window if None.
        window: As in `stft`.
        center: As in `stft`.
    Returns: (..., samples).
    Raises: ValueError: for a stride or a window that does not fit.
    """
    _check_stride(sequence_stride, "istft")
    spectrum = _complex(x, "istft")
    weights = _window(window, sequence_length, spectrum.real, "istft")
    batch = spectrum.shape[:-2]
    spectrum = spectrum.reshape(-1, *spectrum.shape[-2:])
    if sequence_length == fft_length and center and weights is not None:
        sizes = fft_length, sequence_stride, sequence_length
        y = torch.istft(spectrum.mT, *sizes, weights, center=True, length=length)
        return y.reshape(*batch, y.shape[-1])
    parts = torch.fft.irfft(spectrum, fft_length)
    if weights is not None:
        parts = parts * _dual_window(weights, fft_length, sequence_stride)
    y = _overlapped(parts, sequence_stride)
    start = fft_length // 2 if center else 0
    end = y.shape[-1] - start if length is None else start + length
    y = y[:, start:end]
    return y.reshape(*batch, y.shape[-1])


def _dual_window(window: Tensor, length: int, stride: int) -> Tensor:
    """Returns the synthesis window, for which overlapping windows add up to the signal.

    It is the window divided by the sum of the squares of its shifts.
    """
    before = (length - window.shape[0]) // 2
    window = F.pad(window, (before, length - window.shape[0] - before))
    shifts = -(-length // stride)
    squares = F.pad(window.square(), (0, shifts * stride - length)).reshape(shifts, stride).sum(0)
    return window / squares.repeat(shifts)[:length]


def _overlapped(parts: Tensor, stride: int) -> Tensor:
    """Adds each window at its position: (batch, windows, length) to (batch, samples)."""
    _, windows, length = parts.shape
    samples = stride * (windows - 1) + length
    return F.fold(parts.mT, (1, samples), (1, length), stride=(1, stride)).reshape(-1, samples)


def _window(window: Any, length: int, like: Tensor, name: str) -> Tensor | None:
    if window is None:
        return None
    if isinstance(window, str):
        if window not in WINDOWS:
            raise ValueError(f"{name}: window must be 'hann', 'hamming', {length} factors or None; got {window!r}.")
        return WINDOWS[window](length, periodic=True, dtype=like.dtype, device=like.device)
    weights = as_tensor(window).to(like)
    if weights.shape != (length,):
        raise ValueError(f"{name}: window must have the shape ({length},); got {tuple(weights.shape)}.")
    return weights


def _check_stride(stride: int, name: str) -> None:
    if not isinstance(stride, int) or stride <= 0:
        raise ValueError(f"{name}: sequence_stride must be a positive int; got {stride!r}.")


def _complex(x: Any, name: str) -> Tensor:
    if not isinstance(x, (tuple, list)) or len(x) != 2:
        raise ValueError(f"{name}: x must be a pair of tensors, real and imaginary part; got {type(x).__name__}.")
    real, imaginary = as_tensor(x[0]), as_tensor(x[1])
    if real.shape != imaginary.shape:
        raise ValueError(
            f"{name}: real and imaginary part must have the same shape; got {tuple(real.shape)} and "
            f"{tuple(imaginary.shape)}."
        )
    if not (real.is_floating_point() and imaginary.is_floating_point()):
        raise ValueError(f"{name}: real and imaginary part must be floats; got {real.dtype} and {imaginary.dtype}.")
    return torch.complex(real, imaginary)


def _pair(x: Tensor) -> Pair:
    return x.real, x.imag
