"""StringLookup: indices of strings in a vocabulary."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kstyle_torch.layer.base import layer_registry
from kstyle_torch.layer.module_walk import set_unnoticed
from kstyle_torch.layers.preprocessing.fingerprint import hash_text
from kstyle_torch.layers.preprocessing.lookup import MISSING, IndexLookup, read_lines
from kstyle_torch.layers.preprocessing.text import TextLayer, as_texts

register = layer_registry.register


@register()
class StringLookup(TextLayer, IndexLookup):
    """Conversion of strings to their indices in a vocabulary, or back. It is called on text before the model.

    Args:
        max_tokens: As in `IndexLookup`, as are all others.
        mask_token: Padding string.
        oov_token: Result for unknown indices with `invert=True`.
        encoding: Encoding of bytes and of a vocabulary file.
    Input shape: any, of strings; with `invert=True` of indices, and the output is a NumPy array of strings.
    Raises: TypeError: if it is called on anything but text, a symbolic tensor for instance.

    Example:
        >>> layer = StringLookup(vocabulary=["a", "b", "c"])
        >>> layer([["a", "c", "z"]])
        tensor([[1, 3, 0]])
        >>> StringLookup(vocabulary=layer.get_vocabulary(), invert=True)([1, 3, 0])
        array(['a', 'c', '[UNK]'], dtype=object)
    """

    def __init__(
        self,
        max_tokens: int | None = None,
        num_oov_indices: int = 1,
        mask_token: str | None = None,
        oov_token: str | None = "[UNK]",
        vocabulary: Any = None,
        idf_weights: Any = None,
        invert: bool = False,
        output_mode: str = "int",
        pad_to_max_tokens: bool = False,
        sparse: bool = False,
        encoding: str = "utf-8",
        name: str | None = None,
        salt: int | Sequence[int] | None = None,
        **kwargs: Any,
    ):
        self.encoding = encoding
        kwargs.pop("vocabulary_dtype", None)
        super().__init__(
            max_tokens=max_tokens,
            num_oov_indices=num_oov_indices,
            mask_token=mask_token,
            oov_token=oov_token,
            vocabulary=vocabulary,
            idf_weights=idf_weights,
            invert=invert,
            output_mode=output_mode,
            sparse=sparse,
            pad_to_max_tokens=pad_to_max_tokens,
            salt=salt,
            name=name,
            **kwargs,
        )

    def _as_tokens(self, data: Any) -> tuple[list[Any], tuple[int, ...]]:
        return as_texts(data, self.encoding, self)

    def _read(self, path: Any) -> list[Any]:
        return read_lines(path, self.encoding)

    def _prepare(self) -> None:
        set_unnoticed(self, _table=self._indices())

    def forward(self, inputs: Any) -> Any:
        if self.invert:
            return self._strings_at(inputs)
        texts = as_texts(inputs, self.encoding, self)
        indices = torch.from_numpy(self.indices_of(texts.flat).reshape(texts.shape))
        return self._encode(indices.to(self.place.device))

    def indices_of(self, tokens: Sequence[str]) -> np.ndarray:
        """Returns the index of each token; -1 for the mask token if it does not count."""
        self._need_vocabulary(len(tokens))
        # a dict's own get, called from C, is several times faster than sorting the strings for np.unique
        found = map(self._table.get, tokens, itertools.repeat(MISSING))
        indices = np.fromiter(found, np.int64, len(tokens))
        missing = np.flatnonzero(indices == MISSING)
        if len(missing):
            indices[missing] = self._unknown([tokens[number] for number in missing.tolist()])
        return indices

    def _unknown(self, tokens: list[str]) -> Any:
        if self.num_oov_indices == 0:
            self._refuse_unknown(tokens)
        if self.num_oov_indices == 1:
            return self._oov_start()
        bins = hash_text(tokens, self.salt) % np.uint64(self.num_oov_indices)
        return bins.astype("int64") + self._oov_start()

    def _strings_at(self, x: Any) -> np.ndarray:
        indices = x.detach().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)
        self._need_vocabulary(indices.size)
        table = np.array([*self.get_vocabulary(), self.oov_token], dtype=object)
        unknown = len(table) - 1
        return table[np.where((indices >= 0) & (indices < unknown), indices, unknown).astype("int64")]
