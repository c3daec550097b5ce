"""Small tensors side by side in one, so that a step is one call for all of them: on a CPU it costs calls, not numbers."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from kstyle_torch.optimizers.fused import descend, has_fused_sgd

SMALL = 4096  # numbers; of larger tensors, copies cost more than the calls that they save (measured: 2,048 to 8,192)

STRIDE = torch.Tensor.stride


def aligned(gradients: list[Tensor], parameters: list[Tensor], strides: list[Any]) -> list[Tensor]:
    """Gradients that lie in memory as their parameters do: the fused kernels look at nothing else.

    Raises: TypeError or RuntimeError: if one is None or sparse.
    """
    if [*map(STRIDE, gradients)] == strides:
        return gradients
    rows = zip(gradients, parameters, strict=True)
    return [g if g.stride() == p.stride() else torch.empty_like(p).copy_(g) for g, p in rows]


class Pack:
    """Which of some parameters are packed, and a piece of memory for their gradients and their steps.

    Lists come in two forms: one tensor a parameter; or "pieces", a packed tensor in front of those that are large.

    Args:
        parameters: All on one device and of one dtype.
        places: Which are packed.
        reads: Whether the optimizer reads the weights, and does not only add to them.
    """

    def __init__(self, parameters: list[Tensor], places: list[int], reads: bool):
        packed = set(places)
        self.small, self.large = places, [place for place in range(len(parameters)) if place not in packed]
        self.parameters = [parameters[place] for place in self.small]
        self.large_parameters = [parameters[place] for place in self.large]
        self.strides = [parameter.stride() for parameter in self.large_parameters]
        self.gradient, self.gradients = self.room()
        self.step, self.steps = self.room()  # or the weights, if they are read
        self.reads = reads
        self.fused = has_fused_sgd(parameters[0].device, parameters[0].dtype)

    def room(self) -> tuple[Tensor, list[Tensor]]:
        """Zeros for all that is packed, and the views of each parameter's share, which lie as the parameters do."""
        sizes = [parameter.numel() for parameter in self.parameters]
        whole = torch.zeros(sum(sizes), dtype=self.parameters[0].dtype, device=self.parameters[0].device)
        starts = itertools.accumulate(sizes, initial=0)
        rows = zip(self.parameters, starts, strict=False)  # there is one start more, the end
        return whole, [whole.as_strided(parameter.shape, parameter.stride(), start) for parameter, start in rows]

    def adopt(self, tensors: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Copies state into a piece of memory of its own. Returns: The tensors to be kept for it; the pieces."""
        whole, views = self.room()
        kept = list(tensors)
        for place, view in zip(self.small, views, strict=True):
            kept[place] = view.copy_(tensors[place])
        return kept, [whole, *(tensors[place] for place in self.large)]

    def gather(self, gradients: list[Tensor]) -> list[Tensor]:
        """The pieces of gradients, the packed ones copied.

        Raises: TypeError or RuntimeError: if one is None or sparse.
        """
        if not self.large:
            torch._foreach_copy_(self.gradients, gradients)
            return [self.gradient]
        torch._foreach_copy_(self.gradients, [gradients[place] for place in self.small])
        return [
            self.gradient,
            *aligned([gradients[place] for place in self.large], self.large_parameters, self.strides),
        ]

    def split(self, pieces: list[Tensor]) -> list[Tensor]:
        """What `gather` had been given, from pieces: the inverse."""
        whole, *large = pieces
        views = self.gradients
        if whole is not self.gradient:
            views = [whole.as_strided(view.shape, view.stride(), view.storage_offset()) for view in views]
        tensors = dict(zip((*self.small, *self.large), (*views, *large), strict=True))
        return [tensors[place] for place in range(len(tensors))]

    def begin(self) -> list[Tensor]:
        """The pieces that `update` is given for the parameters: zeros, where it only adds to them."""
        if self.reads:
            torch._foreach_copy_(self.steps, self.parameters)
        else:
            self.step.zero_()
        return [self.step, *self.large_parameters]

    def finish(self) -> None:
        """Brings what `update` has made of them to the parameters."""
        if self.reads:
            torch._foreach_copy_(self.parameters, self.steps)
        elif self.fused:
            descend(self.parameters, self.steps, -1.0)
        else:
            torch._foreach_add_(self.parameters, self.steps)
