"""The crossentropy of yes-or-no probabilities by torch's kernel, also where some are NaN."""

from __future__ import annotations

import torch
from torch import Tensor

REDUCTIONS = {"none": 0, "mean": 1}  # as the kernel counts them


def crossentropy_of(p: Tensor, target: Tensor, reduction: str) -> Tensor:
    """`-(y log p + (1 - y) log(1 - p))`, NaN where p is.

    The kernel refuses NaN: on a CPU with an error, which costs nothing where there is none, on CUDA by ending the process.

    Args:
        p: Probabilities between 0 and 1, or NaN.
        target: 0, 1 or between; of p's shape and dtype.
        reduction: `"none"`, or `"mean"` over all values.
    """
    if p.device.type == "cpu":
        try:
            return _kernel(p, target, reduction)
        except RuntimeError:
            if not p.isnan().any():
                raise
    return guarded(p, target, reduction)


def guarded(p: Tensor, target: Tensor, reduction: str) -> Tensor:
    """The same, with numbers for the kernel where p is NaN."""
    numbers = p.nan_to_num(0.5)
    gaps = (p - numbers).detach()  # 0, or NaN
    return _kernel(numbers, target, reduction) + (gaps.sum() if reduction == "mean" else gaps)


def _kernel(p: Tensor, target: Tensor, reduction: str) -> Tensor:
    return torch._C._nn.binary_cross_entropy(p, target, None, REDUCTIONS[reduction])  # type: ignore[arg-type]
