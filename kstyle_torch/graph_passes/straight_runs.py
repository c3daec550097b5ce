"""Replacement functions for the calls of layers in inner loops, chosen by the graph passes."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kstyle_torch.graph_passes.crop_inputs import crops
from kstyle_torch.graph_passes.relu_after_pool import relu_after_pooling
from kstyle_torch.symbolic.graph import Graph

# Functions of torch that straight runs skip, replace or reorder.
_of_functional = operator.itemgetter(
    *("linear", "conv1d", "conv2d", "conv3d", "relu", "relu_", "max_pool1d", "max_pool2d", "max_pool3d")
)
_of_torch = operator.itemgetter("relu", "relu_", "max_pool1d", "max_pool2d", "max_pool3d", "lstm")


def _functions() -> tuple[Any, ...]:
    return _of_functional(vars(F)), _of_torch(vars(torch))


_ORIGINAL = _functions()


def is_replaced() -> bool:
    """Returns whether a user has replaced a function of torch that straight runs take for granted."""
    return _functions() != _ORIGINAL


Runs = dict[int, Callable[..., Any] | None]  # module id -> replacement for its call; None to skip the call


def straight_runs(graph: Graph, direct: Runs) -> Runs:
    """Returns replacements for the calls of modules, for inner loops without hooks.

    Args:
        graph: The calls.
        direct: Module id -> a function that equals its call without hooks.
    """
    return _with_crops(graph, {**direct, **relu_after_pooling(graph)})


def eager_runs(graph: Graph) -> Runs:
    """Returns replacements that still call every module, so that hooks run; empty if there is nothing to replace."""
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
