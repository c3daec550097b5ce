"""IntegerLookup: indices of integers in a vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kstyle_torch._torch import is_compiling
from kstyle_torch.layer.base import layer_registry
from kstyle_torch.layers.preprocessing.data_layer import as_array
from kstyle_torch.layers.preprocessing.fingerprint import hash_text
from kstyle_torch.layers.preprocessing.lookup import MISSING, IndexLookup, read_lines

register = layer_registry.register


@register()
class IntegerLookup(IndexLookup):
    """Conversion of integers to their indices in a vocabulary, or back; it can be compiled, and part of a model.

    Args:
        max_tokens: As in `IndexLookup`, as are all others.
        mask_token: Number of the padding.
        oov_token: Result for unknown indices with `invert=True`.
        vocabulary_dtype: `"int64"`.

    Example:
        >>> layer = IntegerLookup(vocabulary=[12, 36, 1138])
        >>> layer([[12, 1138, 7]])
        tensor([[1, 3, 0]])
        >>> layer.get_vocabulary()
        [-1, 12, 36, 1138]
    """

    def __init__(
        self,
        max_tokens: int | None = None,
        num_oov_indices: int = 1,
        mask_token: int | None = None,
        oov_token: int | None = -1,
        vocabulary: Any = None,
        vocabulary_dtype: str = "int64",
        idf_weights: Any = None,
        invert: bool = False,
        output_mode: str = "int",
        sparse: bool = False,
        pad_to_max_tokens: bool = False,
        oov_method: str = "floormod",
        salt: int | Sequence[int] | None = None,
        name: str | None = None,
        **kwargs: Any,
    ):
        if str(vocabulary_dtype).removeprefix("torch.") != "int64":
            raise ValueError(f"IntegerLookup: vocabulary_dtype must be 'int64'; got {vocabulary_dtype!r}.")
        if salt is not None and oov_method != "farmhash":
            raise ValueError(f"IntegerLookup: a salt needs oov_method='farmhash'; got {oov_method!r}.")
        if invert and oov_token is None:
            raise ValueError("IntegerLookup: invert=True needs an oov_token.")
        super().__init__(
            max_tokens=max_tokens,
            num_oov_indices=num_oov_indices,
            mask_token=None if mask_token is None else int(mask_token),
            oov_token=None if oov_token is None else int(oov_token),
            vocabulary=vocabulary,
            idf_weights=idf_weights,
            invert=invert,
            output_mode=output_mode,
            sparse=sparse,
            pad_to_max_tokens=pad_to_max_tokens,
            oov_method=oov_method,
            salt=salt,
            name=name,
            **kwargs,
        )

    def _as_tokens(self, data: Any) -> tuple[list[Any], tuple[int, ...]]:
        array = data.detach().cpu().numpy() if isinstance(data, Tensor) else as_array(data)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{self.name} works on integers; got {array.dtype}. Use StringLookup for text.")
        return array.astype("int64").ravel().tolist(), array.shape

    def _read(self, path: Any) -> list[Any]:
        return [int(line) for line in read_lines(path)]

    def _prepare(self) -> None:
        if self.invert:
            self._set_buffer("tokens", torch.tensor([*self.get_vocabulary(), self.oov_token]))
            return
        table = self._indices() or {0: MISSING}
        keys, order = torch.tensor(list(table)).sort()
        self._set_buffer("keys", keys)
        self._set_buffer("indices", torch.tensor(list(table.values()))[order])

    def forward(self, inputs: Tensor) -> Tensor:
        self._need_vocabulary(inputs.numel())
        inputs = inputs.long().contiguous()
        if self.invert:
            tokens = self.tokens.to(inputs.device)
            unknown = len(tokens) - 1
            return tokens[torch.where((inputs >= 0) & (inputs < unknown), inputs, unknown)]
        keys = self.keys.to(inputs.device)
        places = torch.searchsorted(keys, inputs).clamp_max(len(keys) - 1)
        indices = torch.where(keys[places] == inputs, self.indices.to(inputs.device)[places], MISSING)
        return self._encode(torch.where(indices == MISSING, self._unknown(inputs, indices), indices))

    def _unknown(self, x: Tensor, indices: Tensor) -> Any:
        """Returns the indices that the numbers have if they are not in the vocabulary."""
        start = self._oov_start()
        if self.num_oov_indices == 0 and not is_compiling():
            unknown = x[indices == MISSING].tolist()  # the host waits: a check was requested
            if unknown:
                self._refuse_unknown(unknown)
        if self.num_oov_indices <= 1:
            return torch.full_like(x, start if self.num_oov_indices else MISSING)
        if self.oov_method == "floormod":
            return x.remainder(self.num_oov_indices) + start
        hashes = hash_text([str(number) for number in x.flatten().tolist()], self.salt)
        bins = (hashes % np.uint64(self.num_oov_indices)).astype("int64").reshape(x.shape)
        return torch.from_numpy(bins).to(x.device) + start
