"""MultiHeadAttention and GroupQueryAttention.

`B` batch and other axes without attention, `H` heads, `T` queries, `S` keys and values, `K` and `V` sizes of a head.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from kstyle_torch import constraints, initializers, regularizers
from kstyle_torch.layer.base import Layer, layer_registry
from kstyle_torch.layer.checks import known_size, positive_int
from kstyle_torch.layer.module_walk import set_unnoticed
from kstyle_torch.layer.shapes import Shape
from kstyle_torch.layers.attention.hooks import OVERRIDABLE, AttentionHooks
from kstyle_torch.layers.attention.kernel import attend, causal_mask, masked_softmax, spread_heads, window_mask
from kstyle_torch.layers.attention.projection import HeadProjection
from kstyle_torch.layers.regularization import Dropout

register = layer_registry.register
FLAGS = {"return_attention_scores", "use_causal_mask"}


class HeadAttention(AttentionHooks):
    """Base of the attention layers with heads: projections, masks, and the call.

    Call arguments:
        query: (batch, T, features).
        value: (batch, S, features).
        key: Likewise; the value if None.
        query_mask: (batch, T), True where a query counts; by default the mask of a masked input, as for the next two.
        value_mask: (batch, S), True where a value counts.
        key_mask: (batch, S), True where a key counts.
        attention_mask: (batch, T, S) or (batch, heads, T, S), True where a query may attend to a key.
        return_attention_scores: Whether to return the weights too, (batch, heads, T, S).
        training: The mode, for dropout.
        use_causal_mask: Whether a query attends only to its own and earlier steps.

    Args:
        num_heads: Number of heads of the query.
        num_key_value_heads: Number of heads of key and value.
        key_dim: Size of a head of query and key.
        value_dim: Size of a head of the value.
        output_sizes: Axes of the output; the query's features if None.
        attention_axes: Axes to attend over; all between batch and features if None.
        dropout: Share of the attention weights that is dropped in training.
        use_bias: Whether the projections have a bias.
        sliding_window: Range of attention around a query, itself included; unlimited if None.
        flash_attention: True to require the flash kernel; otherwise torch chooses.
        use_gate: Whether to multiply the heads by a sigmoid of a projection of the query.
        seed: Int for reproducible dropout. The weights are then computed explicitly, outside of torch's kernel.
        kernel_initializer: Of the projections' kernels.
        bias_initializer: Of their biases.
        kernel_regularizer: Penalty on the kernels.
        bias_regularizer: Penalty on the biases.
        activity_regularizer: Penalty on what the projections give.
        kernel_constraint: What the kernels are projected to after each step.
        bias_constraint: What the biases are projected to after each step.
    """

    supports_masking = True
    _resolves_mode = True

    def __init__(
        self,
        *,
        num_heads: int,
        num_key_value_heads: int,
        key_dim: int,
        value_dim: int,
        output_sizes: tuple[int, ...] | None,
        attention_axes: tuple[int, ...] | None,
        dropout: float,
        use_bias: bool,
        sliding_window: int | None,
        flash_attention: bool | None,
        use_gate: bool,
        seed: int | None,
        kernel_initializer: Any,
        bias_initializer: Any,
        kernel_regularizer: Any,
        bias_regularizer: Any,
        activity_regularizer: Any,
        kernel_constraint: Any,
        bias_constraint: Any,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.query_dense = self.key_dense = self.value_dense = self.output_dense = None  # created in build()
        self._sizes = (num_heads, num_key_value_heads, key_dim, value_dim)
        self._output_sizes, self.attention_axes = output_sizes, attention_axes
        self.dropout, self.seed = _rate(dropout, self), seed
        self.use_bias, self.use_gate, self.flash_attention = use_bias, use_gate, bool(flash_attention)
        self.sliding_window = None if sliding_window is None else positive_int(sliding_window, "sliding_window", self)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self._projection_options: dict[str, Any] = {
            "use_bias": use_bias,
            "kernel_initializer": self.kernel_initializer,
            "bias_initializer": self.bias_initializer,
            "kernel_regularizer": regularizers.get(kernel_regularizer),
            "bias_regularizer": regularizers.get(bias_regularizer),
            "activity_regularizer": regularizers.get(activity_regularizer),
            "kernel_constraint": constraints.get(kernel_constraint),
            "bias_constraint": constraints.get(bias_constraint),
            "dtype": self.dtype_policy,
        }
        if self.flash_attention and self.dropout:
            raise ValueError(
                f"{self.name}: flash attention does not support dropout; pass dropout=0 or flash_attention=False."
            )

    # ------------------------------------------------------------------------------------------------------- building

    def build(  # type: ignore[override]
        self, query_shape: Shape, value_shape: Shape, key_shape: Shape | None = None
    ) -> None:
        key_shape = value_shape if key_shape is None else key_shape
        self._check_shapes(query_shape, value_shape, key_shape)
        num_heads, num_key_value_heads, key_dim, value_dim = self._sizes
        rank = len(query_shape)
        outputs = self._output_sizes or (known_size(query_shape, -1, self),)
        self.query_dense = self._project("query", query_shape, (num_heads, key_dim))
        self.key_dense = self._project("key", key_shape, (num_key_value_heads, key_dim))
        if self.use_gate:
            self.gate_dense = self._project("gate", query_shape, (num_heads, value_dim), activation="sigmoid")
        self.value_dense = self._project("value", value_shape, (num_key_value_heads, value_dim))
        self._build_attention(rank + 1)  # in Keras' order, in which seeds are drawn
        heads_shape = (*query_shape[:-1], num_heads, value_dim)
        self.output_dense = self._project("attention_output", heads_shape, outputs, num_input_axes=2)
        # without its fused kernel, Keras returns 0 for queries that may not attend to anything
        self._empty_rows_are_zero = bool(self.dropout) or rank > 3

    def _check_shapes(self, query: Any, value: Any, key: Any) -> None:
        if len(query) < 3 or not len(query) == len(value) == len(key):
            raise ValueError(
                f"{self.name}: query, value and key must all be (batch, ..., features) with one axis or more between; "
                f"got shapes {query}, {value} and {key}."
            )
        if value[1:-1] != key[1:-1]:
            raise ValueError(
                f"{self.name}: value and key must have the same number of steps; got shapes {value} and {key}."
            )

    def _project(self, name: str, shape: Any, sizes: tuple[int, ...], **more: Any) -> HeadProjection:
        own = {name: _own(self._projection_options[name]) for name in ("kernel_initializer", "bias_initializer")}
        projection = HeadProjection(sizes, name=name, **self._projection_options | own, **more)
        self._build_child(projection, shape)
        return projection

    def _build_attention(self, rank: int) -> None:
        """Prepares the attention between the projections.

        It computes the permutations from heads (batch, ..., H, K) to (batch, others, H, attended, K), and back.

        Args:
            rank: Number of axes of the heads.
        """
        self.dropout_layer = Dropout(self.dropout, seed=self.seed, dtype=self.dtype_policy)
        rank -= 1
        attended = [axis % rank for axis in self.attention_axes or range(1, rank - 1)]
        others = [axis for axis in range(1, rank - 1) if axis not in attended]
        self._attended, self._turned_mask = tuple(attended), (0, *others, *attended)
        self._turned = (0, *others, rank - 1, *attended, rank)
        self._turned_back = tuple(sorted(range(rank + 1), key=self._turned.__getitem__))
        self._build_equations(rank + 1)

    def compute_output_shape(  # type: ignore[override]
        self, query_shape: Shape, value_shape: Shape, key_shape: Shape | None = None
    ) -> Shape:
        """Returns the output's shape for a query, value and key of these shapes."""
        self._check_shapes(query_shape, value_shape, value_shape if key_shape is None else key_shape)
        return (*query_shape[:-1], *(self._output_sizes or (query_shape[-1],)))

    # -------------------------------------------------------------------------------------------------------- calling

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # the fast path of `Layer` is for one tensor; this one is for several, and saves a third of a small call
        as_usual = self.built and self.__class__.call is self.__class__.forward
        if as_usual and len(args) > 1 and kwargs.keys() <= FLAGS:
            if all(type(x) is Tensor and not hasattr(x, "_keras_mask") for x in args):
                return nn.Module.__call__(self, *args, **kwargs)
        return super().__call__(*args, **kwargs)

    def forward(
        self,
        query: Tensor,
        value: Tensor,
        key: Tensor | None = None,
        query_mask: Tensor | None = None,
        value_mask: Tensor | None = None,
        key_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
        use_causal_mask: bool = False,
    ) -> Any:
        key = value if key is None else key
        training = self.training if training is None else training
        cls = type(self)
        methods = cls._compute_attention, cls._masked_softmax, cls._compute_attention_mask, cls._compute_causal_mask
        if self._has_own_hooks or methods not in OWN:
            given = (query_mask, value_mask, key_mask, attention_mask)
            return self._call_by_hooks(query, value, key, given, return_attention_scores, training, use_causal_mask)
        by_hand = return_attention_scores or (self.seed is not None and training and self.dropout > 0)
        masks = self._masks(query, value, query_mask, value_mask, key_mask, attention_mask)
        is_causal = use_causal_mask and not masks and not by_hand
        if use_causal_mask and not is_causal:
            masks.append(causal_mask(*self._lengths(query, value), query.device))
        mask = functools.reduce(operator.and_, masks) if masks else None
        heads = (
            self._turn(self.query_dense(query)),
            self._turn(self.key_dense(key)),
            self._turn(self.value_dense(value)),
        )
        if by_hand:
            y, scores = self._attend_by_hand(*heads, mask, training)
        else:
            y, scores = self._attend(*heads, mask, is_causal, training), None
        y = self._turn_back(y, query)
        y = self.output_dense(y * self.gate_dense(query) if self.use_gate else y)
        return (y, self._unfold_scores(scores, query, value)) if return_attention_scores else y

    def _call_by_hooks(
        self, query: Tensor, value: Tensor, key: Tensor, masks: Any, scores: bool, training: bool, use_causal_mask: bool
    ) -> Any:
        """Returns the output through the methods that a subclass overrides, in Keras' order and shapes."""
        names = ("query_mask", "value_mask", "key_mask", "attention_mask")
        given = dict(zip(names, masks, strict=True))
        mask = self._compute_attention_mask(query, value, use_causal_mask=use_causal_mask, **given)
        heads = self.query_dense(query), self.key_dense(key), self.value_dense(value)
        y, weights = self._compute_from_heads(*heads, mask, training, scores)
        y = self.output_dense(y * self.gate_dense(query) if self.use_gate else y)
        return (y, weights) if scores else y

    def _compute_from_heads(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, training: bool, scores: bool
    ) -> tuple[Tensor, Any]:
        return self._compute_attention(query, key, value, mask, training, scores)

    def _compute_attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None = None,
        training: bool | None = None,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> tuple[Tensor, Any]:
        """Returns the weighted values and, if they were computed explicitly, the weights. Subclasses may override it.

        Args:
            query: (batch, T, heads, size).
            key: (batch, S, heads, size).
            value: (batch, S, heads, size).
            attention_mask: (batch, T, S) or (batch, heads, T, S), True where a query may attend to a key.
            training: The mode, for dropout.
            return_attention_scores: Whether the weights are required, (batch, heads, T, S).
            use_causal_mask: Whether a query attends only to its own and earlier steps.
        """
        if use_causal_mask:
            causal = self._compute_causal_mask(query, value)
            attention_mask = causal if attention_mask is None else attention_mask.bool() & causal
        if self.dropout or return_attention_scores or query.ndim != 4:
            if self.flash_attention:
                raise ValueError(f"{self.name}: flash attention does not return scores; pass flash_attention=False.")
            return self._weigh_by_hooks(query, key, value, attention_mask, training)
        mask = None if attention_mask is None else self._fold_mask(attention_mask.bool(), query, value)
        y = self._attend(self._turn(query), self._turn(key), self._turn(value), mask, False, False)
        return self._turn_back(y, query), None

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, is_causal: bool, training: bool
    ) -> Tensor:
        dropout = self.dropout if training else 0.0
        y = attend(query, key, value, mask, is_causal=is_causal, dropout=dropout, flash=self.flash_attention)
        if mask is None or not self._empty_rows_are_zero:
            return y
        return y.masked_fill(~mask.any(-1, keepdim=True), 0.0)

    def _attend_by_hand(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, training: bool
    ) -> tuple[Tensor, Tensor]:
        """Returns the output and the weights, which torch's kernel does not return."""
        if self.flash_attention:
            raise ValueError(f"{self.name}: flash attention does not return scores; pass flash_attention=False.")
        scores = (query / math.sqrt(query.shape[-1])) @ spread_heads(key, query).mT
        weights = masked_softmax(scores, mask)
        weights = weights if mask is None else weights.masked_fill(~mask, 0.0)  # also for queries without any key
        return self.dropout_layer(weights, training=training) @ spread_heads(value, query), weights

    # ------------------------------------------------------------------------------------------- turning axes and masks

    def _turn(self, x: Tensor) -> Tensor:
        """Converts (batch, ..., H, K) to (B, H, T, K), with the attended axes flattened."""
        x = x.permute(self._turned)
        return x if len(self._attended) == 1 else x.flatten(-1 - len(self._attended), -2)

    def _turn_back(self, y: Tensor, query: Tensor) -> Tensor:
        y = y if len(self._attended) == 1 else y.unflatten(-2, self._attended_sizes(query))
        return y.permute(self._turned_back)

    def _unfold_scores(self, scores: Any, query: Tensor, value: Tensor) -> Tensor:
        if len(self._attended) == 1:
            return scores
        return scores.unflatten(-1, self._attended_sizes(value)).unflatten(
            -1 - len(self._attended), self._attended_sizes(query)
        )

    def _attended_sizes(self, x: Tensor) -> list[int]:
        return [x.shape[axis] for axis in self._attended]

    def _lengths(self, query: Tensor, value: Tensor) -> tuple[int, int]:
        return math.prod(self._attended_sizes(query)), math.prod(self._attended_sizes(value))

    def _masks(
        self,
        query: Tensor,
        value: Tensor,
        query_mask: Tensor | None,
        value_mask: Tensor | None,
        key_mask: Tensor | None,
        attention_mask: Tensor | None,
    ) -> list[Tensor]:
        """Returns the given masks and that of the sliding window, in shapes that broadcast to (B, H, T, S)."""
        masks = [] if query_mask is None else [self._turn_mask(query_mask).unsqueeze(-1)]
        masks += [self._turn_mask(mask).unsqueeze(-2) for mask in (value_mask, key_mask) if mask is not None]
        if attention_mask is not None:
            masks.append(self._fold_mask(attention_mask.bool(), query, value))
        if self.sliding_window is not None:
            masks.append(window_mask(*self._lengths(query, value), self.sliding_window, query.device))
        return masks

    def _turn_mask(self, mask: Tensor) -> Tensor:
        """Converts (batch, ...) to (B, 1, T) or (B, 1, S)."""
        turned = mask.bool().permute(self._turned_mask)
        return turned.flatten(-len(self._attended)).unsqueeze(-2)

    def _fold_mask(self, mask: Tensor, query: Tensor, value: Tensor) -> Tensor:
        """Converts (..., T, S), with or without batch and heads and with several axes each for T and S to (B, H, T, S)."""
        num_axes = len(self._attended)
        while mask.ndim < len(self._turned) - 1 + num_axes:
            mask = mask.unsqueeze(-2 * num_axes - 1)
        if num_axes == 1:
            return mask
        sizes = self._attended_sizes(query) + self._attended_sizes(value)
        mask = mask.expand(*mask.shape[: -2 * num_axes], *sizes)
        return mask.flatten(-num_axes).flatten(-1 - num_axes, -2)


@register()
class MultiHeadAttention(HeadAttention):
    """Means of the values for each query, weighted by the match of query and keys, in several heads.

    See `HeadAttention` for the call arguments; masks of masked inputs are used automatically.

    Args:
        num_heads: Number of heads.
        key_dim: Size of a head of query and key.
        value_dim: Size of a head of the value; `key_dim` if None.
        dropout: Share of the attention weights that is dropped in training.
        use_bias: Whether the projections have a bias.
        output_shape: Features of the output, an int or several axes; the query's if None.
        attention_axes: Axes to attend over; all between batch and features if None.
        sliding_window: Range of attention around a query, itself included; unlimited if None.
        flash_attention: True to require the flash kernel; otherwise torch chooses.
        kernel_initializer: Of the projections' kernels, Keras' shape (features, heads, size of a head).
        bias_initializer: Of their biases.
        kernel_regularizer: Penalty on the kernels.
        bias_regularizer: Penalty on the biases.
        activity_regularizer: Penalty on what the projections give.
        kernel_constraint: What the kernels are projected to after each step.
        bias_constraint: What the biases are projected to after each step.
        use_gate: Whether to multiply the heads by a sigmoid of a projection of the query.
        seed: Int for reproducible dropout; slower.
    Input shape: (batch, T, features) and (batch, S, features). Output shape: (batch, T, features).
    Raises: ValueError: if a size is not a positive int, or dropout or scores are asked of the flash kernel.
    Source: Vaswani et al. 2017; Qiu et al. 2025 (gate).

    Example:
        >>> x = torch.ones(2, 5, 8)
        >>> MultiHeadAttention(num_heads=2, key_dim=4)(x, x, use_causal_mask=True).shape
        torch.Size([2, 5, 8])
    """

    _saved_names = {"gate_dense": "_gate_dense"}

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        value_dim: int | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        output_shape: int | Sequence[int] | None = None,
        attention_axes: int | Sequence[int] | None = None,
        sliding_window: int | None = None,
        flash_attention: bool | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        use_gate: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ):
        self.num_heads = positive_int(num_heads, "num_heads", self)
        self.key_dim = positive_int(key_dim, "key_dim", self)
        self.value_dim = self.key_dim if value_dim is None else positive_int(value_dim, "value_dim", self)
        super().__init__(
            num_heads=self.num_heads,
            num_key_value_heads=self.num_heads,
            key_dim=self.key_dim,
            value_dim=self.value_dim,
            output_sizes=_ints(output_shape, "output_shape", self),
            attention_axes=_ints(attention_axes, "attention_axes", self),
            dropout=dropout,
            use_bias=use_bias,
            sliding_window=sliding_window,
            flash_attention=flash_attention,
            use_gate=use_gate,
            seed=seed,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
            **kwargs,
        )


@register(public_name="GroupQueryAttention")
class GroupedQueryAttention(HeadAttention):
    """Multi-head attention whose keys and values have fewer heads than the queries, each shared by several.

    See `HeadAttention` for the call arguments; masks of masked inputs are used automatically.

    Args:
        head_dim: Size of a head.
        num_query_heads: Number of heads of the query.
        num_key_value_heads: Number of heads of key and value; it divides `num_query_heads`.
        dropout: Share of the attention weights that is dropped in training.
        use_bias: Whether the projections have a bias.
        sliding_window: Range of attention around a query, itself included; unlimited if None.
        flash_attention: True to require the flash kernel; otherwise torch chooses.
        kernel_initializer: Of the projections' kernels, Keras' shape (features, heads, size of a head).
        bias_initializer: Of their biases.
        kernel_regularizer: Penalty on the kernels.
        bias_regularizer: Penalty on the biases.
        activity_regularizer: Penalty on what the projections give.
        kernel_constraint: What the kernels are projected to after each step.
        bias_constraint: What the biases are projected to after each step.
        use_gate: Whether to multiply the heads by a sigmoid of a projection of the query.
        seed: Int for reproducible dropout; slower.
    Input shape: (batch, T, features) and (batch, S, features). Output shape: (batch, T, features).
    Raises: ValueError: if a size is not a positive int, the heads cannot be shared evenly, or dropout or scores are asked of
        the flash kernel.
    Source: Ainslie et al. 2023.

    Example:
        >>> x = torch.ones(2, 5, 8)
        >>> GroupedQueryAttention(head_dim=4, num_query_heads=6, num_key_value_heads=2)(x, x).shape
        torch.Size([2, 5, 8])
    """

    _return_attention_scores = False
    _keys_first = False
    _saved_names = {f"{name}_dense": f"_{name}_dense" for name in ("query", "key", "value", "gate", "output")}

    def __init__(
        self,
        head_dim: int,
        num_query_heads: int,
        num_key_value_heads: int,
        dropout: float = 0.0,
        use_bias: bool = True,
        sliding_window: int | None = None,
        flash_attention: bool | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        use_gate: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ):
        self.head_dim = positive_int(head_dim, "head_dim", self)
        self.num_query_heads = positive_int(num_query_heads, "num_query_heads", self)
        self.num_key_value_heads = positive_int(num_key_value_heads, "num_key_value_heads", self)
        if num_query_heads % num_key_value_heads:
            raise ValueError(
                f"GroupQueryAttention: num_query_heads must be a multiple of num_key_value_heads; got {num_query_heads} "
                f"and {num_key_value_heads}."
            )
        super().__init__(
            num_heads=self.num_query_heads,
            num_key_value_heads=self.num_key_value_heads,
            key_dim=self.head_dim,
            value_dim=self.head_dim,
            output_sizes=None,
            attention_axes=None,
            dropout=dropout,
            use_bias=use_bias,
            sliding_window=sliding_window,
            flash_attention=flash_attention,
            use_gate=use_gate,
            seed=seed,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
            **kwargs,
        )

    def _compute_from_heads(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, training: bool, scores: bool
    ) -> tuple[Tensor, Any]:
        repeats = self.num_query_heads // self.num_key_value_heads
        key, value = (heads.repeat_interleave(repeats, dim=2) for heads in (key, value))
        set_unnoticed(self, _return_attention_scores=scores)  # read by methods with Keras' signatures
        return self._compute_attention(query, key, value, attention_mask=mask, training=training)

    def _compute_attention(  # type: ignore[override]
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None = None,
        training: bool | None = None,
        use_causal_mask: bool = False,
    ) -> tuple[Tensor, Any]:
        """Returns the weighted values and possibly the weights, after repeating the heads of key and value."""
        scores = self._return_attention_scores
        return super()._compute_attention(query, key, value, attention_mask, training, scores, use_causal_mask)


# methods that `forward` bypasses unless a subclass overrides one of them
OWN = {tuple(getattr(cls, name) for name in OVERRIDABLE) for cls in (MultiHeadAttention, GroupedQueryAttention)}
GroupQueryAttention = GroupedQueryAttention  # its public name


def _own(initializer: Any) -> Any:
    """Returns a copy of an initializer for each projection, since a seeded one returns the same numbers at each call."""
    return initializer.clone() if isinstance(initializer, initializers.Initializer) else initializer


def _rate(value: Any, layer: Layer) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError(f"{layer.name}: dropout must be a number from 0 to 1; got {value!r}.")
    return float(value)


def _ints(value: Any, name: str, layer: Layer) -> tuple[int, ...] | None:
    if value is None or value == ():
        return None
    values = (value,) if isinstance(value, int) else value
    if not isinstance(values, (tuple, list)) or not all(isinstance(item, int) for item in values):
        raise ValueError(f"{type(layer).__name__}: {name} must be an int or a tuple of ints; got {value!r}.")
    return tuple(values)
