"""Attention layers."""

from kstyle_torch.layers.attention.heads import GroupQueryAttention, MultiHeadAttention
from kstyle_torch.layers.attention.vectors import AdditiveAttention, Attention

__all__ = ["AdditiveAttention", "Attention", "GroupQueryAttention", "MultiHeadAttention"]
