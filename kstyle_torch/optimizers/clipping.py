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
    norms = torch.stack(torch._foreach_norm(gradients))  # foreach takes a call for each
    factors = norms.clamp_(min=bound).reciprocal_().mul_(bound)
    return list(torch._foreach_mul(gradients, factors.unbind()))


def clip_by_global_norm(gradients: list[Tensor], bound: float) -> list[Tensor]:
    """All gradients scaled by one factor, so that their norm together is at most `bound`; NaN if it is not finite.

    Source: Pascanu et al. 2013.
    """
    if len(gradients) == 1:
        norm = torch.linalg.vector_norm(gradients[0])
    else:
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    factor = bound / norm.clamp(min=bound) + (norm - norm)
    return list(torch._foreach_mul(gradients, factor))
