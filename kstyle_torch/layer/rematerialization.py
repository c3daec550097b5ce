"""Rematerialization: forward passes that are computed again in the backward pass, instead of keeping what they made."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils.checkpoint import checkpoint

from kstyle_torch import tree
from kstyle_torch.symbolic.tensor import SymbolicTensor, is_symbolic


def rematerialized(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function that keeps its arguments only, and computes `function` again for the gradients."""

    @functools.wraps(function)
    def again(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(function, *args, use_reentrant=False, **kwargs)

    return again


def rematerialized_call(
    layer: Any, mode: Any, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Callable[..., Any]:
    """Returns what to call in the place of a layer's `call`.

    Args:
        layer: The layer.
        mode: The settings of the `RematScope` that the layer was made in: `mode`, `output_size_threshold`, `layer_names`.
        call: The layer's `call`.
        args: The arguments it is called with, which decide how large its outputs are.
        kwargs: Likewise.
    """
    if mode.mode == "activations" and callable(getattr(layer, "activation", None)):
        return _with_activation_again(layer, call)
    wanted = (
        mode.mode == "full"
        or (mode.mode == "list_of_layers" and layer.name in mode.layer_names)
        or (mode.mode == "larger_than" and _output_size(layer, args, kwargs) > mode.output_size_threshold)
    )
    return rematerialized(call) if wanted else call


def _with_activation_again(layer: Any, call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    def with_activation_again(*args: Any, **kwargs: Any) -> Any:
        fields = vars(layer) if "activation" in vars(layer) else layer._modules
        activation = fields["activation"]
        fields["activation"] = rematerialized(activation)
        try:
            return call(*args, **kwargs)
        finally:
            fields["activation"] = activation

    return with_activation_again


def _output_size(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Returns how many elements the outputs have, without computing them on the arguments."""

    def symbol(leaf: Any) -> Any:
        return SymbolicTensor(tuple(leaf.shape), leaf.dtype) if isinstance(leaf, Tensor) else leaf

    args, kwargs = tree.map_structure(symbol, (args, kwargs))
    outputs = tree.flatten(layer.compute_output_spec(*args, **kwargs))
    return sum(math.prod(size or 1 for size in leaf.shape) for leaf in outputs if is_symbolic(leaf))
