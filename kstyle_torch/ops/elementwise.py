"""Elementwise functions of one tensor.

`x` is a tensor or convertible to one. If the result is not an integer in general, integers give `config.floatx()`.

Example:
    >>> ops.sqrt([1, 4, 9])
    tensor([1., 2., 3.])
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kstyle_torch.ops.dtypes import as_dtype, with_float_dtype
from kstyle_torch.ops.operation import Operand, TensorLike, operation


@operation
def abs(x: TensorLike) -> Tensor:
    """Returns the same as `absolute`."""
    return absolute(x)


@operation
def absolute(x: TensorLike) -> Tensor:
    """Returns the absolute value."""
    return x if x.dtype is torch.bool else torch.abs(x)


@operation
def angle(x: TensorLike) -> Tensor:
    """Returns the angle of complex numbers, in radians; 0 or pi of real ones."""
    return torch.angle(x)


@operation
def arccos(x: TensorLike) -> Tensor:
    """Returns the inverse cosine."""
    return torch.arccos(x)


@operation
def arccosh(x: TensorLike) -> Tensor:
    """Returns the inverse hyperbolic cosine."""
    return torch.arccosh(x)


@operation
def arcsin(x: TensorLike) -> Tensor:
    """Returns the inverse sine."""
    return torch.arcsin(x)


@operation
def arcsinh(x: TensorLike) -> Tensor:
    """Returns the inverse hyperbolic sine."""
    return torch.arcsinh(x)


@operation
def arctan(x: TensorLike) -> Tensor:
    """Returns the inverse tangent."""
    return torch.arctan(x)


@operation
def arctanh(x: TensorLike) -> Tensor:
    """Returns the inverse hyperbolic tangent."""
    return torch.arctanh(x)


@operation
def bitwise_invert(x: TensorLike) -> Tensor:
    """Returns the bitwise complement."""
    return torch.bitwise_not(x)


@operation
def bitwise_not(x: TensorLike) -> Tensor:
    """Returns the same as `bitwise_invert`."""
    return bitwise_invert(x)


@operation
def cbrt(x: TensorLike) -> Tensor:
    """Returns the cube root, of negative numbers too."""
    x = with_float_dtype(x)
    return torch.sign(x) * torch.abs(x) ** (1 / 3)


@operation
def ceil(x: TensorLike) -> Tensor:
    """Returns the value rounded up."""
    return torch.ceil(with_float_dtype(x))


@operation
def conj(x: TensorLike) -> Tensor:
    """Returns the complex conjugate."""
    return torch.conj(x).resolve_conj()


@operation
def conjugate(x: TensorLike) -> Tensor:
    """Returns the same as `conj`."""
    return conj(x)


@operation
def copy(x: TensorLike) -> Tensor:
    """Returns a copy of the tensor."""
    return torch.clone(x)


@operation
def cos(x: TensorLike) -> Tensor:
    """Returns the cosine of radians."""
    return torch.cos(x)


@operation
def cosh(x: TensorLike) -> Tensor:
    """Returns the hyperbolic cosine."""
    return torch.cosh(x)


@operation
def deg2rad(x: TensorLike) -> Tensor:
    """Converts degrees to radians."""
    return torch.deg2rad(x)


@operation
def exp(x: TensorLike) -> Tensor:
    """Returns e to the power of x."""
    return torch.exp(x)


@operation
def exp2(x: TensorLike) -> Tensor:
    """Returns 2 to the power of x."""
    return torch.exp2(x)


@operation
def expm1(x: TensorLike) -> Tensor:
    """Returns `exp(x) - 1`, exact near 0."""
    return torch.expm1(x)


@operation
def fabs(x: TensorLike) -> Tensor:
    """Returns the absolute value as a float."""
    return torch.abs(with_float_dtype(x))


@operation
def floor(x: TensorLike) -> Tensor:
    """Returns the value rounded down."""
    return torch.floor(with_float_dtype(x))


@operation
def i0(x: TensorLike) -> Tensor:
    """Returns the modified Bessel function of the first kind, order 0."""
    return torch.i0(with_float_dtype(x))


@operation
def imag(x: TensorLike) -> Tensor:
    """Returns the imaginary part."""
    return torch.imag(x) if x.is_complex() else torch.zeros_like(x)


@operation
def isfinite(x: TensorLike) -> Tensor:
    """Returns where the value is neither infinite nor NaN."""
    return torch.isfinite(x)


@operation
def isinf(x: TensorLike) -> Tensor:
    """Returns where the value is infinite, of either sign."""
    return torch.isinf(x)


@operation
def isnan(x: TensorLike) -> Tensor:
    """Returns where the value is NaN."""
    return torch.isnan(x)


@operation
def isneginf(x: TensorLike) -> Tensor:
    """Returns where the value is minus infinity."""
    return torch.isneginf(x)


@operation
def isposinf(x: TensorLike) -> Tensor:
    """Returns where the value is plus infinity."""
    return torch.isposinf(x)


@operation
def isreal(x: TensorLike) -> Tensor:
    """Returns where the imaginary part is 0."""
    return torch.isreal(x)


@operation
def log(x: TensorLike) -> Tensor:
    """Returns the natural logarithm."""
    return torch.log(x)


@operation
def log10(x: TensorLike) -> Tensor:
    """Returns the logarithm to base 10."""
    return torch.log10(x)


@operation
def log1p(x: TensorLike) -> Tensor:
    """Returns `log(1 + x)`, exact near 0."""
    return torch.log1p(x)


@operation
def log2(x: TensorLike) -> Tensor:
    """Returns the logarithm to base 2."""
    return torch.log2(x)


@operation
def logical_not(x: TensorLike) -> Tensor:
    """Returns where the value is 0 or False."""
    return torch.logical_not(x)


@operation
def negative(x: TensorLike) -> Tensor:
    """Returns the negated value."""
    return torch.negative(x)


@operation
def rad2deg(x: TensorLike) -> Tensor:
    """Converts radians to degrees."""
    return torch.rad2deg(x)


@operation
def real(x: TensorLike) -> Tensor:
    """Returns the real part."""
    return torch.real(x)


@operation
def reciprocal(x: TensorLike) -> Tensor:
    """Returns `1 / x`."""
    return torch.reciprocal(x)


@operation
def sign(x: TensorLike) -> Tensor:
    """Returns -1, 0 or 1."""
    return torch.sign(x)


@operation
def signbit(x: TensorLike) -> Tensor:
    """Returns where the sign bit is set, which includes -0.0."""
    return torch.signbit(x)


@operation
def sin(x: TensorLike) -> Tensor:
    """Returns the sine of radians."""
    return torch.sin(x)


@operation
def sinc(x: TensorLike) -> Tensor:
    """Returns `sin(pi x) / (pi x)`, 1 at 0."""
    return torch.sinc(x)


@operation
def sinh(x: TensorLike) -> Tensor:
    """Returns the hyperbolic sine."""
    return torch.sinh(x)


@operation
def sqrt(x: TensorLike) -> Tensor:
    """Returns the square root."""
    return torch.sqrt(x)


@operation
def square(x: TensorLike) -> Tensor:
    """Returns `x * x`."""
    return torch.square(x.int() if x.dtype is torch.bool else x)


@operation
def tan(x: TensorLike) -> Tensor:
    """Returns the tangent of radians."""
    return torch.tan(x)


@operation
def tanh(x: TensorLike) -> Tensor:
    """Returns the hyperbolic tangent."""
    return torch.tanh(x)


@operation
def trunc(x: TensorLike) -> Tensor:
    """Returns the value rounded towards 0."""
    return x if x.dtype is torch.bool else torch.trunc(x)


@operation
def clip(x: TensorLike, x_min: Operand, x_max: Operand) -> Tensor:
    """Clips the values to a range.

    Args:
        x: Tensor.
        x_min: Lower bound, a number or a tensor; unbounded if None.
        x_max: Upper bound, likewise.
    """
    x = x.int() if x.dtype is torch.bool else x
    if isinstance(x_min, Tensor) != isinstance(x_max, Tensor):  # torch.clamp takes two tensors or two numbers
        return torch.clip(torch.clip(x, min=x_min), max=x_max)
    return torch.clip(x, x_min, x_max)


@operation
def nan_to_num(x: TensorLike, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Tensor:
    """Replaces NaN and infinities.

    Args:
        x: Tensor.
        nan: Replacement of NaN.
        posinf: Replacement of infinity; the largest number of the dtype if None.
        neginf: Replacement of minus infinity; the lowest number if None.
    """
    return torch.nan_to_num(x, nan=nan, posinf=posinf, neginf=neginf)


@operation
def round(x: TensorLike, decimals: int = 0) -> Tensor:
    """Rounds to `decimals` digits after the decimal point, or before it if negative; ties go to the even number."""
    if x.is_floating_point():
        return torch.round(x, decimals=decimals)
    return x if decimals >= 0 else torch.round(x.double(), decimals=decimals).to(x.dtype)


@operation
def view(x: TensorLike, dtype: Any = None) -> Tensor:
    """Reinterprets the bytes as another dtype."""
    return x if dtype is None else x.view(as_dtype(dtype))
