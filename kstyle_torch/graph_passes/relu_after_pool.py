"""Relus in front of max-pools, computed on the output of the pool, which is smaller."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from torch import Tensor

from kstyle_torch.graph_passes.relu import RELUS, is_relu, is_single_call, relu_
from kstyle_torch.layers.convolution import AnyConvolution
from kstyle_torch.layers.pooling import MaxPooling1D, MaxPooling2D, MaxPooling3D
from kstyle_torch.symbolic.graph import Graph

MAX_POOLS = (MaxPooling1D, MaxPooling2D, MaxPooling3D)


def relu_after_pooling(graph: Graph) -> dict[int, Callable[..., Any]]:
    """Maps module ids to functions to run instead: a relu in front of a max-pool is taken of its output, which is smaller.

    The largest of some numbers and 0 is the same either way, and so is the way of the gradient: where all are negative
    there is none.
    """
    calls = Counter(id(call.target) for call in graph.calls)
    makers = {ref: call for call in graph.calls for ref in call.writes()}
    reads = graph.count_reads()
    swapped: dict[int, Callable[..., Any]] = {}
    for call in graph.calls:
        maker = makers.get(call.args[0]) if type(call.target) in MAX_POOLS and is_single_call(call) else None
        if maker is None or not is_single_call(maker) or reads[call.args[0]] != 1:
            continue
        once = calls[id(maker.target)] == 1 == calls[id(call.target)]
        if once and _ends_in_relu(maker.target) and "forward" not in {*vars(maker.target), *vars(call.target)}:
            swapped[id(maker.target)] = _without_relu(maker.target)
            swapped[id(call.target)] = _then_relu(call.target, maker.target)
    return swapped


def _ends_in_relu(layer: Any) -> bool:
    convolves = isinstance(layer, AnyConvolution) and type(layer).forward is AnyConvolution.forward
    return (type(layer) in RELUS or convolves) and is_relu(layer)


def _without_relu(layer: Any) -> Callable[[Tensor], Any]:
    def run(x: Tensor) -> Any:
        if not is_relu(layer):  # it was replaced since
            return layer.forward(x)
        return x if type(layer) in RELUS else layer.convolve(x)

    return run


def _then_relu(pool: Any, layer: Any) -> Callable[[Tensor], Any]:
    def run(x: Tensor) -> Any:
        return pool.pool(x, relu_) if is_relu(layer) else pool.forward(x)

    return run
