"""Comparison, logic and bit operations on two operands, whose shapes are broadcast.

Example:
    >>> ops.greater([1, 2, 3], 2)
    tensor([False, False,  True])
"""

from __future__ import annotations

import torch
from torch import Tensor

from kstyle_torch.ops.dtypes import in_common_dtype
from kstyle_torch.ops.operation import Operand, TensorLike, operation


@operation
def equal(x1: TensorLike, x2: Operand) -> Tensor:
    """Returns where `x1 == x2`."""
    return torch.eq(x1, x2)


@operation
def greater(x1: TensorLike, x2: Operand) -> Tensor:
    """Returns where `x1 > x2`."""
    return torch.greater(x1, x2)


@operation
def greater_equal(x1: TensorLike, x2: Operand) -> Tensor:
    """Returns where `x1 >= x2`."""
    return torch.greater_equal(x1, x2)


@operation
def less(x1: TensorLike, x2: Operand) -> Tensor:
    """Returns where `x1 < x2`."""
    return torch.less(x1, x2)


@operation
def less_equal(x1: TensorLike, x2: Operand) -> Tensor:
    """Returns where `x1 <= x2`."""
    return torch.less_equal(x1, x2)


@operation
def not_equal(x1: TensorLike, x2: Operand) -> Tensor:
    """Returns where `x1 != x2`."""
    return torch.not_equal(x1, x2)


@operation
def logical_and(x1: TensorLike, x2: TensorLike) -> Tensor:
    """Returns where neither is 0."""
    return torch.logical_and(x1, x2)


@operation
def logical_or(x1: TensorLike, x2: TensorLike) -> Tensor:
    """Returns where one of them is not 0."""
    return torch.logical_or(x1, x2)


@operation
def logical_xor(x1: TensorLike, x2: TensorLike) -> Tensor:
    """Returns where exactly one of them is not 0."""
    return torch.logical_xor(x1, x2)


@operation
def bitwise_and(x: TensorLike, y: Operand) -> Tensor:
    """Returns the bitwise AND."""
    return torch.bitwise_and(x, y)


@operation
def bitwise_or(x: TensorLike, y: Operand) -> Tensor:
    """Returns the bitwise OR."""
    return torch.bitwise_or(x, y)


@operation
def bitwise_xor(x: TensorLike, y: Operand) -> Tensor:
    """Returns the bitwise XOR."""
    return torch.bitwise_xor(x, y)


@operation
def bitwise_left_shift(x: TensorLike, y: Operand) -> Tensor:
    """Returns the bits shifted left by `y` places."""
    return torch.bitwise_left_shift(x, y)


@operation
def bitwise_right_shift(x: TensorLike, y: Operand) -> Tensor:
    """Returns the bits shifted right by `y` places."""
    return torch.bitwise_right_shift(x, y)


@operation
def left_shift(x: TensorLike, y: Operand) -> Tensor:
    """Returns the same as `bitwise_left_shift`."""
    return torch.bitwise_left_shift(x, y)


@operation
def right_shift(x: TensorLike, y: Operand) -> Tensor:
    """Returns the same as `bitwise_right_shift`."""
    return torch.bitwise_right_shift(x, y)


@operation
def isclose(x1: TensorLike, x2: TensorLike, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """Returns where `abs(x1 - x2) <= atol + rtol * abs(x2)`.

    Args:
        x1: Tensor.
        x2: Tensor.
        rtol: Relative tolerance.
        atol: Absolute tolerance.
        equal_nan: Whether NaN equals NaN.
    """
    x1, x2 = in_common_dtype(x1, x2)
    return torch.isclose(x1, x2, rtol=rtol, atol=atol, equal_nan=equal_nan)


@operation
def allclose(x1: TensorLike, x2: TensorLike, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """Returns whether `isclose` holds everywhere, as a tensor of one bool. The arguments are those of `isclose`."""
    return torch.all(isclose(x1, x2, rtol, atol, equal_nan))


@operation
def isin(x1: TensorLike, x2: TensorLike, assume_unique: bool = False, invert: bool = False) -> Tensor:
    """Returns which elements of `x1` are among those of `x2`.

    Args:
        x1: Tensor.
        x2: Tensor of any shape.
        assume_unique: Whether neither has duplicates, which allows a faster search.
        invert: Whether to return the opposite.
    """
    x1, x2 = in_common_dtype(x1, x2)
    if x1.dtype is torch.bool:
        x1, x2 = x1.int(), x2.int()
    return torch.isin(x1, x2, assume_unique=assume_unique, invert=invert)
