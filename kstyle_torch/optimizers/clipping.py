"""Gradient clipping. It neither waits for a device nor changes its arguments.

On the CPU, where there is nothing to wait for, gradients within the bound cost only the check.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kstyle_torch._torch import foreach_clamp_max_, foreach_clamp_min, foreach_mul, foreach_norm


def clip_by_value(gradients: list[Tensor], bound: float) -> list[Tensor]:
    """Returns the gradients with each number clipped to [-bound, bound]."""
    if len(gradients) == 1:
        return [gradients[0].clamp(-bound, bound)]
    clipped = foreach_clamp_min(gradients, -bound)
    foreach_clamp_max_(clipped, bound)
    return list(clipped)


def clip_by_norm(gradients: list[Tensor], bound: float) -> list[Tensor]:
    """Returns each gradient scaled down to a norm of `bound` where its norm is larger."""
    norms = torch.stack(foreach_norm(gradients))  # foreach would call the following operations for each tensor
    if norms.is_cpu:
        rows = zip(gradients, norms.tolist(), strict=True)
        return [gradient if norm <= bound else gradient * (bound / norm) for gradient, norm in rows]
    factors = norms.clamp_(min=bound).reciprocal_().mul_(bound)
    return list(foreach_mul(gradients, factors.unbind()))


def clip_by_global_norm(gradients: list[Tensor], bound: float) -> list[Tensor]:
    """Returns all gradients scaled by one factor such that their joint norm is at most `bound`; NaN if it is not finite.

    Source: Pascanu et al. 2013.
    """
    norm = torch.linalg.vector_norm(gradients[0] if len(gradients) == 1 else torch.stack(foreach_norm(gradients)))
    if norm.is_cpu and norm.item() <= bound:
        return gradients
    factor = norm.reciprocal().mul_(bound).clamp_(max=1.0).add_(norm, alpha=0.0)  # 0 times infinity is NaN
    return list(foreach_mul(gradients, factor))
