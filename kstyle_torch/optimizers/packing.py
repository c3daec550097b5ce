"""Packing of small tensors into one, since the cost of a step, and of a compiled loop, is per tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kstyle_torch._torch import foreach_add_, foreach_copy_
from kstyle_torch.optimizers.fused import descend, has_fused_sgd

SMALL = 4096  # numbers; copies of larger tensors cost more than the calls that they save (measured: 2,048 to 8,192)
SMALL_IN_LOOPS = 2**14  # in compiled loops, each tensor that is carried costs more

STRIDE = torch.Tensor.stride


class Packing:
    """Arrangement of small tensors in packs: those of a dtype are concatenated.

    Args:
        tensors: Tensors of the shapes to pack; dense, without overlaps.
        together: The indices of those to pack.
    """

    def __init__(self, tensors: Sequence[Tensor], together: Sequence[int]):
        self.device = tensors[0].device if tensors else None
        self.shapes = [tensor.shape for tensor in tensors]
        self.dtypes = [tensor.dtype for tensor in tensors]
        self.orders = [_order(tensor) for tensor in tensors]
        packs: dict[torch.dtype, list[int]] = {}
        for place in together:
            packs.setdefault(tensors[place].dtype, []).append(place)
        self.packs = [*packs.values()]
        self.alone = sorted({*range(len(tensors))}.difference(together))
        self.size = len(self.packs) + len(self.alone)

    @classmethod
    def of_small(cls, tensors: Sequence[Tensor], small: int = SMALL_IN_LOOPS) -> Packing:
        """Returns the packing of all tensors with fewer numbers than `small`."""
        return cls(tensors, [place for place, tensor in enumerate(tensors) if tensor.numel() < small])

    def forms(self) -> list[tuple[Sequence[int], torch.dtype]]:
        """Returns shape and dtype of each piece."""
        packs = [((sum(self.shapes[place].numel() for place in pack),), self.dtypes[pack[0]]) for pack in self.packs]
        return [*packs, *((self.shapes[place], self.dtypes[place]) for place in self.alone)]

    def packed(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Returns the packs, one-dimensional, followed by the tensors that are not packed."""
        packs = [torch.cat([self._flat(tensors[place], place) for place in pack]) for pack in self.packs]
        return packs + [tensors[place] for place in self.alone]

    def unpacked(self, pieces: Sequence[Tensor]) -> list[Tensor]:
        """Returns the tensors; those of a pack are views of it."""
        views = [view for pack, piece in zip(self.packs, pieces, strict=False) for view in self.views(piece, pack)]
        return self.in_order([*views, *pieces[len(self.packs) :]])

    def views(self, piece: Tensor, pack: list[int]) -> list[Tensor]:
        """Returns each tensor's share of a pack, with the tensor's shape and strides."""
        parts = piece.split([self.shapes[place].numel() for place in pack])
        return [self._shaped(part, place) for part, place in zip(parts, pack, strict=True)]

    def in_order(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Returns tensors in the order of their places, from the order of the packs and of those alone."""
        places = [*(place for pack in self.packs for place in pack), *self.alone]
        found = dict(zip(places, tensors, strict=True))
        return [found[place] for place in range(len(places))]

    def flags(self, each: list[bool]) -> list[bool | Tensor]:
        """Returns a flag for each piece: a bool if it is equal for all tensors in it, else a tensor of flags."""
        return [*(self._flag(pack, each) for pack in self.packs), *(each[place] for place in self.alone)]

    def _flag(self, pack: list[int], each: list[bool]) -> bool | Tensor:
        if len({each[place] for place in pack}) == 1:
            return each[pack[0]]
        rows = [(self.shapes[place].numel(), float(each[place])) for place in pack]
        return torch.cat([torch.full((size,), value, device=self.device) for size, value in rows])

    def _flat(self, tensor: Tensor, place: int) -> Tensor:
        return tensor.permute(self.orders[place]).reshape(-1)

    def _shaped(self, part: Tensor, place: int) -> Tensor:
        order = self.orders[place]
        back = [order.index(dim) for dim in range(len(order))]
        return part.view([self.shapes[place][dim] for dim in order]).permute(back)


def _order(tensor: Tensor) -> list[int]:
    """Returns the axes in memory order, outermost first; of axes with equal strides, those of size one are inner."""
    strides = tensor.stride()
    return sorted(range(tensor.ndim), key=lambda dim: (-strides[dim], tensor.shape[dim] == 1))


class Pack:
    """Buffers for gradients and updates of parameters, the small ones packed, so that a step makes few calls.

    Lists have two forms: one tensor for each parameter; or "pieces", a packed tensor followed by the large ones.

    Args:
        parameters: Parameters on one device and of one dtype.
        places: The indices of those to pack.
        reads: Whether the optimizer reads the weights rather than only adding to them.
    """

    def __init__(self, parameters: list[Tensor], places: list[int], reads: bool):
        self.packing = Packing(parameters, places)
        self.small, self.large = places, self.packing.alone
        self.parameters = [parameters[place] for place in self.small]
        self.large_parameters = [parameters[place] for place in self.large]
        self.strides = [parameter.stride() for parameter in self.large_parameters]
        self.gradient, self.gradients = self.room()
        self.step, self.steps = self.room()  # or the weights, if they are read
        self.reads = reads
        self.fused = has_fused_sgd(parameters[0].device, parameters[0].dtype)

    def room(self) -> tuple[Tensor, list[Tensor]]:
        """Returns a pack of zeros, and views of each parameter's share."""
        size, first = sum(parameter.numel() for parameter in self.parameters), self.parameters[0]
        whole = torch.zeros(size, dtype=first.dtype, device=first.device)
        return whole, self.packing.views(whole, self.small)

    def adopt(self, tensors: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Copies state into a new pack. Returns: The tensors that replace it, and the pieces."""
        whole, views = self.room()
        kept = list(tensors)
        for place, view in zip(self.small, views, strict=True):
            kept[place] = view.copy_(tensors[place])
        return kept, [whole, *(tensors[place] for place in self.large)]

    def gather(self, gradients: list[Tensor]) -> list[Tensor]:
        """Copies gradients into their pack. Returns: The pieces.

        Raises: TypeError or RuntimeError: if one is None or sparse.
        """
        if not self.large:
            foreach_copy_(self.gradients, gradients)
            return [self.gradient]
        foreach_copy_(self.gradients, [gradients[place] for place in self.small])
        return [
            self.gradient,
            *aligned([gradients[place] for place in self.large], self.large_parameters, self.strides),
        ]

    def split(self, pieces: list[Tensor]) -> list[Tensor]:
        """Splits pieces into one tensor for each parameter: the inverse of `gather`."""
        whole, *large = pieces
        views = self.gradients if whole is self.gradient else self.packing.views(whole, self.small)
        return self.packing.in_order([*views, *large])

    def begin(self) -> list[Tensor]:
        """Returns the pieces to pass to `update` as parameters: zeros if it only adds to them."""
        if self.reads:
            foreach_copy_(self.steps, self.parameters)
        else:
            self.step.zero_()
        return [self.step, *self.large_parameters]

    def finish(self) -> None:
        """Writes the result of `update` to the parameters."""
        if self.reads:
            foreach_copy_(self.parameters, self.steps)
        elif self.fused:
            descend(self.parameters, self.steps, -1.0)
        else:
            foreach_add_(self.parameters, self.steps)


def aligned(gradients: list[Tensor], parameters: list[Tensor], strides: list[Any]) -> list[Tensor]:
    """Returns gradients with the strides of their parameters: fused kernels assume them without a check.

    Raises: TypeError or RuntimeError: if one is None or sparse.
    """
    if [*map(STRIDE, gradients)] == strides:
        return gradients
    rows = zip(gradients, parameters, strict=True)
    return [g if g.stride() == p.stride() else torch.empty_like(p).copy_(g) for g, p in rows]
