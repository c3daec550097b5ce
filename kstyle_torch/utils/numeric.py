"""Small conversions of data: one-hot vectors, unit length."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from kstyle_torch.errors import OutOfRangeError

__all__ = ["normalize", "to_categorical"]


def to_categorical(x: Any, num_classes: int | None = None) -> Any:
    """Converts class numbers to one-hot vectors, for `categorical_crossentropy`.

    Args:
        x: Integers from 0, as an array, list or tensor; a last axis of size 1 is dropped.
        num_classes: Length of the vectors; `max(x) + 1` if None.
    Returns: float32, shape (*x.shape, num_classes): an array, or for a tensor a tensor on its device.
    Raises: ValueError: if a class is not an integer from 0 to `num_classes - 1`, or `x` is empty without `num_classes`.

    Example:
        >>> to_categorical([0, 2, 1])
        array([[1., 0., 0.],
               [0., 0., 1.],
               [0., 1., 0.]], dtype=float32)
    """
    classes = x.detach() if isinstance(x, Tensor) else torch.from_numpy(_as_numbers(x))
    if classes.dim() > 1 and classes.shape[-1] == 1:
        classes = classes.squeeze(-1)
    if num_classes is not None and (
        isinstance(num_classes, bool) or int(num_classes) != num_classes or num_classes < 1
    ):
        raise ValueError(f"to_categorical: num_classes must be a positive int; got {num_classes!r}.")
    if classes.numel() == 0:
        if num_classes is None:
            raise ValueError("to_categorical: x is empty, so num_classes must be given.")
        lowest, highest = 0.0, -1.0
    else:
        lowest, highest = classes.min().item(), classes.max().item()  # the host waits for the device here
    whole = classes.long()
    if classes.is_floating_point() and not torch.equal(whole.to(classes.dtype), classes):
        raise ValueError("to_categorical: x must hold integer class numbers; it has other numbers or NaN.")
    size = int(num_classes or highest + 1)
    if lowest < 0 or highest >= size:
        worst = int(lowest if lowest < 0 else highest)
        raise OutOfRangeError(
            f"to_categorical: class {worst} is out of range; with {size} classes they go from 0 to {size - 1}."
        )
    vectors = torch.nn.functional.one_hot(whole, size).to(torch.float32)
    return vectors if isinstance(x, Tensor) else vectors.numpy()


def _as_numbers(x: Any) -> np.ndarray:
    array = np.asarray(x)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"to_categorical: x must hold integer class numbers; got {array.dtype} ({_start(array)}).")
    return array.astype("float64" if array.dtype.kind == "f" else "int64")


def _start(array: np.ndarray) -> str:
    return ", ".join(map(repr, array.ravel()[:2].tolist())) + (", ..." if array.size > 2 else "")


def normalize(x: Any, axis: int = -1, order: float = 2) -> Any:
    """Divides vectors by their norm; vectors with norm 0 are not changed.

    Args:
        x: Array, list or tensor.
        axis: Axis of the vectors.
        order: Order of the norm: 1, 2 or another positive number.
    Returns: An array with the shape of `x`, or for a tensor a tensor.
    Raises: ValueError: if the axis does not exist, or `order` is not positive.

    Example:
        >>> normalize(np.array([[3.0, 4.0], [0.0, 0.0]]))
        array([[0.6, 0.8],
               [0. , 0. ]])
    """
    given = x if isinstance(x, Tensor) else np.asarray(x)
    if not -given.ndim <= axis < given.ndim:
        raise ValueError(f"normalize: axis {axis} does not exist in shape {tuple(given.shape)}.")
    if not order > 0:
        raise ValueError(f"normalize: order must be positive; got {order!r}.")
    if isinstance(given, Tensor):
        floats = given if given.is_floating_point() else given.to(torch.get_default_dtype())
        norm = torch.linalg.vector_norm(floats, order, axis, keepdim=True)
        return floats / torch.where(norm == 0, 1, norm)
    length = np.linalg.norm(given, order, axis, keepdims=True)
    return given / np.where(length == 0, 1, length).astype(length.dtype)
