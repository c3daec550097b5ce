"""Embedding and ReversibleEmbedding."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kstyle_torch import constraints, initializers, regularizers
from kstyle_torch.errors import OutOfRangeError
from kstyle_torch.initializers import DType, as_dtype
from kstyle_torch.layer.base import layer_registry
from kstyle_torch.layer.checks import positive_int, refuse_quantization
from kstyle_torch.layer.layout import permuted
from kstyle_torch.layer.lora import AdaptedWeight, LoraLayer
from kstyle_torch.layer.weights import Weight, native
from kstyle_torch.symbolic.infer import probing

register = layer_registry.register


@register()
class Embedding(LoraLayer):
    """Table with a trained vector for each integer.

    Args:
        input_dim: Size of the vocabulary: indices go from 0 to `input_dim - 1`.
        output_dim: Size of a vector.
        embeddings_initializer: Of the table, shape (input_dim, output_dim).
        embeddings_regularizer: Penalty on the table.
        embeddings_constraint: What the table is projected to after each step.
        mask_zero: Whether 0 is padding, which later layers and the loss ignore.
        weights: Initial table, or a list with it.
        lora_rank: Rank of the two LoRA factors that are trained instead of the table; no LoRA if None.
        lora_alpha: Their product is scaled by `lora_alpha / lora_rank`; by 1 if None.
        quantization_config: Must be None; quantization is not supported yet.
        input_length: Older spelling of `input_shape=(input_length,)`.
    Input shape: (batch, ...), whole numbers. Output shape: (batch, ..., output_dim).
    Raises: ValueError: if a number in a call is not in the table.

    Example:
        >>> Embedding(10, 4)(torch.tensor([[1, 2, 3]])).shape
        torch.Size([1, 3, 4])
    """

    integer_inputs = True
    _autocast = False  # half precision would round indices
    embeddings = AdaptedWeight("embedding.weight")
    _lora_target = "embeddings"

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        weights: Any = None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        quantization_config: Any = None,
        *,
        input_length: int | None = None,
        **kwargs: Any,
    ):
        if input_length is not None:
            kwargs.setdefault("input_shape", (input_length,))
        super().__init__(lora_rank=lora_rank, lora_alpha=lora_alpha, **kwargs)
        refuse_quantization(quantization_config, self)
        self.input_dim = positive_int(input_dim, "input_dim", self)
        self.output_dim = positive_int(output_dim, "output_dim", self)
        self.embeddings_initializer = initializers.get(embeddings_initializer)
        self.embeddings_regularizer = regularizers.get(embeddings_regularizer)
        self.embeddings_constraint = constraints.get(embeddings_constraint)
        self.mask_zero = self.supports_masking = self._makes_mask = mask_zero
        if weights is not None:
            self._start_from(weights)

    def _start_from(self, weights: Any) -> None:
        table = weights[0] if isinstance(weights, (list, tuple)) and len(weights) == 1 else weights
        if np.shape(table) != (self.input_dim, self.output_dim):
            raise ValueError(
                f"{self.name}: weights must be a table of shape {(self.input_dim, self.output_dim)}; "
                f"got shape {np.shape(table)}."
            )
        self._arguments["weights"] = None  # configs hold no weights
        self.build()
        self._target_view().assign(table)

    @property
    def variable_serialization_spec(self) -> dict[str | None, list[str]]:
        """The names of the weights in files, in their order, by quantization mode; None is the only one so far."""
        return {None: ["embeddings"]}

    def build(self, input_shape: Any = None) -> None:
        self.embedding = native(nn.Embedding, self.input_dim, self.output_dim, dtype=self._dtype)
        self.initialize(embeddings=self.embeddings_initializer)
        self._build_lora()

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.dtype is not torch.int64 and inputs.dtype is not torch.int32:
            inputs = inputs.long()
        if probing.active:  # made-up indices may be out of range, which would end the process on a GPU
            inputs = inputs.clamp(0, self.input_dim - 1)
        try:
            y = self.embedding(inputs)
        except IndexError:
            worst = int(inputs.min()) if int(inputs.min()) < 0 else int(inputs.max())
            raise OutOfRangeError(
                f"{self.name}: index {worst} is out of range; with input_dim={self.input_dim} indices "
                f"go from 0 to {self.input_dim - 1}."
            ) from None
        if self.lora_enabled:
            a, b = self._thin_matrices(y.dtype)
            y = y + F.embedding(inputs, a) @ b
        return y if y.dtype is self._compute_dtype else y.to(self._compute_dtype)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return inputs != 0 if self.mask_zero else None


@register()
class ReversibleEmbedding(Embedding):
    """An embedding with an inverse: `layer(x, reverse=True)` projects vectors to a score for each index.

    Args:
        input_dim: Size of the vocabulary: indices go from 0 to `input_dim - 1`.
        output_dim: Size of a vector.
        tie_weights: Whether the inverse uses the same table; otherwise it has its own, `reverse_embeddings`.
        embeddings_initializer: Of the tables, shape (input_dim, output_dim) and (output_dim, input_dim).
        embeddings_regularizer: Penalty on the table.
        embeddings_constraint: What the table is projected to after each step.
        mask_zero: Whether 0 is padding, which later layers and the loss ignore.
        reverse_dtype: Compute dtype of the inverse; the layer's if None.
        logit_soft_cap: If given, the scores become `tanh(scores / logit_soft_cap) * logit_soft_cap`.
    Input shape: (batch, ...), whole numbers; (batch, ..., output_dim) with `reverse`.
    Output shape: (batch, ..., output_dim); (batch, ..., input_dim) with `reverse`.
    Source: Press & Wolf 2017.

    Example:
        >>> layer = ReversibleEmbedding(10, 4)
        >>> layer(layer(torch.tensor([[1, 2, 3]])), reverse=True).shape
        torch.Size([1, 3, 10])
    """

    reverse_embeddings = Weight("projection.weight", permuted(1, 0))

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        tie_weights: bool = True,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        reverse_dtype: DType = None,
        logit_soft_cap: float | None = None,
        **kwargs: Any,
    ):
        self.tie_weights = tie_weights  # set first, since the base class builds immediately if it is given weights
        super().__init__(
            input_dim,
            output_dim,
            embeddings_initializer,
            embeddings_regularizer,
            embeddings_constraint,
            mask_zero,
            **kwargs,
        )
        self.reverse_dtype = None if reverse_dtype is None else as_dtype(reverse_dtype)
        self.logit_soft_cap = logit_soft_cap

    @property
    def variable_serialization_spec(self) -> dict[str | None, list[str]]:
        """The names of the weights in files, in their order, by quantization mode; None is the only one so far."""
        return {None: ["embeddings"] + ["reverse_embeddings"] * (not self.tie_weights)}

    def compute_output_shape(self, input_shape: Any, reverse: bool = False) -> Any:
        """Returns the output's shape, with `reverse` that of the inverse."""
        return (*(input_shape[:-1] if reverse else input_shape), self.input_dim if reverse else self.output_dim)

    def build(self, input_shape: Any = None) -> None:
        super().build(input_shape)
        if not self.tie_weights:
            self.projection = native(nn.Linear, self.output_dim, self.input_dim, False, dtype=self._dtype)
            self.initialize(reverse_embeddings=self.embeddings_initializer)

    def forward(self, inputs: Tensor, reverse: bool = False) -> Tensor:
        if not reverse:
            return super().forward(inputs)
        matrix = self._table() if self.tie_weights else self.projection.weight
        dtype = self._compute_dtype if self.reverse_dtype is None else self.reverse_dtype
        inputs, matrix = inputs.to(dtype), matrix.to(dtype)
        scores = F.linear(inputs, matrix)
        cap = self.logit_soft_cap
        return scores if cap is None else torch.tanh(scores / cap) * cap

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        if isinstance(inputs, Tensor) and inputs.is_floating_point():
            return None  # vectors, for the inverse
        return super().compute_mask(inputs, mask)

    def _symbolic_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        outputs = super()._symbolic_call(args, kwargs)
        if kwargs.get("reverse") or args[1:2] == (True,):
            outputs.mask = None
        return outputs

    def _table(self) -> Tensor:
        table = self.embedding.weight
        if self.lora_enabled:
            a, b = self._thin_matrices(table.dtype)
            table = table + a @ b
        return table
