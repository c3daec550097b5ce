"""Arithmetic with two operands.

`x1` and `x2` are tensors or convertible to tensors. Their shapes are broadcast; their dtypes are promoted, and a Python
number takes the dtype of the tensor next to it.

Example:
    >>> ops.add(torch.ones(2, dtype=torch.float16), 2.5)
    tensor([3.5000, 3.5000], dtype=torch.float16)
"""

from __future__ import annotations

import torch
from torch import Tensor

from kstyle_torch.ops.dtypes import in_common_dtype, result_type
from kstyle_torch.ops.operation import Operand, TensorLike, operation


@operation
def add(x1: TensorLike, x2: Operand) -> Tensor:
    """Returns the sum."""
    return torch.add(x1, x2)


@operation
def arctan2(x1: TensorLike, x2: TensorLike) -> Tensor:
    """Returns the angle of the point (x2, x1), in radians from -pi to pi."""
    return torch.arctan2(x1, x2)


@operation
def divide(x1: TensorLike, x2: Operand) -> Tensor:
    """Returns the quotient; of integers, in `config.floatx()`."""
    return torch.true_divide(x1, x2)


@operation
def divide_no_nan(x1: TensorLike, x2: TensorLike) -> Tensor:
    """Returns the quotient, 0 where the divisor is 0."""
    x1, x2 = in_common_dtype(x1, x2, floating=True)
    zero = x2 == 0
    return torch.where(zero, 0, x1 / torch.where(zero, 1, x2))


@operation
def floor_divide(x1: TensorLike, x2: Operand) -> Tensor:
    """Returns the quotient, rounded down."""
    return torch.floor_divide(x1, x2)


@operation
def fmax(x1: TensorLike, x2: TensorLike) -> Tensor:
    """Returns the larger; of a number and NaN, the number."""
    return torch.fmax(x1, x2)


@operation
def fmin(x1: TensorLike, x2: TensorLike) -> Tensor:
    """Returns the smaller; of a number and NaN, the number."""
    return torch.fmin(x1, x2)


@operation
def fmod(x1: TensorLike, x2: Operand) -> Tensor:
    """Returns the remainder, with the sign of `x1`."""
    return torch.fmod(_number(x1, x2), x2)


@operation
def gcd(x1: TensorLike, x2: TensorLike) -> Tensor:
    """Returns the greatest common divisor of integers."""
    return torch.gcd(x1, x2)


@operation
def heaviside(x1: TensorLike, x2: TensorLike) -> Tensor:
    """Returns 0 where `x1` is negative, 1 where it is positive, `x2` where it is 0."""
    return torch.heaviside(*in_common_dtype(x1, x2, floating=True))


@operation
def hypot(x1: TensorLike, x2: TensorLike) -> Tensor:
    """Returns `sqrt(x1**2 + x2**2)`, without overflow."""
    return torch.hypot(*in_common_dtype(x1, x2, floating=True))


@operation
def lcm(x1: TensorLike, x2: TensorLike) -> Tensor:
    """Returns the least common multiple of integers."""
    return torch.lcm(x1, x2)


@operation
def logaddexp(x1: TensorLike, x2: TensorLike) -> Tensor:
    """Returns `log(exp(x1) + exp(x2))`, without overflow."""
    return torch.logaddexp(*in_common_dtype(x1, x2, floating=True))


@operation
def logaddexp2(x1: TensorLike, x2: TensorLike) -> Tensor:
    """Returns `log2(2**x1 + 2**x2)`, without overflow."""
    return torch.logaddexp2(*in_common_dtype(x1, x2, floating=True))


@operation
def maximum(x1: TensorLike, x2: TensorLike) -> Tensor:
    """Returns the larger; NaN where either is NaN."""
    return torch.maximum(x1, x2)


@operation
def minimum(x1: TensorLike, x2: TensorLike) -> Tensor:
    """Returns the smaller; NaN where either is NaN."""
    return torch.minimum(x1, x2)


@operation
def mod(x1: TensorLike, x2: Operand) -> Tensor:
    """Returns the remainder, with the sign of `x2`."""
    return torch.remainder(_number(x1, x2), x2)


@operation
def multiply(x1: TensorLike, x2: Operand) -> Tensor:
    """Returns the product."""
    return torch.multiply(x1, x2)


@operation
def nextafter(x1: TensorLike, x2: TensorLike) -> Tensor:
    """Returns the next representable number from `x1` towards `x2`."""
    return torch.nextafter(*in_common_dtype(x1, x2, floating=True))


@operation
def power(x1: TensorLike, x2: Operand) -> Tensor:
    """Returns `x1` to the power of `x2`."""
    return torch.pow(x1, x2)


@operation
def subtract(x1: TensorLike, x2: Operand) -> Tensor:
    """Returns the difference."""
    if x1.dtype is torch.bool:
        x1 = x1.to(x2.dtype if isinstance(x2, Tensor) else torch.int32)
    if isinstance(x2, Tensor) and x2.dtype is torch.bool:
        x2 = x2.to(x1.dtype)
    return torch.subtract(x1, x2)


@operation
def true_divide(x1: TensorLike, x2: Operand) -> Tensor:
    """Returns the same as `divide`."""
    return torch.true_divide(x1, x2)


@operation
def ldexp(x1: TensorLike, x2: TensorLike) -> Tensor:
    """Returns `x1 * 2**x2`.

    Raises: TypeError: if `x2` does not have an integer dtype.
    """
    if x2.is_floating_point() or x2.dtype is torch.bool:
        raise TypeError(
            f"ldexp: the exponent x2 must have an integer dtype; got {x2.dtype}. Use x1 * ops.exp2(x2) for floats."
        )
    return torch.ldexp(x1, x2).to(result_type(x1.dtype, float))


def _number(x1: Tensor, x2: Tensor | float) -> Tensor:
    """Returns `x1`, cast to int32 if both operands are bools, which torch would divide as such."""
    both = x1.dtype is torch.bool and getattr(x2, "dtype", torch.bool) is torch.bool
    return x1.int() if both else x1
