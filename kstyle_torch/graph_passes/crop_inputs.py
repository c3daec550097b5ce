"""Crops of inputs: rows and columns that later poolings or strides would drop are not computed.

A convolution of 13 rows yields 11, of which pooling by 2 uses 10; from 12 rows it yields these 10 at lower cost.
Pays on convnets: `benchmarks/ablation.py --workloads convnet`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from kstyle_torch import activations
from kstyle_torch.layer.base import Layer
from kstyle_torch.layer.call_pairs import has_other_call
from kstyle_torch.layers.activation import Activation, ReLU
from kstyle_torch.layers.convolution import AnyConvolution, Conv1D, Conv2D, Conv3D
from kstyle_torch.layers.pooling import (
    AveragePooling1D,
    AveragePooling2D,
    AveragePooling3D,
    MaxPooling1D,
    MaxPooling2D,
    MaxPooling3D,
    Pooling,
)
from kstyle_torch.layers.separable_convolution import DepthwiseConv1D, DepthwiseConv2D
from kstyle_torch.ownership import is_ours
from kstyle_torch.symbolic.graph import Call, Graph, Ref

WINDOWED = {
    AveragePooling1D, AveragePooling2D, AveragePooling3D, Conv1D, Conv2D, Conv3D, DepthwiseConv1D, DepthwiseConv2D,
    MaxPooling1D, MaxPooling2D, MaxPooling3D,
}  # fmt: skip
MIXES_CHANNELS = {activations.softmax, activations.log_softmax, activations.sparsemax, activations.glu}
LEAST = 0.05  # share of the first output; smaller savings do not pay for the copy of the cropped input


class Chain:
    """Sequence of layers, each of which computes every position from a window of the output of the one before.

    Args:
        layers: The layers; the first is a convolution.
    """

    def __init__(self, layers: list[Any]):
        self.axes = range(layers[0]._first_axis, layers[0]._first_axis + layers[0].rank)
        spatial = [layer for layer in layers if isinstance(layer, (AnyConvolution, Pooling))]
        self.windows = [[_window(layer, axis) for layer in spatial] for axis in range(layers[0].rank)]
        names = ("conv", "activation", "pool_size", "strides", "padding")
        self.facts = [(layer, name, getattr(layer, name)) for layer in layers for name in names if hasattr(layer, name)]

    def crop(self, x: Tensor) -> Tensor:
        """Returns the part of the input that the output of the last layer depends on."""
        sizes = [_needed(x.shape[axis], windows) for axis, windows in zip(self.axes, self.windows)]
        share = 1.0  # of the convolution's outputs
        for axis, size, ((span, step), *_) in zip(self.axes, sizes, self.windows):
            share *= ((size - span) // step + 1) / max((x.shape[axis] - span) // step + 1, 1)
        if share > 1 - LEAST or not all(getattr(layer, name) is value for layer, name, value in self.facts):
            return x
        for axis, size in zip(self.axes, sizes):
            x = x.narrow(axis, 0, size)
        return x


def _window(layer: Any, axis: int) -> tuple[int, int]:
    """Returns the extent of a window along an axis, and its step."""
    if isinstance(layer, Pooling):
        return layer.pool_size[axis], layer.strides[axis]
    return (layer.kernel_size[axis] - 1) * layer.dilation_rate[axis] + 1, layer.strides[axis]


def _needed(size: int, windows: list[tuple[int, int]]) -> int:
    """Returns the least input size with the same size of the final output."""
    count = size
    for span, step in windows:
        count = (count - span) // step + 1
    if count < 1:
        return size  # the input is too small, and the layer raises an error
    for span, step in reversed(windows):
        count = (count - 1) * step + span
    return count


def crops(graph: Graph) -> list[tuple[Any, Callable[[Tensor], Tensor]]]:
    """Returns the convolutions that begin a chain, each with the function that crops its input."""
    calls = Counter(id(call.target) for call in graph.calls)
    reads = graph.count_reads()
    readers = {ref: call for call in graph.calls for ref in call.reads()}
    found: list[tuple[Any, Callable[[Tensor], Tensor]]] = []
    inside: set[int] = set()
    for call in graph.calls:
        first: Any = call.target
        if id(call) in inside or type(first) not in (Conv1D, Conv2D, Conv3D) or first.groups > 1:
            continue  # other layers are too cheap to pay for the copy
        chain: list[Any] = []
        following: Call | None = call
        while following is not None and calls[id(following.target)] == 1 and _passes(following, first):
            chain.append(following.target)
            inside.add(id(following))
            following = readers.get(following.outputs) if reads[following.outputs] == 1 else None
        if any(max(getattr(layer, "strides", (1,))) > 1 for layer in chain):
            found.append((first, Chain(chain).crop))
    return found


def _passes(call: Call, first: Any) -> bool:
    """Returns whether a call computes every position from a window of its single input, without padding."""
    layer: Any = call.target
    if len(call.args) != 1 or not isinstance(call.args[0], Ref) or call.kwargs or call.tags:
        return False
    if not isinstance(layer, nn.Module) or "forward" in vars(layer) or getattr(layer, "_changes_op", False):
        return False
    if isinstance(layer, Layer) and has_other_call(layer):
        return False
    if type(layer) in (Activation, ReLU):
        return _is_elementwise(getattr(layer, "activation", activations.relu))
    if type(layer) not in WINDOWED or layer.padding != "valid":
        return False
    if (layer.rank, layer._permutes) != (first.rank, first._permutes):
        return False
    if isinstance(layer, Pooling):
        return True
    own: Any = layer.native_class  # users may have replaced it by a module that does anything
    return type(layer.conv) is own and _is_elementwise(layer.activation)


def _is_elementwise(activation: Any) -> bool:
    ours = getattr(activation, "__module__", None) == activations.__name__
    return ours and is_ours(activation) and activation not in MIXES_CHANNELS
