"""Relu and max-pool swapped: the relu is computed on the output of the pool, which is smaller.

Pays on convnets: `benchmarks/ablation.py --workloads convnet`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kstyle_torch import activations
from kstyle_torch._torch import is_view
from kstyle_torch.layer.call_pairs import has_other_call
from kstyle_torch.layers.activation import Activation, ReLU
from kstyle_torch.layers.convolution import AnyConvolution
from kstyle_torch.layers.pooling import MaxPooling1D, MaxPooling2D, MaxPooling3D
from kstyle_torch.symbolic.graph import Call, Graph, Ref

RELUS = (Activation, ReLU)
MAX_POOLS = (MaxPooling1D, MaxPooling2D, MaxPooling3D)


def relu_after_pooling(graph: Graph) -> dict[int, Callable[..., Any]]:
    """Maps module ids to replacement functions that move a relu from the input of a max-pool to its output.

    `relu(max(x))` equals `max(relu(x))`, and the gradients are equal too: zero if all of a window is negative.
    """
    calls = Counter(id(call.target) for call in graph.calls)
    makers = {ref: call for call in graph.calls for ref in call.writes()}
    reads = graph.count_reads()
    swapped: dict[int, Callable[..., Any]] = {}
    for call in graph.calls:
        maker = makers.get(call.args[0]) if type(call.target) in MAX_POOLS and _is_single_call(call) else None
        if maker is None or not _is_single_call(maker) or reads[call.args[0]] != 1:
            continue
        once = calls[id(maker.target)] == 1 == calls[id(call.target)]
        if once and _ends_in_relu(maker.target) and _is_as_made(maker.target) and _is_as_made(call.target):
            swapped[id(maker.target)] = _without_relu(maker.target)
            swapped[id(call.target)] = _then_relu(call.target, maker.target)
    return swapped


def _is_as_made(layer: Any) -> bool:
    return "forward" not in vars(layer) and not has_other_call(layer)


def _ends_in_relu(layer: Any) -> bool:
    convolves = isinstance(layer, AnyConvolution) and type(layer)._own_call is AnyConvolution._own_call
    return (type(layer) in RELUS or convolves) and _is_relu(layer)


def _without_relu(layer: Any) -> Callable[[Tensor], Any]:
    def run(x: Tensor) -> Any:
        if not _is_relu(layer):  # the activation was replaced later
            return layer.forward(x)
        return x if type(layer) in RELUS else layer.convolve(x)

    return run


def _then_relu(pool: Any, layer: Any) -> Callable[[Tensor], Any]:
    def run(x: Tensor) -> Any:
        return pool.pool(x, _relu) if _is_relu(layer) else pool.forward(x)

    return run


def _is_single_call(call: Call) -> bool:
    """Returns whether a call has a single tensor as its only argument."""
    return len(call.args) == 1 and isinstance(call.args[0], Ref) and not call.kwargs and not call.tags


def _is_relu(layer: Any) -> bool:
    """Returns whether the layer ends in a plain relu; checked at each call, since attributes may be set at any time."""
    if type(layer) is ReLU:
        return layer.max_value is None and layer.negative_slope == 0 == layer.threshold
    return layer.activation is activations.relu


def _relu(y: Tensor) -> Tensor:
    """Computes a relu in place, unless autograd would then copy the base of the view `y`."""
    return torch.relu(y) if y.requires_grad and is_view(y) else torch.relu_(y)
