"""Ways to the same numbers that cost less, for the inner loops; whoever looks at a layer sees its own output."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from kstyle_torch import activations
from kstyle_torch.graph_passes.crop_inputs import crops
from kstyle_torch.layers.activation import ReLU
from kstyle_torch.layers.batch_normalization import BatchNormalization
from kstyle_torch.layers.convolution import AnyConvolution
from kstyle_torch.layers.core import Activation
from kstyle_torch.layers.merging import Add
from kstyle_torch.layers.pooling import MaxPooling1D, MaxPooling2D, MaxPooling3D
from kstyle_torch.symbolic.graph import Call, Graph, Ref

MAX_POOLS = (MaxPooling1D, MaxPooling2D, MaxPooling3D)
RELUS = (Activation, ReLU)
FRESH = (Add, BatchNormalization)  # what they give is nobody else's, nor read in their backward passes
Runs = dict[int, Callable[..., Any] | None]  # module id -> what to run instead of its call; None for nothing


def straight_runs(graph: Graph, direct: Runs) -> Runs:
    """What to run where nobody sees the calls of modules.

    Args:
        direct: What does the same as the call of each.
    """
    return _with_crops(graph, {**direct, **relu_in_place(graph), **relu_after_pooling(graph)})


def eager_runs(graph: Graph) -> Runs:
    """What to run where they are seen, with the same numbers; empty if that is each module's own call."""
    return _with_crops(graph, {})


def _with_crops(graph: Graph, runs: Runs) -> Runs:
    for layer, crop in crops(graph):
        run = runs.get(id(layer)) or functools.partial(nn.Module.__call__, layer)
        runs[id(layer)] = _cropped(crop, run)
    return runs


def _cropped(crop: Callable[[Tensor], Tensor], run: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
    def run_on_part(x: Tensor) -> Any:
        return run(crop(x))

    return run_on_part


def relu_after_pooling(graph: Graph) -> dict[int, Callable[..., Any]]:
    """Module id -> what to run instead of its call: a relu in front of a max-pool is taken of its output, which is smaller.

    The largest of some numbers and 0 is the same either way, and so is the way of the gradient: where all are negative
    there is none.
    """
    calls = Counter(id(call.target) for call in graph.calls)
    makers = {ref: call for call in graph.calls for ref in call.writes()}
    reads = graph.count_reads()
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
    convolves = isinstance(layer, AnyConvolution) and type(layer).forward is AnyConvolution.forward
    return (type(layer) in RELUS or convolves) and _is_relu(layer)


def _is_relu(layer: Any) -> bool:
    """Whether a plain relu is what the layer does at its end; its attributes may be set at any time."""
    if type(layer) is ReLU:
        return layer.max_value is None and layer.negative_slope == 0 == layer.threshold
    return layer.activation is activations.relu


def _without_relu(layer: Any) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        if not _is_relu(layer):  # it was replaced since
            return layer.forward(x)
        return x if type(layer) in RELUS else layer.convolve(x)

    return run


def _then_relu(pool: Any, layer: Any) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        return pool.pool(x, _relu) if _is_relu(layer) else pool.forward(x)

    return run


def relu_in_place(graph: Graph) -> dict[int, Callable[..., Any]]:
    """Module id -> what to run instead of its call: a relu is computed where its input lies, if only it reads that."""
    makers = {ref: call for call in graph.calls for ref in call.writes()}
    reads = graph.count_reads()
    found: dict[int, Callable[..., Any]] = {}
    for call in graph.calls:
        layer: Any = call.target
        if type(layer) not in RELUS or not _is_plain(call) or reads[call.args[0]] != 1 or call.args[0] not in makers:
            continue
        maker: Any = makers[call.args[0]].target
        if type(maker) in FRESH and "forward" not in {*vars(maker), *vars(layer)}:
            found[id(layer)] = _in_place(layer)
    return found


def _in_place(layer: Any) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        return _relu(x) if _is_relu(layer) else layer.forward(x)

    return run


def _relu(y: Tensor) -> Tensor:
    """In place, unless autograd would then copy all that `y` is a view of."""
    return torch.relu(y) if y.requires_grad and y._is_view() else torch.relu_(y)
