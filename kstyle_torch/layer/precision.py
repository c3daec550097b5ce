"""Casts at the call of a layer: floating-point inputs in its compute dtype, mixed precision."""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from kstyle_torch import tree

# What layers with floating-point weights promote themselves.
INTEGERS = frozenset(getattr(torch, name) for name in "bool uint8 uint16 uint32 uint64 int8 int16 int32 int64".split())


class PreciseForward:
    """The `forward` of a layer whose inputs may have another dtype than it computes in: it casts the floating-point ones.

    With a mixed policy the layer runs under `torch.autocast`, so that its float32 weights meet inputs of fewer bits,
    and its outputs are cast too.

    Args:
        layer: The layer.
        compute_dtype: The dtype of floating-point inputs.
        mixed: Whether the weights are in another.
    """

    def __init__(self, layer: Any, compute_dtype: torch.dtype, mixed: bool):
        self.layer = layer
        self.dtype, self.mixed = compute_dtype, mixed

    @property
    def layer(self) -> Any:
        """The layer, whose attribute this is."""
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
        """Returns `function(*args, **kwargs)`, likewise."""
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
    """Returns a floating-point tensor in a dtype, with its mask; integers, booleans and other objects as they are."""
    if not isinstance(leaf, Tensor) or not leaf.is_floating_point() or leaf.dtype == dtype:
        return leaf
    cast: Any = leaf.to(dtype)
    if hasattr(leaf, "_keras_mask"):
        cast._keras_mask = leaf._keras_mask
    return cast


def cast_input(leaf: Any, dtype: torch.dtype) -> Any:
    """Returns what `cast_float` does, but leaves alone what a surrounding `torch.autocast` has made."""
    if isinstance(leaf, Tensor) and leaf.device.type != "meta" and torch.is_autocast_enabled(leaf.device.type):
        if leaf.dtype == torch.get_autocast_dtype(leaf.device.type):
            return leaf
    return cast_float(leaf, dtype)


@contextlib.contextmanager
def uncached_casts(device_type: str) -> Iterator[None]:
    """Keeps `torch.autocast` from holding copies of weights while an optimizer changes them in place.

    The copies are made anew at the next use, and their gradients reach the weights as usual. Copies from before the block
    are dropped, as those of the block are: a call behind it must see the new weights.
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
    """Returns the one floating-point dtype that a module's parameters have; None without any, or with several."""
    dtypes = {parameter.dtype for parameter in module.parameters() if parameter.is_floating_point()}
    return dtypes.pop() if len(dtypes) == 1 else None
