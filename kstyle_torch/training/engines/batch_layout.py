"""Layout of a batch, as recorded and compiled steps rely on it: its nest, and shape, strides and dtype of each tensor."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def layout_of(x: Any, y: Any, weight: Any, leaves: list[Tensor]) -> Any:
    """Returns the layout of a batch, to be compared and looked up by; its tensors are added to `leaves`.

    Returns: None for a batch that has none: of sparse tensors, or of something else than tensors.
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
