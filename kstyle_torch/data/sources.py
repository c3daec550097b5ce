"""Conversion of the user's x to the batches of an epoch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import data as torch_data

from kstyle_torch import config, tree
from kstyle_torch.data.arrays import check_lengths, is_array, num_samples, to_tensors
from kstyle_torch.data.batches import ArrayBatches, Batch, Batches
from kstyle_torch.data.labelled import Naming
from kstyle_torch.data.split import unpack
from kstyle_torch.data.stream import StreamBatches
from kstyle_torch.errors import WrongTypeError


def make_batches(
    x: Any,
    y: Any,
    sample_weight: Any,
    *,
    batch_size: int | None,
    shuffle: Any,
    device: torch.device,
    steps: int | None = None,
    restarts: bool = False,
    weigh: Callable[..., Any] | None = None,
    prepare: Callable[[Any, Any, Any], Batch] | None = None,
    floats: torch.dtype | None = None,
    without_text: Callable[..., Any] | None = None,
    naming: Naming | None = None,
) -> Batches:
    """Returns batches for any kind of data.

    Args:
        x: Arrays, or an iterable of batches.
        y: Targets; None if x contains them.
        sample_weight: Weights; None if x contains them.
        batch_size: Rows in a batch of arrays; if None, 32, or the number that results in `steps` batches.
        shuffle: See `ArrayBatches`.
        device: Device of the batches.
        steps: Number of batches in an epoch.
        restarts: Whether each epoch begins with the first batch even if `steps` is given.
        weigh: Computes sample weights from targets and weights.
        prepare: Checks and converts x, y and weights of arrays, once.
        floats: The dtype of floating-point data; `config.floatx()` if None.
        without_text: Converts text in x, of arrays or of a batch, to numbers.
        naming: Splits batches that are dicts into inputs and targets; None if they are inputs.
    Raises: ValueError: for unusable data, or contradictory arguments.
    """
    check_steps(steps)
    if is_iterable_data(x):
        _check_alone(x, y, sample_weight)
        arrays = _tensors_of(x)
        if arrays is None:
            source = _loader(x, batch_size, shuffle)
            steps, restarts = _limited(steps, source, restarts)
            return StreamBatches(source, device, steps, restarts, shuffle, weigh, floats, without_text, naming)
        x, y, sample_weight = arrays
    if without_text is not None and x is not None:
        x = without_text(x, lazily=True)
    x, y, sample_weight = as_arrays(x, y, sample_weight, floats)
    if weigh is not None:
        sample_weight = weigh(y, sample_weight)
    if prepare is not None:
        x, y, sample_weight = prepare(x, y, sample_weight)
    if batch_size is None and steps is not None:
        batch_size = -(-num_samples(x) // steps)
    steps, restarts = _limited(steps, range(0, num_samples(x), checked_batch_size(batch_size)), restarts)
    return ArrayBatches((x, y, sample_weight), checked_batch_size(batch_size), shuffle, device, steps, restarts)


def _limited(steps: int | None, source: Any, restarts: bool) -> tuple[int | None, bool]:
    """Returns the number of batches of an epoch under `config.max_steps_per_epoch`, and whether each begins with the first.

    The number is the caller's if that is smaller, and None if the data ends earlier.
    """
    limit = config.max_steps_per_epoch()
    if limit is None:
        return steps, restarts
    wanted = steps
    if wanted is None:
        with contextlib.suppress(TypeError):  # from loaders of an IterableDataset
            wanted = len(source)
    if wanted is not None and wanted <= limit:
        return steps, restarts
    return config.limited(wanted, limit, "steps_per_epoch"), restarts or steps is None


def as_arrays(x: Any, y: Any = None, sample_weight: Any = None, floats: torch.dtype | None = None) -> Batch:
    """Returns all three as tensors on the host, with equal numbers of rows.

    Raises: ValueError: if they cannot be converted, or the numbers differ.
    """
    if x is None:
        raise ValueError("x is None; pass data.")
    x = to_tensors(x, "x", floats)
    num_samples(x, "x")
    if y is None and sample_weight is None:
        return x, None, None
    if isinstance(y, tuple):
        y = list(y)
    y, sample_weight = to_tensors(y, "y", floats), to_tensors(sample_weight, "sample_weight", floats)
    check_lengths(x=x, y=y, sample_weight=sample_weight)
    _check_one_weight(y, sample_weight)
    return x, y, sample_weight


def _check_one_weight(y: Any, sample_weight: Any) -> None:
    """Raises a ValueError for a single array of weights for several outputs, unless it is one number per sample."""
    if (
        tree.is_nested(y)
        and len(tree.flatten(y)) > 1
        and sample_weight is not None
        and not tree.is_nested(sample_weight)
    ):
        if len(sample_weight.shape) > 1 and tuple(sample_weight.shape[1:]) != (1,):
            raise ValueError(
                f"sample_weight has shape {tuple(sample_weight.shape)}, but one array for several outputs must hold one "
                "number per sample, (samples,); otherwise pass a list or dict with an array for each output."
            )


def is_iterable_data(x: Any) -> bool:
    """Returns whether x yields batches or items, rather than being an array or a nest of arrays."""
    if isinstance(x, (torch_data.Dataset, torch_data.DataLoader)):
        return True
    if isinstance(x, (list, tuple, dict, str, bytes)) or is_array(x):
        return False
    return isinstance(x, Iterable) or (hasattr(x, "__getitem__") and hasattr(x, "__len__"))


def is_one_batch(x: Any, batch_size: int | None) -> bool:
    """Returns whether x is an array or tensor that fits into one batch."""
    return type(x) in (np.ndarray, Tensor) and x.ndim > 0 and 0 < x.shape[0] <= checked_batch_size(batch_size)


def checked_batch_size(batch_size: int | None) -> int:
    """Returns the batch size, 32 if None.

    Raises: ValueError: if it is not a positive integer.
    """
    if batch_size is None:
        return 32
    is_int = not isinstance(batch_size, bool) and hasattr(batch_size, "__index__")
    if not is_int or int(batch_size) <= 0:
        raise (ValueError if is_int else WrongTypeError)(f"batch_size must be a positive int; got {batch_size!r}.")
    return int(batch_size)


def check_steps(steps: Any) -> None:
    """Raises a ValueError unless it is None or a positive integer."""
    if steps is not None and (not hasattr(steps, "__index__") or isinstance(steps, bool) or int(steps) <= 0):
        raise ValueError(f"The number of steps of an epoch must be a positive int or None; got {steps!r}.")


def check_own_batches(x: Any, batch_size: int | None, what: str = "batch_size") -> None:
    """Raises a ValueError for a batch size with a DataLoader, which has its own."""
    if batch_size is not None and isinstance(x, torch_data.DataLoader) and x.batch_size != batch_size:
        raise ValueError(
            f"{what}={batch_size!r} was given, but the data is a DataLoader, which makes batches of "
            f"{x.batch_size} itself; set it there, or pass the Dataset instead."
        )


def _check_alone(x: Any, y: Any, sample_weight: Any) -> None:
    for name, value in (("y", y), ("sample_weight", sample_weight)):
        if value is not None:
            raise ValueError(f"{name} must not be given when x is a {type(x).__name__}, whose batches contain it.")


def _tensors_of(x: Any) -> Batch | None:
    """Returns the tensors of a TensorDataset, which needs no loader; None for other data."""
    return unpack(x.tensors) if type(x) is torch_data.TensorDataset else None


def _loader(x: Any, batch_size: int | None, shuffle: Any) -> Iterable[Any]:
    if isinstance(x, torch_data.DataLoader) or not isinstance(x, torch_data.Dataset):
        return x
    shuffled = bool(shuffle) and not isinstance(x, torch_data.IterableDataset)
    return torch_data.DataLoader(x, batch_size=checked_batch_size(batch_size), shuffle=shuffled)
