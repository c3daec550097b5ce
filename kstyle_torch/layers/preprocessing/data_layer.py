"""Conversion of data for preprocessing layers: arrays, lists, pandas, datasets, batches."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from kstyle_torch.layer.base import Layer
from kstyle_torch.symbolic.tensor import is_symbolic


class DataLayer(Layer):
    """A layer that is also called on raw data: lists, pandas Series and frames, besides arrays and tensors."""

    _allow_non_tensor_positional_args = True

    def _slow_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return super()._slow_call((as_array(args[0]), *args[1:]) if args else args, kwargs)

    def convert_weight(self, weight: Any) -> Any:
        """Returns a weight unchanged, since torch is the only backend."""
        return weight


class _Results(threading.local):
    """The place where layers on text leave their results in this thread."""

    on_host = False


_results = _Results()


@contextlib.contextmanager
def results_on_host() -> Iterator[None]:
    """Makes layers on text leave their results on the host, for batches that are carried to the device together."""
    before, _results.on_host = _results.on_host, True
    try:
        yield
    finally:
        _results.on_host = before


def place_of_results(layer: Any) -> torch.device:
    """Returns the device for the results of a layer on text: that of the weights around it."""
    return torch.device("cpu") if _results.on_host else layer.place.device


def as_array(data: Any) -> Any:
    """Returns `data` as an array; (symbolic) tensors unchanged."""
    if isinstance(data, Tensor) or is_symbolic(data):
        return data
    array = data.to_numpy() if hasattr(data, "to_numpy") else np.asarray(data)
    return np.require(array, requirements="W")  # pandas' arrays are read-only, for which torch warns


def batches_of(data: Any, steps: int | None = None, *, layer: Layer) -> Iterator[Any]:
    """Yields the arrays and tensors for `adapt`: `data` itself, or its batches without targets.

    Args:
        data: Array, tensor, list, pandas object, torch `Dataset` or `DataLoader`, or an iterable of batches.
        steps: Number of batches to use; all if None.
        layer: The layer, for messages.
    Raises: TypeError: for other objects. ValueError: without batches.
    """
    if is_one_array(data):
        yield as_array(data)
        return
    empty = True
    for batch in itertools.islice(_iterate(data, layer), steps):
        empty = False
        yield as_array(_inputs_of(batch, from_loader=isinstance(data, (DataLoader, Dataset))))
    if empty:
        raise ValueError(f"{layer.name}: adapt() got no batches; expected at least one.")


def is_one_array(data: Any) -> bool:
    """Returns whether `data` is a single array rather than a series of batches, such as a list of arrays."""
    if isinstance(data, (list, tuple)):
        first = data[0] if data else None
        while isinstance(first, (list, tuple)) and first:
            first = first[0]
        return not (isinstance(first, (Tensor, np.ndarray)) or hasattr(first, "to_numpy"))
    return isinstance(data, (Tensor, np.ndarray, np.generic, str, bytes, int, float)) or hasattr(data, "to_numpy")


def _iterate(data: Any, layer: Layer) -> Iterable[Any]:
    if isinstance(data, Dataset):
        return DataLoader(data, batch_size=256)
    if hasattr(data, "__iter__"):
        return data
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):  # a PyDataset, whose items are batches
        return (data[number] for number in range(len(data)))
    raise TypeError(
        f"{layer.name}: adapt() takes an array, a tensor, a list, a pandas object, a Dataset, a DataLoader or an "
        f"iterable of batches; got {type(data).__name__}."
    )


def _inputs_of(batch: Any, from_loader: bool) -> Any:
    """Returns the inputs of a batch that may be (inputs, targets, weights); a DataLoader converts tuples to lists."""
    if isinstance(batch, (tuple, list)) and batch and not isinstance(batch[0], (str, bytes, int, float)):
        if from_loader or isinstance(batch, tuple):
            return batch[0]
    return batch
