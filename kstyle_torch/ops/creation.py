"""New tensors, on `config.device()`: constants, ranges, identity matrices, windows.

`shape` is an int or a sequence of ints; `dtype` a dtype or its name. If it is None, constants are of
`config.floatx()`, and the dtype of other results follows from the arguments.

Example:
    >>> ops.arange(3), ops.ones((2,))
    (tensor([0, 1, 2], dtype=torch.int32), tensor([1., 1.]))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from kstyle_torch import config
from kstyle_torch.ops.dtypes import as_dtype, dtype_of, floatx, result_type
from kstyle_torch.ops.operation import Operand, TensorLike, as_tensor, operation

Shape = int | Sequence[int]


def _sizes(shape: Shape) -> tuple[int, ...]:
    return (shape,) if isinstance(shape, int) else tuple(shape)


@operation
def array(x: TensorLike, dtype: Any = None) -> Tensor:
    """Converts a number, list or array to a tensor; a tensor is returned unchanged. If `dtype` is None, that of `x` is kept."""
    return x if dtype is None else x.to(as_dtype(dtype))


def zeros(shape: Shape, dtype: Any = None) -> Tensor:
    """Returns a tensor of zeros."""
    return torch.zeros(_sizes(shape), dtype=as_dtype(dtype), device=config.device())


def ones(shape: Shape, dtype: Any = None) -> Tensor:
    """Returns a tensor of ones."""
    return torch.ones(_sizes(shape), dtype=as_dtype(dtype), device=config.device())


def empty(shape: Shape, dtype: Any = None) -> Tensor:
    """Returns an uninitialized tensor."""
    return torch.empty(_sizes(shape), dtype=as_dtype(dtype), device=config.device())


def full(shape: Shape, fill_value: Any, dtype: Any = None) -> Tensor:
    """Returns a tensor filled with a value, or with a tensor that is broadcast to `shape`."""
    value = as_tensor(fill_value, as_dtype(dtype))
    return value.broadcast_to(_sizes(shape)).clone()


@operation
def zeros_like(x: TensorLike, dtype: Any = None) -> Tensor:
    """Returns zeros with the shape of `x`, and its dtype if `dtype` is None."""
    return torch.zeros_like(x, dtype=as_dtype(dtype or x.dtype))


@operation
def ones_like(x: TensorLike, dtype: Any = None) -> Tensor:
    """Returns ones with the shape of `x`, and its dtype if `dtype` is None."""
    return torch.ones_like(x, dtype=as_dtype(dtype or x.dtype))


@operation
def empty_like(x: TensorLike, dtype: Any = None) -> Tensor:
    """Returns an uninitialized tensor with the shape of `x`, and its dtype if `dtype` is None."""
    return torch.empty_like(x, dtype=as_dtype(dtype or x.dtype))


@operation
def full_like(x: TensorLike, fill_value: Operand, dtype: Any = None) -> Tensor:
    """Returns a tensor with the shape of `x` filled with a value, of the dtype of `x` if `dtype` is None."""
    dtype = as_dtype(dtype or x.dtype)
    if isinstance(fill_value, Tensor):
        return fill_value.to(dtype).broadcast_to(x.shape).clone()
    return torch.full_like(x, fill_value, dtype=dtype)


def eye(N: int, M: int | None = None, k: int = 0, dtype: Any = None) -> Tensor:  # noqa: N803
    """Returns the matrix of `N` rows and `M` columns (`N` if None) with ones on diagonal `k`."""
    rows = torch.arange(N, device=config.device())
    columns = torch.arange(N if M is None else M, device=config.device())
    return (columns - rows[:, None] == (k or 0)).to(as_dtype(dtype))


def identity(n: int, dtype: Any = None) -> Tensor:
    """Returns the identity matrix of `n` rows."""
    return eye(n, dtype=dtype)


def tri(N: int, M: int | None = None, k: int = 0, dtype: Any = None) -> Tensor:  # noqa: N803
    """Returns the matrix of `N` rows and `M` columns (`N` if None) with ones on and below diagonal `k`."""
    return torch.tril(ones((N, N if M is None else M), dtype), k)


def arange(start: Any, stop: Any = None, step: Any = None, dtype: Any = None) -> Tensor:
    """Returns the numbers from `start` to `stop`, exclusive; from 0 to `start` if `stop` is None.

    Args:
        start: First number.
        stop: End, exclusive.
        step: Distance between two; 1 if None.
        dtype: Dtype of the result; if None, int32 for Python ints, `config.floatx()` for floats.
    """
    if dtype is None:
        dtype = result_type(*[dtype_of(number) for number in (start, stop, step) if number is not None])
    start, stop = (0, start) if stop is None else (start, stop)
    return torch.arange(start, stop, 1 if step is None else step, dtype=as_dtype(dtype), device=config.device())


@operation
def linspace(
    start: Operand,
    stop: Operand,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: int = 0,
) -> Any:
    """Returns `num` evenly spaced numbers.

    Args:
        start: First number, or a tensor of first numbers.
        stop: Last number, likewise.
        num: Number of samples.
        endpoint: Whether `stop` is one of them.
        retstep: Whether to return `(numbers, distance)`.
        dtype: Dtype of the result; a float type if None.
        axis: Position of the new axis, if `start` or `stop` is a tensor.
    """
    dtype = result_type(dtype_of(start), dtype_of(stop), float) if dtype is None else as_dtype(dtype)
    num_steps = num - 1 if endpoint else num
    step = (stop - start) / num_steps if num_steps > 0 else float("nan")
    if isinstance(start, Tensor) or isinstance(stop, Tensor):
        first = start if isinstance(start, Tensor) else torch.full_like(stop, start)
        exact = result_type(dtype, float)
        places = torch.arange(num, dtype=exact, device=first.device) / max(num_steps, 1)
        span = (stop - start).to(exact)
        numbers = (first.to(exact) + places.view(-1, *[1] * span.ndim) * span).to(dtype).movedim(0, axis)
    else:
        last = stop if endpoint or num < 2 else stop - step
        numbers = torch.linspace(start, last, num, dtype=dtype, device=config.device())
    return (numbers, as_tensor(step, device=numbers.device)) if retstep else numbers


@operation
def logspace(
    start: Operand,
    stop: Operand,
    num: int = 50,
    endpoint: bool = True,
    base: float = 10,
    dtype: Any = None,
    axis: int = 0,
) -> Tensor:
    """Returns `base` to the power of the numbers of `linspace`. The other arguments are those of `linspace`."""
    dtype = result_type(dtype_of(start), dtype_of(stop), float) if dtype is None else as_dtype(dtype)
    exponents = linspace(start, stop, num, endpoint, dtype=result_type(dtype, torch.float32), axis=axis)
    return torch.pow(base, exponents).to(dtype)


@operation
def geomspace(
    start: TensorLike, stop: TensorLike, num: int = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0
) -> Tensor:
    """Returns `num` numbers in geometric progression. The arguments are those of `linspace`."""
    dtype = result_type(start.dtype, stop.dtype, float) if dtype is None else as_dtype(dtype)
    start, stop = start.to(result_type(dtype, torch.float32)), stop.to(result_type(dtype, torch.float32))
    exponents = linspace(torch.log(torch.abs(start)), torch.log(torch.abs(stop)), num, endpoint, axis=axis)
    sign = torch.sign(start)
    return (torch.exp(exponents) * (sign.unsqueeze(axis) if sign.ndim else sign)).to(dtype)


def bartlett(x: Any) -> Tensor:
    """Returns the triangular window of `x` points."""
    return _window(torch.signal.windows.bartlett, x)


def blackman(x: Any) -> Tensor:
    """Returns the Blackman window of `x` points."""
    return _window(torch.signal.windows.blackman, x)


def hamming(x: Any) -> Tensor:
    """Returns the Hamming window of `x` points."""
    return _window(torch.signal.windows.hamming, x)


def hanning(x: Any) -> Tensor:
    """Returns the Hann window of `x` points."""
    return _window(torch.signal.windows.hann, x)


def kaiser(x: Any, beta: Any) -> Tensor:
    """Returns the Kaiser window of `x` points; the greater `beta`, the narrower."""
    return _window(torch.signal.windows.kaiser, x, beta=float(beta))


def _window(function: Callable[..., Tensor], num_points: Any, **kwargs: Any) -> Tensor:
    return function(int(num_points), dtype=floatx(), device=config.device(), **kwargs)
