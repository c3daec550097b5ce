"""Reading and resampling of WAV files."""

from __future__ import annotations

import math
import wave
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

ZEROS = 16  # zero crossings of the kernel on each side; more make a steeper filter
ROLL_OFF = 0.95  # share of the lower Nyquist frequency that passes
BLOCK = 2**16  # output samples per chunk


def read_wav(path: str | Path) -> tuple[Tensor, int]:
    """Reads a file of PCM samples of 8 to 32 bits.

    Args:
        path: The file.
    Returns: Float32 samples in [-1, 1), (steps, channels), and the sampling rate.
    Raises: ValueError: for other files.
    """
    try:
        with wave.open(str(path), "rb") as file:
            channels, width, rate = file.getnchannels(), file.getsampwidth(), file.getframerate()
            data = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise ValueError(f"{path} is not a WAV file with PCM samples: {error or 'it ends too early'}.") from error
    whole = len(data) - len(data) % (channels * width)
    samples = (
        torch.frombuffer(bytearray(data[:whole]), dtype=torch.uint8) if whole else torch.zeros(0, dtype=torch.uint8)
    )
    integers = samples.view(-1, width).int()
    if width == 1:  # 8-bit samples are unsigned
        values = integers[:, 0] - 128
    else:
        factors = torch.tensor([256**place for place in range(width - 1)])
        values = integers[:, :-1].long() @ factors + integers[:, -1].to(torch.int8).long() * 256 ** (width - 1)
    return (values.double() / 2 ** (8 * width - 1)).float().view(-1, channels), rate


def resampled(audio: Tensor, rate: int, new_rate: int) -> Tensor:
    """Resamples audio by interpolation with a Hann-windowed sinc.

    Frequencies beyond the Nyquist frequency of the lower rate are filtered out.

    Args:
        audio: (steps, channels).
        rate: Sampling rate of the audio.
        new_rate: Sampling rate of the result.
    Returns: (ceil(steps * new_rate / rate), channels).

    Source: J. O. Smith, Digital Audio Resampling, https://ccrma.stanford.edu/~jos/resample/.
    """
    if rate == new_rate or not len(audio):
        return audio
    common = math.gcd(rate, new_rate)
    rate, new_rate = rate // common, new_rate // common
    cutoff = min(1.0, new_rate / rate) * ROLL_OFF  # as a share of the audio's Nyquist frequency
    reach = math.ceil(ZEROS / cutoff)
    length = -(-len(audio) * new_rate // rate)
    padded = F.pad(audio.mT, (reach, reach))
    taps = torch.arange(-reach + 1, reach + 1)
    parts = []
    for first in range(0, length, BLOCK):
        # In integers, so that long files lose no precision: step `n` of the result is at n * rate / new_rate.
        places = torch.arange(first, min(first + BLOCK, length)) * rate
        nearest, within = places // new_rate, (places % new_rate).double() / new_rate
        distance = within[:, None] - taps
        window = torch.cos(distance * (math.pi / 2 / reach)).square() * (distance.abs() < reach)
        kernel = (cutoff * torch.sinc(cutoff * distance) * window).float()
        parts.append(torch.einsum("cnt,nt->nc", padded[:, nearest[:, None] + taps + reach], kernel))
    return torch.cat(parts)


def fitted(audio: Tensor, length: int) -> Tensor:
    """Truncates audio (steps, channels) to `length` steps, or pads it with zeros."""
    return F.pad(audio[:length], (0, 0, 0, length - min(length, len(audio))))
