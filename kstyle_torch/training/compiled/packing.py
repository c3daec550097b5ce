"""Many small tensors as few: what a loop carries from step to step costs by the tensor, not by the number."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

SMALL = 2**14  # numbers; a larger tensor stays alone, since to copy it costs more than to carry it


class Packing:
    """How tensors are put together: the small ones of a dtype end to end, as they lie in memory.

    Args:
        tensors: Such tensors.
        small: How many numbers a tensor has at least that stays alone.
    """

    def __init__(self, tensors: Sequence[Tensor], small: int = SMALL):
        self.device = tensors[0].device if tensors else None
        self.shapes = [tensor.shape for tensor in tensors]
        self.dtypes = [tensor.dtype for tensor in tensors]
        self.orders = [_order(tensor) for tensor in tensors]
        together: dict[object, list[int]] = {}
        for place, tensor in enumerate(tensors):
            key = tensor.dtype if tensor.numel() < small else place
            together.setdefault(key, []).append(place)
        self.groups = [*together.values()]
        self.alone = [len(group) == 1 and self.shapes[group[0]].numel() >= small for group in self.groups]

    def packed(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The packs, each of one axis; a tensor that is alone stays as it is."""
        return [
            tensors[group[0]] if alone else torch.cat([self._flat(tensors[place], place) for place in group])
            for group, alone in zip(self.groups, self.alone, strict=True)
        ]

    def unpacked(self, packs: Sequence[Tensor]) -> list[Tensor]:
        """The tensors; views of the packs."""
        found: dict[int, Tensor] = {}
        for group, alone, pack in zip(self.groups, self.alone, packs, strict=True):
            if alone:
                found[group[0]] = pack
                continue
            parts = pack.split([self.shapes[place].numel() for place in group])
            found.update((place, self._shaped(part, place)) for place, part in zip(group, parts, strict=True))
        return [found[place] for place in range(len(self.shapes))]

    def flags(self, each: list[bool]) -> list[bool | Tensor]:
        """For each pack whether it is so of all tensors in it, or a tensor that says it."""
        found: list[bool | Tensor] = []
        for group in self.groups:
            told = [each[place] for place in group]
            parts = [
                torch.full((self.shapes[place].numel(),), float(each[place]), device=self.device) for place in group
            ]
            found.append(told[0] if len({*told}) == 1 else torch.cat(parts))
        return found

    def _flat(self, tensor: Tensor, place: int) -> Tensor:
        return tensor.permute(self.orders[place]).reshape(-1)

    def _shaped(self, part: Tensor, place: int) -> Tensor:
        order = self.orders[place]
        back = [order.index(dim) for dim in range(len(order))]
        return part.view([self.shapes[place][dim] for dim in order]).permute(back)


def _order(tensor: Tensor) -> list[int]:
    """The axes as they lie in memory, outermost first."""
    strides = tensor.stride()
    return sorted(range(tensor.ndim), key=lambda dim: -strides[dim])
