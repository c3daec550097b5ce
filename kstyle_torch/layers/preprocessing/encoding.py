"""One-hot, multi-hot and count vectors of integers: the last step of layers with an `output_mode`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

OUTPUT_MODES = ("int", "one_hot", "multi_hot", "count")
OLDER_MODES = {"binary": "multi_hot", "tf-idf": "tf_idf"}


def check_output_mode(mode: str, layer: Any, allowed: tuple[str, ...] = OUTPUT_MODES) -> str:
    """Returns the output mode, with older names converted.

    Raises: ValueError: if it is none of `allowed`.
    """
    mode = OLDER_MODES.get(mode, mode)
    if mode not in allowed:
        raise ValueError(f"{type(layer).__name__}: output_mode must be one of {allowed}; got {mode!r}.")
    return mode


def refuse_sparse(sparse: bool, layer: Any) -> None:
    """Raises a ValueError for `sparse=True`, which Keras has on TensorFlow and JAX only."""
    if sparse:
        raise ValueError(f"{type(layer).__name__}: sparse=True is not supported; outputs are dense tensors.")


def encode(indices: Tensor, mode: str, depth: int, dtype: torch.dtype, weights: Tensor | None = None) -> Tensor:
    """Returns vectors of length `depth`; numbers outside of 0 to `depth - 1` are ignored.

    Args:
        indices: Integers of any shape.
        mode: One of `OUTPUT_MODES`. "one_hot" is a vector for each number (a last axis of size 1 is dropped); "multi_hot"
            and "count" are a vector for each sample, along axis 1 (axis 0 of a vector), as in Keras.
        depth: Length of the vectors.
        dtype: Of the output.
        weights: Weight of each number in mode "count", shaped like `indices`; 1 if None.
    """
    if mode == "int":
        return indices.to(dtype)
    if indices.ndim == 0:
        indices = indices.unsqueeze(0)
    if mode == "one_hot":
        if indices.ndim > 1 and indices.shape[-1] == 1:
            indices = indices.squeeze(-1)
        return (indices.unsqueeze(-1) == torch.arange(depth, device=indices.device)).to(dtype)
    axis = 1 if indices.ndim > 1 else 0
    places = torch.where((indices >= 0) & (indices < depth), indices, depth).movedim(axis, -1)
    bins = torch.zeros(*places.shape[:-1], depth + 1, dtype=dtype, device=indices.device)  # the last one is dropped
    if mode == "multi_hot":
        return bins.scatter(-1, places, 1)[..., :-1]
    amounts = torch.ones_like(places, dtype=dtype) if weights is None else weights.to(dtype).movedim(axis, -1)
    return bins.scatter_add(-1, places, amounts)[..., :-1]
