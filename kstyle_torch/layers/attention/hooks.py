"""Parts of attention with heads that subclasses override or call, under Keras' names.

`B` batch and other axes without attention, `H` heads, `T` queries, `S` keys and values.
"""

from __future__ import annotations

import math
import string
from typing import Any

import torch
from torch import Tensor

from kstyle_torch.layer.base import Layer
from kstyle_torch.layer.module_walk import set_unnoticed
from kstyle_torch.layers.activation import Softmax
from kstyle_torch.layers.attention.kernel import causal_mask, window_mask

OVERRIDABLE = ("_compute_attention", "_masked_softmax", "_compute_attention_mask", "_compute_causal_mask")
ALIASES = {
    **{f"_{name}_dense": f"{name}_dense" for name in ("query", "key", "value", "gate", "output")},
    **{f"_{name}": name for name in ("dropout", "dropout_layer", "use_bias", "use_gate", "sliding_window")},
    **{f"_{name}": name for name in ("num_heads", "key_dim", "value_dim", "flash_attention")},
    **{f"_{name}": name for name in ("kernel_initializer", "bias_initializer")},
}  # Keras' name -> name here


class Alias:
    """Alias of an attribute; `AttentionHooks` sets the attribute when the alias is set.

    Args:
        name: The first name.
    """

    def __init__(self, name: str):
        self.name = name

    def __get__(self, layer: Any, owner: type) -> Any:
        return self if layer is None else getattr(layer, self.name)


class AttentionHooks(Layer):
    """Base of the attention layers with heads: masks, softmax and equations in the shapes that Keras' methods have."""

    _query_dense, _key_dense, _value_dense, _gate_dense, _output_dense = (
        Alias(f"{name}_dense") for name in ("query", "key", "value", "gate", "output")
    )
    _dropout, _dropout_layer, _use_bias, _use_gate = map(Alias, ("dropout", "dropout_layer", "use_bias", "use_gate"))
    _num_heads, _key_dim, _value_dim = map(Alias, ("num_heads", "key_dim", "value_dim"))
    _sliding_window, _flash_attention = map(Alias, ("sliding_window", "flash_attention"))
    _kernel_initializer, _bias_initializer = map(Alias, ("kernel_initializer", "bias_initializer"))

    query_dense: Any
    key_dense: Any
    value_dense: Any
    output_dense: Any
    dropout: float
    sliding_window: int | None
    _attended: tuple[int, ...]
    _has_own_hooks = False  # whether a method was replaced on this instance
    _keys_first = True  # order of operands in the equation of the scores

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(ALIASES.get(name, name), value)
        if name in OVERRIDABLE:
            set_unnoticed(self, _has_own_hooks=True)

    @property
    def _attention_axes(self) -> tuple[int, ...]:
        """The axes that are attended over."""
        return self._attended

    @property
    def _inverse_sqrt_key_dim(self) -> float:
        """The factor on the scores."""
        size: int = self.query_dense.output_sizes[-1]
        return 1.0 / math.sqrt(size)

    _inverse_sqrt_head_dim = _inverse_sqrt_key_dim

    def _build_equations(self, rank: int) -> None:
        """Sets the einsum equations of the scores and of their product with the values.

        Args:
            rank: Number of axes of the projected query, (batch, ..., H, K).
        """
        query = string.ascii_lowercase[:rank]
        others = iter(string.ascii_lowercase[rank:])
        key = "".join(next(others) if axis in self._attended else letter for axis, letter in enumerate(query))
        kept = "".join(query[axis] for axis in range(rank - 1) if axis not in self._attended)
        scores = kept + "".join(letters[axis] for letters in (query, key) for axis in self._attended)
        pair = (key, query) if self._keys_first else (query, key)
        self._dot_product_equation = f"{','.join(pair)}->{scores}"
        self._combine_equation = f"{scores},{key}->{query}"

    @property
    def _softmax(self) -> Softmax:
        """The softmax over the keys."""
        return Softmax(axis=tuple(range(-len(self._attended), 0)), dtype=self.dtype_policy)

    def _masked_softmax(self, attention_scores: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Returns the weights of scores (B, H, T, S), 0 where the mask, (B, T, S) or (B, H, T, S), is False."""
        while attention_mask is not None and attention_mask.ndim < attention_scores.ndim:
            attention_mask = attention_mask.unsqueeze(-2 * len(self._attended) - 1)
        return self._softmax(attention_scores, mask=attention_mask)

    def _compute_attention_mask(
        self,
        query: Tensor,
        value: Tensor,
        query_mask: Tensor | None = None,
        value_mask: Tensor | None = None,
        key_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        use_causal_mask: bool = False,
    ) -> Tensor | None:
        """Combines all masks to one of shape (B, T, S), or that of `attention_mask`; None without masks."""
        masks = [] if query_mask is None else [query_mask.bool().unsqueeze(-1)]
        masks += [mask.bool().unsqueeze(-2) for mask in (value_mask, key_mask) if mask is not None]
        if use_causal_mask:
            masks.append(self._compute_causal_mask(query, value))
        if self.sliding_window is not None:
            masks.append(window_mask(query.shape[1], value.shape[1], self.sliding_window, query.device).unsqueeze(0))
        merged = None if attention_mask is None else attention_mask.bool()
        for mask in masks:
            merged = mask if merged is None else merged & mask
        return merged

    def _compute_causal_mask(self, query: Tensor, value: Tensor | None = None) -> Tensor:
        """Returns the causal mask (1, T, S)."""
        value = query if value is None else value
        return causal_mask(query.shape[1], value.shape[1], query.device).unsqueeze(0)

    def _weigh_by_hooks(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, training: bool | None
    ) -> tuple[Tensor, Tensor]:
        """Returns the weighted values (batch, ..., H, V), and the weights, through `_masked_softmax`."""
        query = query * self._inverse_sqrt_key_dim
        scores = torch.einsum(self._dot_product_equation, *((key, query) if self._keys_first else (query, key)))
        weights = self._masked_softmax(scores, mask)
        kept = self._dropout_layer(weights, training=training) if self.dropout else weights
        return torch.einsum(self._combine_equation, kept, value), weights
