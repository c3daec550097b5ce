"""Attention over given queries, keys and values."""

from __future__ import annotations

import contextlib
import functools

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from kstyle_torch.ops.operation import TensorLike, operation

__all__ = ["dot_product_attention"]


@operation
def dot_product_attention(
    query: TensorLike,
    key: TensorLike,
    value: TensorLike,
    bias: TensorLike = None,
    mask: TensorLike = None,
    scale: float | None = None,
    is_causal: bool = False,
    flash_attention: bool | None = None,
    attn_logits_soft_cap: float | None = None,
) -> Tensor:
    """Returns `softmax(query @ key.T * scale + bias) @ value`, for every head.

    Args:
        query: (batch, time, heads, features).
        key: (batch, other time, key heads, features); `heads` is a multiple of `key heads`.
        value: Shaped like `key`.
        bias: Added to the logits; broadcasts to (batch, heads, time, other time).
        mask: Bool, broadcast likewise: True where attention is allowed; a query with nothing allowed takes the mean.
        scale: Factor of the logits; `1 / sqrt(features)` if None.
        is_causal: Whether a step attends only to itself and earlier steps.
        flash_attention: True requires the flash kernel; otherwise torch chooses.
        attn_logits_soft_cap: Not supported here.
    Returns: (batch, time, heads, features).
    Raises: ValueError: if a rank is not 4, or both `bias` and `mask` are given.
    Source: Vaswani et al. 2017.

    Example:
        >>> x = torch.ones(2, 5, 4, 8)
        >>> ops.dot_product_attention(x, x, x, is_causal=True).shape
        torch.Size([2, 5, 4, 8])
    """
    if attn_logits_soft_cap is not None:
        raise ValueError("dot_product_attention: attn_logits_soft_cap is not supported; leave it None.")
    if bias is not None and mask is not None:
        raise ValueError("dot_product_attention: pass bias or mask, not both; add the mask to the bias.")
    tensors = query, key, value
    if any(x.ndim != 4 for x in tensors):
        shapes = [tuple(x.shape) for x in tensors]
        raise ValueError(f"dot_product_attention: expected (batch, time, heads, features) three times; got {shapes}.")
    dtype = functools.reduce(torch.promote_types, (x.dtype for x in tensors))
    q, k, v = (x.to(dtype).transpose(1, 2) for x in tensors)
    added = _added_logits(bias, mask, is_causal, q, k)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION) if flash_attention else contextlib.nullcontext():
        y = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=added,
            is_causal=is_causal and added is None,
            scale=scale,
            enable_gqa=q.shape[1] != k.shape[1],
        )
    return y.transpose(1, 2)


def _added_logits(bias: Tensor | None, mask: Tensor | None, is_causal: bool, q: Tensor, k: Tensor) -> Tensor | None:
    """Returns the additive mask; finite where masked, since a row of minus infinities would become NaN."""
    if bias is None and mask is None:
        return None  # torch's causal kernels need no mask
    lowest = 0.7 * torch.finfo(q.dtype).min
    allowed = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device)
    allowed = allowed.tril() if is_causal else allowed
    if mask is not None:
        allowed = allowed & mask.bool()
    logits = torch.zeros((), dtype=q.dtype, device=q.device) if bias is None else bias.to(q.dtype)
    return logits.where(allowed, lowest)
