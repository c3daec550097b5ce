"""Layouts: the shape that a weight has in Keras and the one that it has in torch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor


class Layout(NamedTuple):
    """The form of a weight in Keras and in torch; each function gives a view or a copy of the other form.

    Args:
        to_keras: Gives Keras' form of a tensor in torch's.
        to_torch: Gives torch's form of a tensor in Keras'.
        copies: Whether `to_keras` gives a copy, because no view has that order.
    """

    to_keras: Callable[[Tensor], Tensor]
    to_torch: Callable[[Tensor], Tensor]
    copies: bool = False


def permuted(*axes: int) -> Layout:
    """Returns the layout in which Keras' axis `i` is torch's axis `axes[i]`."""
    back = sorted(range(len(axes)), key=axes.__getitem__)
    return Layout(functools.partial(_permute, axes), functools.partial(_permute, back))


def _permute(axes: Sequence[int], weight: Tensor) -> Tensor:
    return weight.permute(*axes)


def _same(weight: Tensor) -> Tensor:
    return weight


SAME = Layout(_same, _same)
