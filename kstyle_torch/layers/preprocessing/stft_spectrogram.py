"""STFTSpectrogram: spectrograms of signals by a trainable convolution."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kstyle_torch import config
from kstyle_torch.initializers import STFT
from kstyle_torch.layer.base import Layer, layer_registry
from kstyle_torch.layer.layout import permuted
from kstyle_torch.layer.shapes import Shape
from kstyle_torch.layer.spatial import check_data_format, check_padding, same_padding
from kstyle_torch.layer.weights import Weight, native

register = layer_registry.register
MODES = ("log", "magnitude", "psd", "real", "imag", "angle", "stft")


@register()
class STFTSpectrogram(Layer):
    """Short-time Fourier transform of a signal.

    It is a convolution with waves as weights, which are trained unless `trainable=False`.

    Args:
        mode: Kind of output: `"log"` or plain `"magnitude"`, `"psd"` (power), `"real"` or `"imag"` part, both
            (`"stft"`), or the phase (`"angle"`).
        frame_length: Samples of a frame.
        frame_step: Distance between frames in samples, at most `frame_length`; half of it if None.
        fft_length: Samples of a Fourier transform, at least `frame_length`; the next power of two if None.
        window: Name of a SciPy window, a vector of `frame_length` numbers, or None for no window.
        periodic: Whether a named window is periodic rather than symmetric.
        scaling: `"density"`, `"spectrum"` or None.
        padding: `"valid"`, or `"same"` so that there are `ceil(length / frame_step)` frames.
        expand_dims: Whether frequencies and channels have an axis each, as in an image.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
    Input shape: (batch, length, channels). Output shape: (batch, frames, channels * bins), with `fft_length // 2 + 1` bins
        (twice that in mode "stft"); (batch, frames, bins, channels) with `expand_dims`. With channels_first: (batch,
        channels, length), (batch, channels * bins, frames) and (batch, channels, frames, bins).
    Raises: ValueError: for an argument that is none of these. TypeError: if the input is not of floats.

    Example:
        >>> STFTSpectrogram(frame_length=256, fft_length=512)(torch.rand(3, 16000, 1)).shape
        torch.Size([3, 124, 257])
    """

    real_kernel = Weight("real.weight", permuted(2, 1, 0))
    imag_kernel = Weight("imag.weight", permuted(2, 1, 0))

    def __init__(
        self,
        mode: str = "log",
        frame_length: int = 256,
        frame_step: int | None = None,
        fft_length: int | None = None,
        window: Any = "hann",
        periodic: bool = False,
        scaling: str | None = "density",
        padding: str = "valid",
        expand_dims: bool = False,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if mode not in MODES:
            raise ValueError(f"STFTSpectrogram: mode must be one of {MODES}; got {mode!r}.")
        if frame_step is not None and not 1 <= frame_step <= frame_length:
            raise ValueError(
                f"STFTSpectrogram: frame_step must be from 1 to frame_length={frame_length}; got {frame_step}."
            )
        if fft_length is not None and fft_length < frame_length:
            raise ValueError(
                f"STFTSpectrogram: fft_length must be at least frame_length={frame_length}; got {fft_length}."
            )
        if fft_length is not None and fft_length & (fft_length - 1):
            warnings.warn(f"STFTSpectrogram: fft_length should be a power of two; got {fft_length}.", stacklevel=2)
        if window is not None and not isinstance(window, str) and np.shape(window) != (frame_length,):
            raise ValueError(f"STFTSpectrogram: window must have {frame_length} numbers; got shape {np.shape(window)}.")
        STFT("real", window, scaling, periodic)((frame_length, 1, 2))  # checks window and scaling
        self.mode, self.frame_length, self.frame_step = mode, frame_length, frame_step or frame_length // 2
        self.fft_length = fft_length or 2 ** math.ceil(math.log2(frame_length))
        self.window, self.periodic, self.scaling = window, periodic, scaling
        self.padding, self.expand_dims = check_padding(padding, self), expand_dims
        self.data_format = check_data_format(data_format, self)

    def build(self, input_shape: Shape) -> None:
        for side in ("real", "imag"):
            if self.mode in ("real", "imag") and self.mode != side:
                continue
            bins = self.fft_length // 2 + 1
            waves = native(nn.Conv1d, 1, bins, self.frame_length, self.frame_step, bias=False, dtype=self._dtype)
            setattr(self, side, waves)
            self.initialize(**{f"{side}_kernel": STFT(side, self.window, self.scaling, self.periodic)})

    def forward(self, inputs: Tensor) -> Tensor:
        if not inputs.is_floating_point():
            raise TypeError(f"{self.name}: expected a signal of floats; got {inputs.dtype}.")
        if inputs.ndim != 3:
            raise ValueError(
                f"{self.name}: expected an input of 3 axes, (batch, length, channels); got {tuple(inputs.shape)}."
            )
        signal = inputs if self.data_format == "channels_first" else inputs.transpose(1, 2)
        frames = signal.flatten(0, 1).unsqueeze(1)  # one row per channel, since all are convolved with the same waves
        if self.padding == "same":
            frames = F.pad(frames, same_padding(frames.shape[-1], self.frame_length, self.frame_step))
        return self._arranged(self._spectrum(frames).unflatten(0, signal.shape[:2]))

    def _spectrum(self, frames: Tensor) -> Tensor:
        """Computes spectrograms, (rows, 1, length) -> (rows, bins, frames)."""
        if self.mode == "real":
            return self.real(frames)
        if self.mode == "imag":
            return self.imag(frames)
        real, imag = self.real(frames), self.imag(frames)
        if self.mode == "angle":
            return torch.atan2(imag, real)
        if self.mode == "stft":
            return torch.cat([real, imag], dim=1)
        power = real.square() + imag.square()
        if self.mode == "psd":  # all but the first and last bin also represent a negative frequency
            return torch.cat([power[:, :1], 2 * power[:, 1:-1], power[:, -1:]], dim=1)
        magnitude = power.clamp_min(config.epsilon()).sqrt()
        return magnitude if self.mode == "magnitude" else magnitude.clamp_min(config.epsilon()).log()

    def _arranged(self, spectra: Tensor) -> Tensor:
        """Converts (batch, channels, bins, frames) to the shape of the output."""
        last = self.data_format == "channels_last"
        if self.expand_dims:
            return spectra.permute(0, 3, 2, 1) if last else spectra.transpose(2, 3)
        flat = spectra.flatten(1, 2)
        return flat.transpose(1, 2) if last else flat
