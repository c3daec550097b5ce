"""Attention and AdditiveAttention, without heads or projections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kstyle_torch.layer.base import Layer, layer_registry
from kstyle_torch.layer.casts import INTEGERS
from kstyle_torch.layer.checks import known_size
from kstyle_torch.layer.shapes import Shape
from kstyle_torch.layers.attention.kernel import attend, causal_mask, masked_softmax
from kstyle_torch.layers.regularization import Dropout
from kstyle_torch.mode import takes_training

register = layer_registry.register


@register()
class Attention(Layer):
    """Means of the values for each query, weighted by the softmax of the products of query and keys.

    Call arguments:
        inputs: A list of query (batch, T, features), value (batch, S, features) and maybe key; the value is the key too if
            there is none.
        mask: A list of their masks or None: (batch, T), where it is False the output is 0; (batch, S), where it is False
            no query sees the value.
        training: The mode, for dropout.
        return_attention_scores: Whether to return the weights too, (batch, T, S).
        use_causal_mask: Whether a query attends only to its own and earlier steps.

    Args:
        use_scale: Whether the scores have a trainable factor.
        score_mode: `"dot"` for products, `"concat"` for the sum of tanh(query + key).
        dropout: Share of the weights that is dropped in training.
        seed: Int for reproducible dropout.
    Output shape: (batch, T, features of the value).
    Raises: ValueError: for another `score_mode`, or if the inputs are not a list of two or three tensors.
    Source: Luong et al. 2015.

    Example:
        >>> Attention()([torch.ones(2, 5, 8), torch.ones(2, 3, 8)]).shape
        torch.Size([2, 5, 8])
    """

    def __init__(
        self,
        use_scale: bool = False,
        score_mode: str = "dot",
        dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if score_mode not in ("dot", "concat"):
            raise ValueError(f"{self.name}: score_mode must be 'dot' or 'concat'; got {score_mode!r}.")
        self.use_scale, self.score_mode, self.seed = use_scale, score_mode, seed
        self.dropout_layer = Dropout(dropout, seed=seed, name="dropout", dtype=self.dtype_policy)
        self.dropout = self.dropout_layer.rate

    _resolves_mode = True
    _training_default = False

    def build(self, input_shape: Sequence[Shape]) -> None:
        self._check_inputs(input_shape)
        self.scale = self.add_weight(name="scale", shape=(), initializer="ones") if self.use_scale else None
        if self.score_mode == "concat":
            self.concat_score_weight = self.add_weight(name="concat_score_weight", shape=(), initializer="ones")

    def _check_inputs(self, shapes: Any) -> None:
        if not isinstance(shapes, (list, tuple)) or not all(isinstance(shape, (list, tuple)) for shape in shapes):
            raise ValueError(
                f"{self.name}: expected a list, [query, value] or [query, value, key]; got shape {shapes}."
            )
        if len(shapes) not in (2, 3):
            raise ValueError(f"{self.name}: expected two or three tensors; got {len(shapes)}.")

    @takes_training(False)
    def forward(
        self,
        inputs: Sequence[Tensor],
        mask: Sequence[Tensor | None] | None = None,
        training: bool | None = None,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> Any:
        inputs = [x.to(self._compute_dtype) if x.dtype in INTEGERS else x for x in inputs]
        query, value = inputs[:2]
        key = inputs[2] if len(inputs) > 2 else value
        query_mask, value_mask = mask[:2] if mask else (None, None)
        training = self._mode_of_call(training)
        draws = training and self.dropout > 0
        fused = self._is_product() and not return_attention_scores and not (draws and self.seed is not None)
        is_causal = fused and use_causal_mask and value_mask is None
        visible = None if value_mask is None else value_mask.bool().unsqueeze(-2)
        if use_causal_mask and not is_causal:
            causal = causal_mask(query.shape[-2], key.shape[-2], query.device)
            visible = causal if visible is None else visible & causal
        y, weights = (
            self._attend(query, key, value, visible, is_causal, training)
            if fused
            else self._weigh(query, key, value, visible, training)
        )
        if query_mask is not None:
            y = y.masked_fill(~query_mask.bool().unsqueeze(-1), 0.0)
        return (y, weights) if return_attention_scores else y

    def _is_product(self) -> bool:
        return self.score_mode == "dot"

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None, is_causal: bool, training: bool
    ) -> tuple[Tensor, None]:
        query = query if self.scale is None else query * self.scale
        visible = visible.unsqueeze(-3) if visible is not None and visible.ndim > 2 else visible
        heads = (query.unsqueeze(-3), key.unsqueeze(-3), value.unsqueeze(-3))
        dropout = self.dropout if training else 0.0
        return attend(*heads, visible, is_causal=is_causal, scale=1.0, dropout=dropout).squeeze(-3), None

    def _weigh(
        self, query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None, training: bool
    ) -> tuple[Tensor, Tensor]:
        weights = self.dropout_layer(masked_softmax(self._scores(query, key), visible), training=training)
        return weights @ value, weights

    def _scores(self, query: Tensor, key: Tensor) -> Tensor:
        if self.score_mode == "dot":
            scores = query @ key.mT
            return scores if self.scale is None else scores * self.scale
        sums = query.unsqueeze(-2) + key.unsqueeze(-3)
        sums = sums if self.scale is None else sums * self.scale
        return self.concat_score_weight * torch.tanh(sums).sum(-1)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return mask[0] if mask else None


@register()
class AdditiveAttention(Attention):
    """Attention whose scores are sums of tanh(query + key), with a trainable factor for each feature.

    Args:
        use_scale: Whether there are factors, shape (features,).
        dropout: Share of the weights that is dropped in training.
        seed: Int for reproducible dropout.
    Source: Bahdanau et al. 2015.

    Example:
        >>> AdditiveAttention()([torch.ones(2, 5, 8), torch.ones(2, 3, 8)]).shape
        torch.Size([2, 5, 8])
    """

    def __init__(self, use_scale: bool = True, dropout: float = 0.0, **kwargs: Any):
        super().__init__(use_scale=use_scale, dropout=dropout, **kwargs)

    def build(self, input_shape: Sequence[Shape]) -> None:
        self._check_inputs(input_shape)
        self.scale = None
        if self.use_scale:
            self.scale = self.add_weight(name="scale", shape=(known_size(input_shape[0], -1, self),))

    def _is_product(self) -> bool:
        return False

    def _scores(self, query: Tensor, key: Tensor) -> Tensor:
        sums = torch.tanh(query.unsqueeze(-2) + key.unsqueeze(-3))
        return sums.sum(-1) if self.scale is None else sums @ self.scale
