"""Bounding gradients. Nothing here waits for the device, and the gradients that come in stay as they are."""

from __future__ import annotations

import torch
from torch import Tensor


def clip_by_value(gradients: list[Tensor], bound: float) -> list[Tensor]:
    """Each number brought into [-bound, bound]."""
    clipped = torch._foreach_clamp_min(gradients, -bound)
    torch._foreach_clamp_max_(clipped, bound)
    return list(clipped)


def clip_by_norm(gradients: list[Tensor], bound: float) -> list[Tensor]:
    """Each gradient scaled down to a norm of `bound` where its norm is larger."""
    norms = torch._foreach_norm(gradients)
    factors = torch._foreach_clamp_min(norms, bound)
    torch._foreach_reciprocal_(factors)
    torch._foreach_mul_(factors, bound)
    return list(torch._foreach_mul(gradients, factors))


def clip_by_global_norm(gradients: list[Tensor], bound: float) -> list[Tensor]:
    """All gradients scaled by one factor, so that their norm together is at most `bound`; NaN if it is not finite.

    Source: Pascanu et al. 2013.
    """
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    factor = bound / norm.clamp(min=bound) + (norm - norm)
    return list(torch._foreach_mul(gradients, factor))
