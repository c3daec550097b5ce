"""Orders of calls that cost less and give the same bits, for the inner loops; whoever looks at a layer sees its own output."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kstyle_torch import activations, tree
from kstyle_torch.layers.convolution import AnyConvolution
from kstyle_torch.layers.core import Activation
from kstyle_torch.layers.pooling import MaxPooling1D, MaxPooling2D, MaxPooling3D
from kstyle_torch.symbolic.graph import Call, Graph, Ref

MAX_POOLS = (MaxPooling1D, MaxPooling2D, MaxPooling3D)


def relu_after_pooling(graph: Graph) -> dict[int, Callable[..., Any]]:
    """Module id -> what to run instead of its call: a relu in front of a max-pool is taken of its output, which is smaller.

    The largest of some numbers and 0 is the same either way, and so is the way of the gradient: where all are negative
    there is none.
    """
    calls = Counter(id(call.target) for call in graph.calls)
    makers = {ref: call for call in graph.calls for ref in call.writes()}
    reads = Counter(ref for call in graph.calls for ref in call.reads())
    reads.update(leaf for leaf in tree.flatten((graph.outputs, graph.masks)) if isinstance(leaf, Ref))
    swapped: dict[int, Callable[..., Any]] = {}
    for call in graph.calls:
        maker = makers.get(call.args[0]) if type(call.target) in MAX_POOLS and _is_plain(call) else None
        if maker is None or not _is_plain(maker) or reads[call.args[0]] != 1:
            continue
        once = calls[id(maker.target)] == 1 == calls[id(call.target)]
        if once and _ends_in_relu(maker.target) and "forward" not in {*vars(maker.target), *vars(call.target)}:
            swapped[id(maker.target)] = _without_relu(maker.target)
            swapped[id(call.target)] = _then_relu(call.target, maker.target)
    return swapped


def _is_plain(call: Call) -> bool:
    return len(call.args) == 1 and isinstance(call.args[0], Ref) and not call.kwargs and not call.tags


def _ends_in_relu(layer: Any) -> bool:
    ours = type(layer) is Activation or (
        isinstance(layer, AnyConvolution) and type(layer).forward is AnyConvolution.forward
    )
    return ours and layer.activation is activations.relu


def _without_relu(layer: Any) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        if layer.activation is not activations.relu:  # it was replaced since
            return layer.forward(x)
        return x if type(layer) is Activation else layer.convolve(x)

    return run


def _then_relu(pool: Any, layer: Any) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        y = pool.forward(x)
        return torch.relu(y) if layer.activation is activations.relu else y

    return run
