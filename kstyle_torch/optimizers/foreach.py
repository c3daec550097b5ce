"""torch's foreach calls with a scalar, converted to a tensor once: on a CPU torch would do so for each tensor and call."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from kstyle_torch._torch import foreach_add, foreach_add_, foreach_mul, foreach_mul_


def mul_(tensors: Any, number: float) -> None:
    """Multiplies tensors in place by a number that is the same in most steps."""
    foreach_mul_(tensors, _constant(tensors, number))


def mul(tensors: Any, number: float) -> list[Tensor]:
    """Returns products with a number that is the same in most steps."""
    return list(foreach_mul(tensors, _constant(tensors, number)))


def add_(tensors: Any, number: float) -> None:
    """Adds a number in place that is the same in most steps."""
    foreach_add_(tensors, [_constant(tensors, number)] * len(tensors))


def add(tensors: Any, number: float) -> list[Tensor]:
    """Returns sums with a number that is the same in most steps."""
    return list(foreach_add(tensors, [_constant(tensors, number)] * len(tensors)))


def _constant(tensors: Any, number: float) -> Any:
    """Returns the number as a cached tensor; unchanged if that would be slower or less precise."""
    dtype = tensors[0].dtype
    if dtype not in EXACT or not tensors[0].is_cpu or type(tensors[0]).__torch_dispatch__ is not PLAIN:
        return number
    for tensor in tensors:
        if tensor.dtype is not dtype:
            return number
    return _made(number, dtype)


PLAIN = Tensor.__torch_dispatch__  # DTensor and other wrapper subclasses override it
EXACT = (torch.float32, torch.float64)


@functools.lru_cache(maxsize=256)
def _made(number: float, dtype: torch.dtype) -> Tensor:
    return torch.tensor(number, dtype=dtype)
