"""Products of vectors, matrices and tensors.

Where torch does not promote, operands are cast to one dtype first. Integers are multiplied in float64 on
accelerators, which have no kernel for them: exact up to 2**53.

Example:
    >>> ops.matmul([[1, 2]], [[3], [4]])
    tensor([[11]], dtype=torch.int32)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kstyle_torch.ops.dtypes import in_common_dtype, with_float_dtype
from kstyle_torch.ops.operation import TensorLike, operation


def _multiplied(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Returns `function` of the tensors, cast to their common dtype."""
    tensors = tuple(in_common_dtype(*tensors))
    dtype = tensors[0].dtype
    if dtype.is_floating_point or dtype.is_complex or (dtype is not torch.bool and tensors[0].device.type == "cpu"):
        return function(*tensors)
    return function(*[tensor.double() for tensor in tensors]).to(dtype)


@operation
def matmul(x1: TensorLike, x2: TensorLike) -> Tensor:
    """Returns the matrix product of the last two axes, the others broadcast together; of int8 in int32."""
    if x1.dtype is torch.int8 and x2.dtype is torch.int8:
        x1, x2 = x1.int(), x2.int()
    return _multiplied(torch.matmul, x1, x2)


@operation
def dot(x1: TensorLike, x2: TensorLike) -> Tensor:
    """Sums over the last axis of `x1` and the second to last of `x2` (or its only one)."""
    if x1.ndim == 0 or x2.ndim == 0:
        return torch.multiply(x1, x2)
    if x2.ndim <= 2:
        return _multiplied(torch.matmul, x1, x2)
    return _multiplied(lambda first, second: torch.tensordot(first, second, dims=([-1], [-2])), x1, x2)


@operation
def vdot(x1: TensorLike, x2: TensorLike) -> Tensor:
    """Returns the dot product of two vectors, the first conjugated; other tensors are flattened."""
    return _multiplied(torch.vdot, x1.flatten(), x2.flatten())


@operation
def inner(x1: TensorLike, x2: TensorLike) -> Tensor:
    """Sums over the last axes of both."""
    return _multiplied(torch.inner, x1, x2)


@operation
def outer(x1: TensorLike, x2: TensorLike) -> Tensor:
    """Returns the outer product: every element of `x1` times every element of `x2`, both flattened."""
    return torch.outer(x1.flatten(), x2.flatten())


@operation
def kron(x1: TensorLike, x2: TensorLike) -> Tensor:
    """Returns the Kronecker product: every element of `x1` times the whole of `x2`, as one tensor."""
    return torch.kron(x1, x2)


@operation
def tensordot(x1: TensorLike, x2: TensorLike, axes: int | Sequence[Any] = 2) -> Tensor:
    """Sums over several axes of both.

    Args:
        x1: Tensor.
        x2: Tensor.
        axes: Number of axes: the last of `x1` and the first of `x2`; or two ints or lists, the axes of each.
    """
    if not isinstance(axes, int):
        axes = [[each] if isinstance(each, int) else list(each) for each in axes]
    return _multiplied(lambda first, second: torch.tensordot(first, second, dims=axes), x1, x2)


@operation
def einsum(subscripts: str, *operands: TensorLike, **kwargs: Any) -> Tensor:  # noqa: ARG001
    """Returns sums of products in Einstein's notation; of int8 in int32.

    Args:
        subscripts: The axes of each operand and of the result, as in `"bij,bjk->bik"`.
        operands: Tensors.
        kwargs: Accepted for compatibility with Keras (`optimize`); torch orders the products itself.
    """
    if all(operand.dtype is torch.int8 for operand in operands):
        operands = tuple(operand.int() for operand in operands)
    return _multiplied(lambda *tensors: torch.einsum(subscripts, *tensors), *operands)


@operation
def cross(
    x1: TensorLike, x2: TensorLike, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None
) -> Tensor:
    """Returns the cross product of vectors of 3 elements, or of 2, whose third is 0.

    Args:
        x1: Tensor.
        x2: Tensor.
        axisa: Axis of the vectors in `x1`.
        axisb: Axis of the vectors in `x2`.
        axisc: Axis of the vectors in the result; of vectors of 2 elements, only the third element is returned, without an axis.
        axis: All three at once.
    """
    if axis is not None:
        axisa = axisb = axisc = axis
    x1, x2 = in_common_dtype(x1.movedim(axisa, -1), x2.movedim(axisb, -1))
    flat = x1.shape[-1] == x2.shape[-1] == 2
    x1, x2 = (F.pad(x, (0, 1)) if x.shape[-1] == 2 else x for x in (x1, x2))
    result = torch.linalg.cross(x1, x2)
    return result[..., 2] if flat else result.movedim(-1, axisc)


@operation
def correlate(x1: TensorLike, x2: TensorLike, mode: str = "valid") -> Tensor:
    """Returns the cross-correlation of two vectors; of integers in `config.floatx()`.

    Args:
        x1: Vector.
        x2: Vector that moves along it.
        mode: `"full"`: wherever they overlap; `"same"`: the central part, as long as `x1`; `"valid"`: only where one lies
            entirely within the other.
    """
    x1, x2 = in_common_dtype(x1, x2, floating=True)
    num_first, num_second = len(x1), len(x2)
    full = F.conv1d(x1.view(1, 1, -1), x2.view(1, 1, -1), padding=num_second - 1).view(-1)
    lengths = {"full": len(full), "same": num_first, "valid": abs(num_first - num_second) + 1}
    if mode not in lengths:
        raise ValueError(f"correlate: mode must be 'full', 'same' or 'valid'; got {mode!r}.")
    start = (len(full) - lengths[mode]) // 2
    return full[start : start + lengths[mode]]


@operation
def slogdet(x: TensorLike) -> tuple[Tensor, Tensor]:
    """Returns the sign of the determinant of square matrices, and the logarithm of its absolute value."""
    sign, logarithm = torch.linalg.slogdet(with_float_dtype(x))
    return sign, logarithm


@operation
def vander(x: TensorLike, N: int | None = None, increasing: bool = False) -> Tensor:  # noqa: N803
    """Returns the powers of a vector as columns, descending from `N - 1`, or ascending; `N` is its length if None."""
    powers = torch.linalg.vander(x, N=N).to(x.dtype)
    return powers if increasing else powers.flip(-1)
