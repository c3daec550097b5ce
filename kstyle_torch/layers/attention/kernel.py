"""Scores, weights and masks of dot-product attention, over torch's fused kernel.

`B` batch and other axes without attention, `H` heads, `T` queries, `S` keys and values, `K` and `V` sizes of a head.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    *,
    is_causal: bool = False,
    scale: float | None = None,
    dropout: float = 0.0,
    flash: bool = False,
) -> Tensor:
    """Returns the values weighted by the softmax of the scores: (B, H, T, V).

    Args:
        query: (B, H, T, K).
        key: (B, H, S, K); it may have fewer heads than the query, each shared by consecutive ones.
        value: (B, H, S, V), likewise.
        mask: True where a query may attend to a key, broadcast to (B, H, T, S). A fully masked query attends uniformly.
        is_causal: Whether query `i` attends to keys up to `i` only; not with a mask.
        scale: Factor on the scores; one over the root of `K` if None.
        dropout: Share of the weights that is set to 0.
        flash: Whether to require the flash kernel; otherwise torch chooses.
    """
    choice: Any = sdpa_kernel(SDPBackend.FLASH_ATTENTION) if flash else contextlib.nullcontext()
    with choice:
        if mask is None:
            shares = query.shape[-3] != key.shape[-3]
            return F.scaled_dot_product_attention(
                query, key, value, dropout_p=dropout, is_causal=is_causal, scale=scale, enable_gqa=shares
            )
        # fused kernels support shared heads only without a mask
        key, value = spread_heads(key, query), spread_heads(value, query)
        # kernels return NaN for fully masked rows or, with a penalty that absorbs the scores, gradients that are too large
        blind = ~mask.any(-1, keepdim=True)
        y = F.scaled_dot_product_attention(query, key, value, mask | blind, dropout, scale=scale)
    return torch.where(blind, value.mean(-2, keepdim=True), y)


def spread_heads(x: Tensor, query: Tensor) -> Tensor:
    """Repeats heads up to the number of the query's heads."""
    repeats = query.shape[-3] // x.shape[-3]
    return x if repeats == 1 else x.repeat_interleave(repeats, dim=-3)


def masked_softmax(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Returns the masked softmax over the last axis; uniform for fully masked rows."""
    return (scores if mask is None else scores.masked_fill(~mask, torch.finfo(scores.dtype).min)).softmax(-1)


def causal_mask(num_queries: int, num_keys: int, device: torch.device) -> Tensor:
    """Returns the causal mask (T, S)."""
    return torch.ones(num_queries, num_keys, dtype=torch.bool, device=device).tril()


def window_mask(num_queries: int, num_keys: int, window: int, device: torch.device) -> Tensor:
    """Returns the mask (T, S) of keys less than `window` steps from the query, in both directions."""
    query = torch.arange(num_queries, device=device).unsqueeze(-1)
    return (query - torch.arange(num_keys, device=device)).abs() < window
