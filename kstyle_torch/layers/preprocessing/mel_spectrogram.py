"""MelSpectrogram: Mel spectrograms of audio."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kstyle_torch import config
from kstyle_torch.initializers import DType, as_dtype
from kstyle_torch.layer.base import layer_registry
from kstyle_torch.layers.preprocessing.data_layer import DataLayer

register = layer_registry.register
WINDOWS = {"hann": torch.hann_window, "hamming": torch.hamming_window}


@register()
class MelSpectrogram(DataLayer):
    """Conversion of audio to the power in frequency bands on the Mel scale over time.

    Args:
        fft_length: Samples of a Fourier transform.
        sequence_stride: Distance between frames in samples.
        sequence_length: Samples of a frame, at most `fft_length`; `fft_length` if None.
        window: `"hann"`, `"hamming"`, a vector of `sequence_length` numbers, or None for no window.
        sampling_rate: Samples per second.
        num_mel_bins: Number of bands.
        min_freq: Lowest frequency of the bands, in hertz.
        max_freq: Highest frequency; half the sampling rate if None.
        power_to_db: Whether the output is in decibels.
        top_db: Dynamic range in decibels: values are clipped at this distance below the largest one of the batch.
        mag_exp: Power of the magnitude: 2 for power, 1 for magnitude.
        min_power: Smallest power, so that logarithms are finite.
        ref_power: Power of 0 decibels.
    Input shape: (batch, samples) or (samples,). Output shape: (batch, num_mel_bins, frames), with
        `1 + samples // sequence_stride` frames.
    Raises: ValueError: if `fft_length` is less than `sequence_length`, or the window is unknown or of another length.
    Source: the HTK book's Mel scale, 2595 log10(1 + f / 700).

    Example:
        >>> MelSpectrogram(num_mel_bins=64, sampling_rate=8000, sequence_stride=256)(torch.rand(2, 16000)).shape
        torch.Size([2, 64, 63])
    """

    def __init__(
        self,
        fft_length: int = 2048,
        sequence_stride: int = 512,
        sequence_length: int | None = None,
        window: Any = "hann",
        sampling_rate: int = 16000,
        num_mel_bins: int = 128,
        min_freq: float = 20.0,
        max_freq: float | None = None,
        power_to_db: bool = True,
        top_db: float = 80.0,
        mag_exp: float = 2.0,
        min_power: float = 1e-10,
        ref_power: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.fft_length, self.sequence_stride = fft_length, sequence_stride
        self.sequence_length = sequence_length or fft_length
        if self.fft_length < self.sequence_length:
            raise ValueError(
                f"MelSpectrogram: fft_length must be at least sequence_length; got {fft_length} and {sequence_length}."
            )
        if isinstance(window, str) and window not in WINDOWS:
            raise ValueError(f"MelSpectrogram: window must be 'hann', 'hamming', None or a vector; got {window!r}.")
        if window is not None and not isinstance(window, str) and len(window) != self.sequence_length:
            raise ValueError(f"MelSpectrogram: window must have length {self.sequence_length}; got {len(window)}.")
        self.window, self.sampling_rate, self.num_mel_bins = window, sampling_rate, num_mel_bins
        self.min_freq, self.max_freq = min_freq, max_freq or int(sampling_rate / 2)
        self.power_to_db, self.top_db, self.mag_exp = power_to_db, top_db, mag_exp
        self.min_power, self.ref_power = min_power, ref_power

    def build(self, input_shape: Any) -> None:
        dtype = self._dtype if self._dtype == torch.float64 else torch.float32  # torch.stft has no half precision
        device = config.device()
        self.register_buffer("frame_window", self._make_window().to(device, dtype), persistent=False)
        bins = self.fft_length // 2 + 1
        bands = _bands(self.num_mel_bins, bins, self.sampling_rate, self.min_freq, self.max_freq)
        self.register_buffer("bands", bands.to(device, dtype), persistent=False)

    def linear_to_mel_weight_matrix(
        self,
        num_mel_bins: int = 20,
        num_spectrogram_bins: int = 129,
        sampling_rate: int = 8000,
        lower_edge_hertz: float = 125.0,
        upper_edge_hertz: float = 3800.0,
        dtype: DType = "float32",
    ) -> Tensor:
        """Returns the weight of each frequency in each band, (num_spectrogram_bins, num_mel_bins).

        Args:
            num_mel_bins: Number of bands.
            num_spectrogram_bins: Number of frequencies of the spectrum: half the length of the Fourier transform plus one.
            sampling_rate: Samples per second.
            lower_edge_hertz: Lowest frequency of the bands, in hertz.
            upper_edge_hertz: Highest, in hertz.
            dtype: Of the result.
        """
        bands = _bands(num_mel_bins, num_spectrogram_bins, sampling_rate, lower_edge_hertz, upper_edge_hertz)
        return bands.to(config.device(), as_dtype(dtype))

    def _make_window(self) -> Tensor:
        if isinstance(self.window, str):
            return WINDOWS[self.window](self.sequence_length, periodic=True, dtype=torch.float64)
        return torch.ones(self.sequence_length) if self.window is None else torch.as_tensor(self.window)

    def forward(self, inputs: Tensor) -> Tensor:
        dtype = inputs.dtype if inputs.is_floating_point() else self._dtype
        spectrum = torch.stft(
            inputs.to(self.bands.dtype),
            n_fft=self.fft_length,
            hop_length=self.sequence_stride,
            win_length=self.sequence_length,
            window=self.frame_window,
            center=True,
            return_complex=True,
        )
        powers = self.bands.T @ spectrum.abs().pow(self.mag_exp)
        return (self._decibels(powers) if self.power_to_db else powers).to(dtype)

    def _decibels(self, powers: Tensor) -> Tensor:
        reference = torch.tensor(max(abs(self.ref_power), self.min_power), dtype=powers.dtype, device=powers.device)
        loudness = 10 * (powers.clamp_min(self.min_power).log10() - reference.log10())
        return torch.maximum(loudness, loudness.max() - self.top_db)


def _mel(hertz: Tensor) -> Tensor:
    return 1127.0 * torch.log1p(hertz / 700.0)


def _bands(num_bands: int, num_bins: int, sampling_rate: float, lowest: float, highest: float) -> Tensor:
    """Returns triangular filters over the bins of the Fourier transform, (bins, bands); they exclude the lowest bin."""
    pitch = _mel(torch.linspace(0, sampling_rate / 2, num_bins, dtype=torch.float64)).unsqueeze(1)
    ends = [float(_mel(torch.tensor(float(edge), dtype=torch.float64))) for edge in (lowest, highest)]
    edges = torch.linspace(*ends, num_bands + 2, dtype=torch.float64)  # type: ignore[call-overload]
    lower, center, upper = edges[:-2], edges[1:-1], edges[2:]
    triangles = torch.minimum((pitch - lower) / (center - lower), (upper - pitch) / (upper - center)).clamp_min(0)
    triangles[0] = 0
    return triangles
