"""Binary crossentropy by torch's kernel, extended to probabilities that are NaN."""

from __future__ import annotations

from torch import Tensor

from kstyle_torch._torch import binary_cross_entropy

REDUCTIONS = {"none": 0, "mean": 1}  # codes of the kernel


def crossentropy_of(p: Tensor, target: Tensor, reduction: str) -> Tensor:
    """Returns `-(y log p + (1 - y) log(1 - p))`, NaN where p is.

    Args:
        p: Probabilities between 0 and 1, or NaN.
        target: 0, 1 or between; of p's shape and dtype.
        reduction: `"none"`, or `"mean"` over all values.
    """
    return safe_kernel(p, target, None, REDUCTIONS[reduction])


def safe_kernel(p: Tensor, target: Tensor, weight: Tensor | None, reduction: int) -> Tensor:
    """Returns the kernel's result, for the kernel's own arguments, with NaN where p is NaN.

    The kernel refuses NaN. On the CPU it raises an error, so the check is free for valid numbers; on CUDA its assertion
    would end the process, so NaN is always replaced there.
    """
    if p.device.type == "cpu":
        try:
            return binary_cross_entropy(p, target, weight, reduction)
        except RuntimeError:
            if weight is not None or not p.isnan().any():
                raise
    return guarded(p, target, reduction)


def guarded(p: Tensor, target: Tensor, reduction: int) -> Tensor:
    """Returns the same; the kernel gets 0.5 where p is NaN, and the NaN is added to its result."""
    numbers = p.nan_to_num(0.5)
    gaps = (p - numbers).detach()  # 0, or NaN
    values = binary_cross_entropy(numbers, target, None, reduction)
    return values + (gaps.sum() if reduction == REDUCTIONS["mean"] else gaps)
