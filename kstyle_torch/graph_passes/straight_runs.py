"""Replacement functions for the calls of layers in inner loops, chosen by the graph passes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from kstyle_torch.graph_passes.crop_inputs import crops
from kstyle_torch.graph_passes.relu_after_pool import relu_after_pooling
from kstyle_torch.symbolic.graph import Graph

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
