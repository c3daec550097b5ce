"""Functions that give the numbers of the layers' calls at less cost, for inner loops without hooks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from kstyle_torch.graph_passes.crop_inputs import crops
from kstyle_torch.graph_passes.relu_after_pool import relu_after_pooling
from kstyle_torch.symbolic.graph import Graph

Runs = dict[int, Callable[..., Any] | None]  # module id -> what to run instead of its call; None for nothing


def straight_runs(graph: Graph, direct: Runs) -> Runs:
    """Returns functions to run instead of the calls of modules, where no hook sees these.

    Args:
        graph: The calls.
        direct: Functions that do the same as the call of each module, by its id.
    """
    return _with_crops(graph, {**direct, **relu_after_pooling(graph)})


def eager_runs(graph: Graph) -> Runs:
    """Returns what to run where they are seen, with the same numbers; empty if that is each module's own call."""
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
