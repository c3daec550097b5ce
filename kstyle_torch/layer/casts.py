"""Casts in calls of layers: floating-point inputs to the compute dtype, and mixed precision."""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from kstyle_torch import tree

# Dtypes that layers with floating-point weights promote themselves.
INTEGERS = frozenset(getattr(torch, name) for name in "bool uint8 uint16 uint32 uint64 int8 int16 int32 int64".split())


class PreciseForward:
    """Replacement for `forward` that casts floating-point inputs to the compute dtype.

    With a mixed policy the layer runs under `torch.autocast`, which casts its float32 weights to the dtype of the inputs,
    and its outputs are cast too.

    Args:
        layer: The layer.
        compute_dtype: The dtype of floating-point inputs.
        mixed: Whether the weights have another dtype.
    """

    def __init__(self, layer: Any, compute_dtype: torch.dtype, mixed: bool):
        self.layer = layer
        self.dtype, self.mixed = compute_dtype, mixed

    @property
    def layer(self) -> Any:
        """The layer that this is an attribute of."""
        return self._layer()

    @layer.setter
    def layer(self, value: Any) -> None:
        self._layer: Callable[[], Any] = weakref.ref(value)

    def __getstate__(self) -> dict[str, Any]:
        return {"layer": self.layer, "dtype": self.dtype, "mixed": self.mixed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.layer, self.dtype, self.mixed = state["layer"], state["dtype"], state["mixed"]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        layer = self._layer()
        if vars(layer).get("forward") is self:
            return self.around(layer.call, args, kwargs)
        return self.around(functools.partial(type(layer).forward, layer), args, kwargs)  # a user's call holds it

    def around(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Calls `function(*args, **kwargs)` with the same casts."""
        if len(args) == 1 and not kwargs and isinstance(args[0], Tensor):
            args = (self._cast(args[0]),)
        else:
            args, kwargs = tree.map_structure(self._cast, (args, kwargs))
        if not self.mixed:
            return function(*args, **kwargs)
        device = next((leaf.device.type for leaf in tree.flatten(args) if isinstance(leaf, Tensor)), "cpu")
        with torch.autocast(device, dtype=self.dtype):
            outputs = function(*args, **kwargs)
        return tree.map_structure(self._cast, outputs)

    def _cast(self, leaf: Any) -> Any:
        return cast_float(leaf, self.dtype)


def cast_float(leaf: Any, dtype: torch.dtype) -> Any:
    """Casts a floating-point tensor and keeps its mask; returns integers, booleans and other objects unchanged."""
    if not isinstance(leaf, Tensor) or not leaf.is_floating_point() or leaf.dtype == dtype:
        return leaf
    cast: Any = leaf.to(dtype)
    if hasattr(leaf, "_keras_mask"):
        cast._keras_mask = leaf._keras_mask
    return cast


def cast_input(leaf: Any, dtype: torch.dtype) -> Any:
    """Casts like `cast_float`, except for tensors in the dtype of an enclosing `torch.autocast`."""
    if isinstance(leaf, Tensor) and leaf.device.type != "meta" and torch.is_autocast_enabled(leaf.device.type):
        if leaf.dtype == torch.get_autocast_dtype(leaf.device.type):
            return leaf
    return cast_float(leaf, dtype)


@contextlib.contextmanager
def uncached_casts(device_type: str) -> Iterator[None]:
    """Disables the weight cache of `torch.autocast` while an optimizer changes weights in place.

    Weights are then cast at every use; their gradients are the same. The cache is cleared at the start of the block, so that
    calls after it see the new weights.
    """
    if device_type == "meta" or not torch.is_autocast_enabled(device_type):
        yield
        return
    before = torch.is_autocast_cache_enabled()
    torch.clear_autocast_cache()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)


def dtype_of_weights(module: nn.Module) -> torch.dtype | None:
    """Returns the floating-point dtype of a module's parameters; None if there are none or several."""
    dtypes = {parameter.dtype for parameter in module.parameters() if parameter.is_floating_point()}
    return dtypes.pop() if len(dtypes) == 1 else None
