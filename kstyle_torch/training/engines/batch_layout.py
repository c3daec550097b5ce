"""Layout of a batch, the key of recorded and compiled steps: its nest, and each tensor's shape, strides and dtype."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def layout_of(x: Any, y: Any, weight: Any, leaves: list[Tensor]) -> Any:
    """Returns the layout of a batch as a hashable key, and appends the batch's tensors to `leaves`.

    Returns: The key; None if the batch has sparse tensors or leaves that are not tensors.
    """
    try:
        if weight is None and type(x) is Tensor and type(y) is Tensor:  # the usual case, quickly
            leaves += (x, y)
            return x.shape, x.stride(), x.dtype, y.shape, y.stride(), y.dtype
        return _part(x, leaves), _part(y, leaves), _part(weight, leaves)
    except (RuntimeError, AttributeError):
        return None


def _part(part: Any, leaves: list[Tensor]) -> Any:
    """Raises: AttributeError: for what is neither a tensor nor a list, tuple or dict of them."""
    if isinstance(part, Tensor):
        leaves.append(part)
        return type(part), part.shape, part.stride(), part.dtype
    if part is None:
        return None
    if isinstance(part, dict):
        return tuple([(key, _part(value, leaves)) for key, value in part.items()])
    if not isinstance(part, (list, tuple)):
        raise AttributeError(f"a batch with a {type(part).__name__}")
    return type(part), *[_part(value, leaves) for value in part]
