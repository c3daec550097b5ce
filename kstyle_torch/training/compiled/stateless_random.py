"""Stateless random numbers: functions of a key, so that a step with random layers is a pure function too."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from kstyle_torch import splitmix64
from kstyle_torch._torch import compiling
from kstyle_torch.layers.attention.kernel import causal_mask, masked_softmax, spread_heads

WHOLE = (-(2**63), 2**63 - 1)  # of int64


def draw_keys(number: int) -> Tensor:
    """Returns random keys for steps, drawn from torch's random state."""
    return torch.randint(*WHOLE, (number,), device="cpu")


class KeyedDraws(TorchFunctionMode):
    """Function mode in which dropout, uniform and normal numbers are functions of a key and of the number of calls so far.

    Args:
        key: Integer tensor.
    """

    def __init__(self, key: Tensor):
        super().__init__()
        self.key, self.calls = key, 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        own = OWN.get(function)
        if own is None or (kwargs and kwargs.get("generator") is not None):
            return function(*args, **(kwargs or {}))
        return own(self, *args, **(kwargs or {}))

    def _uniform(self, shape: Sequence[int]) -> Tensor:
        return splitmix64.uniform(shape, self._next_counter())

    def _next_counter(self) -> Tensor:
        counter = self.key + self.calls * splitmix64.PER_DRAW
        self.calls += 1
        return counter

    def _dropout(self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training or p == 0:
            return x
        kept = self._uniform(x.shape) >= p
        return x * (kept.to(x.dtype) * (1 / (1 - p) if p < 1 else 0.0))

    def _rand(self, *shape: Any, dtype: torch.dtype | None = None, **kwargs: Any) -> Tensor:
        uniform = self._uniform(_size(shape))
        return uniform if dtype is None else uniform.to(dtype)

    def _randn(self, *shape: Any, dtype: torch.dtype | None = None, **kwargs: Any) -> Tensor:
        normal = splitmix64.normal(_size(shape), self._next_counter())
        return normal if dtype is None else normal.to(dtype)

    def _rand_like(self, x: Tensor, **kwargs: Any) -> Tensor:
        return self._rand(*x.shape, dtype=kwargs.get("dtype") or x.dtype)

    def _randn_like(self, x: Tensor, **kwargs: Any) -> Tensor:
        return self._randn(*x.shape, dtype=kwargs.get("dtype") or x.dtype)

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        *,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """Computes attention with dropout without the fused kernel: (B, H, T, V)."""
        if not dropout_p:
            return F.scaled_dot_product_attention(
                query, key, value, attn_mask, is_causal=is_causal, scale=scale, enable_gqa=enable_gqa
            )
        key, value = spread_heads(key, query), spread_heads(value, query)
        scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
        if is_causal:
            attn_mask = causal_mask(query.shape[-2], key.shape[-2], query.device)
        if attn_mask is not None and attn_mask.dtype is not torch.bool:
            scores, attn_mask = scores + attn_mask, None
        return self._dropout(masked_softmax(scores, attn_mask), dropout_p) @ value


OWN: dict[Any, Callable[..., Tensor]] = {
    F.dropout: KeyedDraws._dropout,
    F.scaled_dot_product_attention: KeyedDraws._attention,
    torch.rand: KeyedDraws._rand,
    torch.randn: KeyedDraws._randn,
    torch.rand_like: KeyedDraws._rand_like,
    torch.randn_like: KeyedDraws._randn_like,
}


def _size(shape: tuple[Any, ...]) -> Sequence[int]:
    return shape if not shape or isinstance(shape[0], int) else tuple(shape[0])


@contextlib.contextmanager
def keyed(key: Tensor) -> Iterator[KeyedDraws]:
    """Makes layers draw as in compiled code, in few calls, with all random numbers computed from the key."""
    with compiling(), KeyedDraws(key) as draws:
        yield draws
