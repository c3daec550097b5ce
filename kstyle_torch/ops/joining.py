"""Concatenation, stacking and splitting. Parts are views where possible.

Example:
    >>> [part.shape for part in ops.split(torch.ones(2, 6), 3, axis=1)]
    [torch.Size([2, 2]), torch.Size([2, 2]), torch.Size([2, 2])]
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from kstyle_torch.ops.operation import TensorLike, TensorList, operation


@operation
def concatenate(xs: TensorList, axis: int | None = 0) -> Tensor:
    """Concatenates tensors along `axis`; flattened first if None."""
    return torch.cat([x.flatten() for x in xs]) if axis is None else torch.cat(xs, axis)


@operation
def append(x1: TensorLike, x2: TensorLike, axis: int | None = None) -> Tensor:
    """Appends `x2` to `x1` along `axis`; both flattened first if None."""
    return torch.cat([x1.flatten(), x2.flatten()]) if axis is None else torch.cat([x1, x2], axis)


@operation
def stack(x: TensorList, axis: int = 0) -> Tensor:
    """Stacks tensors of the same shape along a new axis."""
    return torch.stack(_promoted(x), axis)


@operation
def vstack(xs: TensorList) -> Tensor:
    """Concatenates along axis 0; vectors are rows."""
    return torch.vstack(_promoted(xs))


@operation
def hstack(xs: TensorList) -> Tensor:
    """Concatenates along axis 1; vectors along axis 0."""
    return torch.hstack(_promoted(xs))


@operation
def dstack(xs: TensorList) -> Tensor:
    """Concatenates along axis 2, which is added to vectors and matrices."""
    return torch.dstack(_promoted(xs))


def _promoted(xs: list[Tensor]) -> list[Tensor]:
    """Casts to one dtype, since `torch.stack` does not promote."""
    dtype = functools.reduce(torch.promote_types, [x.dtype for x in xs])
    return [x.to(dtype) for x in xs]


@operation
def meshgrid(*x: TensorLike, indexing: str = "xy") -> list[Tensor]:
    """Returns the coordinates of a grid, one tensor for each vector.

    Args:
        x: Vectors.
        indexing: `"xy"`: the first vector is along axis 1; `"ij"`: along axis 0.
    """
    return list(torch.meshgrid(*x, indexing=indexing))


@operation
def split(x: TensorLike, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    """Splits a tensor along `axis`.

    Args:
        x: Tensor.
        indices_or_sections: Number of equal parts, or the start of the second, third, ... part.
        axis: Along which axis.
    Raises: ValueError: if equal parts are not possible.
    """
    places = _listed(indices_or_sections)
    if isinstance(places, int) and x.shape[axis] % places:
        raise ValueError(
            f"split: axis {axis} of shape {tuple(x.shape)} cannot be split into {places} equal parts. Use array_split for "
            "parts that differ by one."
        )
    return list(torch.tensor_split(x, places, axis))


@operation
def array_split(x: TensorLike, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    """Splits like `split`, but makes the first parts longer by one if equal parts are not possible."""
    return list(torch.tensor_split(x, _listed(indices_or_sections), axis))


@operation
def hsplit(x: TensorLike, indices_or_sections: Any) -> list[Tensor]:
    """Splits along axis 1; vectors along axis 0."""
    return split(x, indices_or_sections, axis=min(x.ndim - 1, 1))


@operation
def vsplit(x: TensorLike, indices_or_sections: Any) -> list[Tensor]:
    """Splits along axis 0."""
    return split(x, indices_or_sections, axis=0)


@operation
def dsplit(x: TensorLike, indices_or_sections: Any) -> list[Tensor]:
    """Splits along axis 2."""
    return split(x, indices_or_sections, axis=2)


@operation
def unstack(x: TensorLike, num: int | None = None, axis: int = 0) -> list[Tensor]:
    """Returns the slices along `axis`, which is removed.

    Args:
        x: Tensor.
        num: Number of slices; needed only if it is unknown, as for symbolic tensors.
        axis: Along which axis.
    Raises: ValueError: if there are not `num`.
    """
    if num is not None and num != x.shape[axis]:
        raise ValueError(f"unstack: axis {axis} of shape {tuple(x.shape)} cannot be unstacked into num={num} tensors.")
    return list(torch.unbind(x, axis))


def _listed(indices_or_sections: Any) -> Any:
    if hasattr(indices_or_sections, "tolist"):  # the host waits here for a tensor on a device
        return indices_or_sections.tolist()
    return indices_or_sections if isinstance(indices_or_sections, int) else list(indices_or_sections)
