"""Layers and functions that are computed again in the backward pass, instead of keeping what they computed.

They run again in the mode, and from the seeds, of the first time; statistics and losses change the first time only.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import math
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from kstyle_torch import tree
from kstyle_torch._torch import is_compiling
from kstyle_torch.layer.module_walk import set_unnoticed
from kstyle_torch.layer.shapes import as_leaves
from kstyle_torch.mode import holding, running
from kstyle_torch.scopes import RematMode
from kstyle_torch.symbolic.infer import own_buffers, seed_states
from kstyle_torch.symbolic.tensor import any_symbolic


def remat(f: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function that computes `f` again in the backward pass, and keeps its arguments only until then.

    Args:
        f: A function of tensors, a method of a layer, or a layer or module.

    Example:
        >>> x = torch.ones(2, requires_grad=True)
        >>> remat(lambda x: (x * 3).tanh())(x).sum().backward()
        >>> x.grad.shape
        torch.Size([2])
    """
    owner = f if isinstance(f, nn.Module) else getattr(f, "__self__", None)
    layer = owner if isinstance(owner, nn.Module) else None

    @functools.wraps(f, updated=())
    def again(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled() or any_symbolic(args, kwargs):
            return f(*args, **kwargs)
        return recomputed(layer, f, args, kwargs)

    return again


def rematerialized_call(
    layer: Any, mode: RematMode, call: Callable[..., Any], args: tuple[Any, ...]
) -> Callable[..., Any]:
    """Returns the function to call in place of a layer's `call`, where the layer was made in a `RematScope`.

    Args:
        layer: The layer.
        mode: The scope's arguments.
        call: The layer's `call`.
        args: The arguments it is called with, which decide how large its outputs are.
    """
    forward = RecomputingForward(layer, mode, None)
    if mode.mode == "activations":
        forward.recompute_activation(layer)
        return call
    return remat(call) if forward.is_wanted(layer, args) else call


def recomputed(layer: Any, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Returns the call of a function, which is called again for the gradients.

    Args:
        layer: The layer or module whose state the call may read and change; None if there is none.
        call: The function.
        args: Its arguments.
        kwargs: Its keyword arguments.
    """
    mode = running.mode, running.default, running.inside
    training = layer._mode_of_call(kwargs.get("training")) if hasattr(layer, "_mode_of_call") else None
    seeds = [] if layer is None else [(state, state.value) for state in seed_states(layer)]
    buffers = [] if layer is None else [(module, key, buffer.clone()) for module, key, buffer in own_buffers(layer)]

    def contexts() -> Any:
        return contextlib.nullcontext(), _second_time(layer, mode, training, seeds, buffers)

    return checkpoint(call, *args, use_reentrant=False, context_fn=contexts, **kwargs)


@contextlib.contextmanager
def _second_time(
    layer: Any, mode: tuple[Any, Any, bool], training: bool | None, seeds: list[Any], buffers: list[Any]
) -> Iterator[None]:
    """Runs the block from the state of the first call, and restores the current state after it.

    Buffers are exchanged, not overwritten: other parts of the graph may have to read those of now.
    """
    before = running.mode, running.default, running.inside
    seeds_now = [(state, state.value) for state, _ in seeds]
    buffers_now = [(module, key, module._buffers[key]) for module, key, _ in buffers]
    losses = [] if layer is None else [(each, [*each._losses]) for each in layer.modules() if hasattr(each, "_losses")]
    held = contextlib.nullcontext() if layer is None or training is None else holding(layer, training)
    running.mode, running.default, running.inside = mode
    for state, value in seeds:
        state.assign(value)
    for module, key, value in buffers:
        module._buffers[key] = value.clone()
    try:
        with held:
            yield
    finally:
        running.mode, running.default, running.inside = before
        for state, value in seeds_now:
            state.assign(value)
        for module, key, buffer in buffers_now:
            module._buffers[key] = buffer
        for each, kept in losses:
            each._losses[:] = kept


class RecomputingForward:
    """The `forward` of a layer that was made in a `RematScope`.

    Args:
        layer: The layer.
        mode: The scope's arguments.
        inner: The `forward` that the layer would have: one that casts its inputs; None for that of the class.
    """

    def __init__(self, layer: Any, mode: RematMode, inner: Any):
        self.mode, self.inner = mode, inner
        self.layer = layer
        self._sizes: dict[Any, int] = {}

    @property
    def layer(self) -> Any:
        """The layer, whose attribute this is."""
        return self._layer()

    @layer.setter
    def layer(self, value: Any) -> None:
        self._layer: Callable[[], Any] = weakref.ref(value)
        if self.inner is not None and self.inner.layer is not value:
            self.inner = copy.copy(self.inner)
            self.inner.layer = value

    def __getstate__(self) -> dict[str, Any]:
        return {"layer": self.layer, "mode": self.mode, "inner": self.inner}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        layer = self._layer()
        if self.mode.mode == "activations":
            self.recompute_activation(layer)
        elif torch.is_grad_enabled() and not is_compiling() and self.is_wanted(layer, args):
            return recomputed(layer, self._call, args, kwargs)
        return self._call(*args, **kwargs)

    def _call(self, *args: Any, **kwargs: Any) -> Any:
        layer = self._layer()
        return type(layer).forward(layer, *args, **kwargs) if self.inner is None else self.inner(*args, **kwargs)

    def around(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Returns the call `function(layer, *args, **kwargs)` with the casts of the layer."""
        return (
            function(self._layer(), *args, **kwargs)
            if self.inner is None
            else self.inner.around(function, args, kwargs)
        )

    def is_wanted(self, layer: Any, args: tuple[Any, ...]) -> bool:
        """Returns whether the scope wants the call of the layer to be computed again."""
        mode = self.mode
        if mode.mode == "list_of_layers":
            return layer.name in mode.layer_names
        return mode.mode == "full" or self._output_size(layer, args) > mode.output_size_threshold

    def _output_size(self, layer: Any, args: tuple[Any, ...]) -> int:
        """Returns the number of elements of the outputs, from the shape of the input; 0 if it cannot be inferred."""
        shape = tuple(args[0].shape) if args and isinstance(args[0], Tensor) else None
        if shape not in self._sizes:
            self._sizes[shape] = 0  # for the run in which the shape is inferred
            if shape is not None:
                with torch.no_grad():
                    leaves = tree.flatten(as_leaves(layer.compute_output_shape((None, *shape[1:]))))
                self._sizes[shape] = shape[0] * sum(math.prod(size or 1 for size in leaf.sizes) for leaf in leaves)
        return self._sizes[shape]

    @staticmethod
    def recompute_activation(layer: Any) -> None:
        """Recomputes the layer's activation function in the backward pass, from the first call on."""
        activation = vars(layer).get("activation")
        if callable(activation) and not hasattr(activation, "__wrapped__"):
            set_unnoticed(layer, activation=remat(activation))
