"""Layouts: conversions between the shape of a weight in Keras and its shape in torch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor


class Layout(NamedTuple):
    """Conversion of a weight between Keras' and torch's shape; each function returns a view or a copy.

    Args:
        to_keras: Converts a tensor from torch's to Keras' shape.
        to_torch: Converts a tensor from Keras' to torch's shape.
        copies: Whether `to_keras` copies, because no view has that order.
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
