"""Special functions, reductions by segment, distances, sequences, and complex numbers as pairs."""

from __future__ import annotations

import torch
from torch import Tensor

from kstyle_torch.initializers import as_dtype
from kstyle_torch.ops.fourier import extract_sequences, fft, fft2, ifft2, irfft, istft, rfft, stft
from kstyle_torch.ops.operation import TensorLike, operation

__all__ = [
    "cdist",
    "erf",
    "erfc",
    "erfinv",
    "extract_sequences",
    "fft",
    "fft2",
    "ifft2",
    "in_top_k",
    "irfft",
    "istft",
    "logdet",
    "logsumexp",
    "rfft",
    "rsqrt",
    "segment_max",
    "segment_min",
    "segment_prod",
    "segment_sum",
    "stft",
    "top_k",
    "view_as_complex",
    "view_as_real",
]


@operation
def erf(x: TensorLike) -> Tensor:
    """Returns the error function."""
    return torch.erf(x)


@operation
def erfc(x: TensorLike) -> Tensor:
    """Returns `1 - erf(x)`, accurate where `erf(x)` is close to 1."""
    return torch.erfc(x)


@operation
def erfinv(x: TensorLike) -> Tensor:
    """Returns the inverse of `erf`, on (-1, 1)."""
    return torch.erfinv(x)


@operation
def rsqrt(x: TensorLike) -> Tensor:
    """Returns `1 / sqrt(x)`."""
    return torch.rsqrt(x)


@operation
def logdet(x: TensorLike) -> Tensor:
    """Returns the logarithm of the determinant of square matrices, (..., n, n); NaN where it is negative."""
    return torch.logdet(x)


@operation
def logsumexp(x: TensorLike, axis: int | tuple[int, ...] | list[int] | None = None, keepdims: bool = False) -> Tensor:
    """Returns `log(sum(exp(x)))`, without overflow.

    Args:
        x: Tensor.
        axis: Axis or axes to reduce; all if None.
        keepdims: Whether to keep them with size 1.

    Example:
        >>> ops.logsumexp(torch.tensor([1000.0, -torch.inf]))
        tensor(1000.)
    """
    return torch.logsumexp(x, tuple(range(x.ndim)) if axis is None else axis, keepdim=keepdims)


@operation
def top_k(x: TensorLike, k: int, sorted: bool = True) -> tuple[Tensor, Tensor]:
    """Returns the `k` largest values along the last axis, and their indices.

    Args:
        x: Tensor.
        k: Number of values.
        sorted: Whether the largest comes first.
    Returns: Values and indices.
    """
    values, indices = torch.topk(x, k, sorted=sorted)
    return values, indices


@operation
def in_top_k(targets: TensorLike, predictions: TensorLike, k: int) -> Tensor:
    """Returns whether each target is among the `k` classes with the largest predictions; ties count.

    Args:
        targets: Class numbers, (batch,).
        predictions: (batch, classes).
        k: Number of values.
    Returns: bool, (batch,).
    """
    of_target = predictions.take_along_dim(targets.long().unsqueeze(-1), -1)
    return (of_target >= predictions.topk(k).values).any(-1)


@operation
def segment_sum(
    data: TensorLike,
    segment_ids: TensorLike,
    num_segments: int | None = None,
    sorted: bool = False,  # noqa: ARG001
) -> Tensor:
    """Returns the sum of the rows of each segment.

    Args:
        data: (rows, ...).
        segment_ids: Segment of each row, (rows,); rows with ids out of range are ignored.
        num_segments: Number of segments; one more than the largest id if None, for which the host waits for the device.
        sorted: Whether the ids are sorted; has no effect.
    Returns: (num_segments, ...), 0 for empty segments.
    Raises: ValueError: if the shapes do not fit.

    Example:
        >>> ops.segment_sum(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 2, 0]))
        tensor([5., 0., 2.])
    """
    return _segments(data, segment_ids, num_segments, "sum")


@operation
def segment_max(
    data: TensorLike,
    segment_ids: TensorLike,
    num_segments: int | None = None,
    sorted: bool = False,  # noqa: ARG001
) -> Tensor:
    """Returns the maximum of the rows of each segment; the lowest value of the dtype for empty segments.

    Args:
        data: As in `segment_sum`.
        segment_ids: As in `segment_sum`.
        num_segments: As in `segment_sum`.
        sorted: As in `segment_sum`.
    """
    return _segments(data, segment_ids, num_segments, "amax")


@operation
def segment_min(
    data: TensorLike,
    segment_ids: TensorLike,
    num_segments: int | None = None,
    sorted: bool = False,  # noqa: ARG001
) -> Tensor:
    """Returns the minimum of the rows of each segment; the largest value of the dtype for empty segments.

    Args:
        data: As in `segment_sum`.
        segment_ids: As in `segment_sum`.
        num_segments: As in `segment_sum`.
        sorted: As in `segment_sum`.
    """
    return _segments(data, segment_ids, num_segments, "amin")


@operation
def segment_prod(
    data: TensorLike,
    segment_ids: TensorLike,
    num_segments: int | None = None,
    sorted: bool = False,  # noqa: ARG001
) -> Tensor:
    """Returns the product of the rows of each segment; 1 for empty segments.

    Args:
        data: As in `segment_sum`.
        segment_ids: As in `segment_sum`.
        num_segments: As in `segment_sum`.
        sorted: As in `segment_sum`.
    """
    return _segments(data, segment_ids, num_segments, "prod")


@operation
def cdist(x: TensorLike, y: TensorLike) -> Tensor:
    """Returns the Euclidean distances between the rows of `x` and those of `y`.

    Args:
        x: (..., rows, features).
        y: (..., other rows, features).
    Returns: (..., rows, other rows).
    Raises: ValueError: if a rank is under 2 or the features differ.
    """
    if x.ndim < 2 or y.ndim < 2 or x.shape[-1] != y.shape[-1]:
        raise ValueError(
            f"cdist: expected (..., rows, features) twice, with equal features; got {tuple(x.shape)} and {tuple(y.shape)}."
        )
    dtype = torch.promote_types(x.dtype, y.dtype)
    dtype = dtype if dtype.is_floating_point else as_dtype(None)
    return torch.cdist(x.to(dtype), y.to(dtype), compute_mode="donot_use_mm_for_euclid_dist")


@operation
def view_as_complex(x: TensorLike) -> Tensor:
    """Converts pairs (real, imaginary) along the last axis to complex numbers, without that axis.

    Raises: ValueError: if the size of the last axis is not 2.
    """
    if x.shape[-1:] != (2,):
        raise ValueError(
            f"view_as_complex: the last axis must hold real and imaginary part; got shape {tuple(x.shape)}."
        )
    x = x if x.dtype is torch.float64 else x.float()
    return torch.complex(x[..., 0], x[..., 1])


@operation
def view_as_real(x: TensorLike) -> Tensor:
    """Converts complex numbers to pairs (real, imaginary) along a new last axis."""
    return torch.view_as_real(x.resolve_conj())


def _segments(data: Tensor, segment_ids: Tensor, num_segments: int | None, reduction: str) -> Tensor:
    data, ids = data, segment_ids.long()
    if ids.ndim != 1 or ids.shape[0] != data.shape[0]:
        raise ValueError(
            f"segment_ids must have one id for each row of data; got shapes {tuple(ids.shape)} and {tuple(data.shape)}."
        )
    count = int(ids.max()) + 1 if num_segments is None else num_segments  # the host waits for the device
    ids = ids.where((ids >= 0) & (ids < count), count)  # to one more segment, which is dropped
    start = data.new_full((count + 1, *data.shape[1:]), _neutral(reduction, data.dtype))
    index = ids.reshape(-1, *[1] * (data.ndim - 1)).expand_as(data)
    return start.scatter_reduce(0, index, data, reduction)[:-1]


def _neutral(reduction: str, dtype: torch.dtype) -> float:
    if reduction in ("sum", "prod"):
        return 0 if reduction == "sum" else 1
    if dtype.is_floating_point:
        return -torch.inf if reduction == "amax" else torch.inf
    limits = torch.iinfo(dtype)
    return limits.min if reduction == "amax" else limits.max
