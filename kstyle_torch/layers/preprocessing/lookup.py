"""Base of IntegerLookup and StringLookup: a vocabulary, learned or given, and the encoding of its indices."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kstyle_torch import budget, config
from kstyle_torch.layer.module_walk import set_unnoticed
from kstyle_torch.layers.preprocessing.data_layer import DataLayer, as_array, batches_of, is_one_array
from kstyle_torch.layers.preprocessing.encoding import check_output_mode, encode, refuse_sparse

BYTES_A_TOKEN = 100  # in a list and in a table, without the text
DROPPED = -1  # index of tokens that do not count: the mask token in vectors
MISSING = -2  # intermediate index of tokens that are not in the vocabulary


class IndexLookup(DataLayer):
    """Conversion of tokens to their indices in a vocabulary, or back.

    Index 0 is the mask token, if there is one and the output mode is "int"; the next `num_oov_indices` are for tokens that
    are not in the vocabulary. The vocabulary is part of the config, not of the state dict.

    Args:
        max_tokens: Largest size of the vocabulary, including special tokens; no limit if None.
        num_oov_indices: Number of indices for unknown tokens, which a hash distributes over them. With 0, unknown tokens are
            an error.
        mask_token: Padding token: it has index 0, and does not count in vectors. None for no padding.
        oov_token: Result for unknown indices with `invert=True`.
        vocabulary: Tokens, most frequent first, with or without leading special tokens; or the path of a file with one
            per line. `adapt` learns it if None.
        idf_weights: A weight for each token, for mode "tf_idf".
        invert: Whether to convert indices to tokens.
        output_mode: `"int"` for indices, or vectors as `CategoryEncoding` makes them: `"one_hot"`, `"multi_hot"`,
            `"count"`, or `"tf_idf"` (counts times inverse document frequency).
        pad_to_max_tokens: Whether vectors have length `max_tokens` instead of that of the vocabulary.
        sparse: Not supported.
        oov_method: Distribution of unknown integers over indices: `"floormod"` (remainder) or `"farmhash"`.
        salt: One or two ints, the secret key of the hash.
    Input shape: any. Output shape: that of the input in mode "int", or as in `CategoryEncoding`.
    Raises: ValueError: for a token that occurs twice or a vocabulary longer than `max_tokens`.
    """

    integer_inputs = True
    _autocast = False

    def __init__(
        self,
        *,
        max_tokens: int | None,
        num_oov_indices: int,
        mask_token: Any,
        oov_token: Any,
        vocabulary: Any,
        idf_weights: Any,
        invert: bool,
        output_mode: str,
        sparse: bool,
        pad_to_max_tokens: bool,
        salt: int | Sequence[int] | None,
        oov_method: str = "floormod",
        **kwargs: Any,
    ):
        adaptable = not kwargs.pop("has_input_vocabulary", vocabulary is not None)
        expected_size = kwargs.pop("vocabulary_size", None)
        for key in ("vocabulary_size", "dtype", "trainable"):  # in Keras' configs
            kwargs.pop(key, None)
            self._arguments.pop(key, None)
        super().__init__(**kwargs)
        refuse_sparse(sparse, self)
        self.output_mode = check_output_mode(output_mode, self, ("int", "one_hot", "multi_hot", "count", "tf_idf"))
        self.max_tokens, self.num_oov_indices, self.pad_to_max_tokens = max_tokens, num_oov_indices, pad_to_max_tokens
        self.mask_token, self.oov_token, self.invert = mask_token, oov_token, invert
        self.salt, self.oov_method = as_salt(salt, self), oov_method
        self._check_arguments(vocabulary, idf_weights)
        budget.take(BYTES_A_TOKEN * num_oov_indices, "indices for unknown tokens")
        set_unnoticed(self, _adaptable=adaptable, _tokens=[], _idf=None, _expected_size=expected_size)
        self.reset_state()
        self._learn([], None)
        if vocabulary is not None:
            self.set_vocabulary(vocabulary, idf_weights)

    def _check_arguments(self, vocabulary: Any, idf_weights: Any) -> None:
        name = type(self).__name__
        if self.oov_method not in ("floormod", "farmhash"):
            raise ValueError(f"{name}: oov_method must be 'floormod' or 'farmhash'; got {self.oov_method!r}.")
        if self.max_tokens is not None and self.max_tokens <= 1:
            raise ValueError(f"{name}: max_tokens must be greater than 1; got {self.max_tokens}.")
        if self.num_oov_indices < 0:
            raise ValueError(f"{name}: num_oov_indices must not be negative; got {self.num_oov_indices}.")
        if self.pad_to_max_tokens and self.max_tokens is None:
            raise ValueError(f"{name}: pad_to_max_tokens=True needs max_tokens.")
        if self.invert and self.output_mode != "int":
            raise ValueError(f"{name}: invert=True needs output_mode='int'; got {self.output_mode!r}.")
        if idf_weights is not None and self.output_mode != "tf_idf":
            raise ValueError(f"{name}: idf_weights need output_mode='tf_idf'; got {self.output_mode!r}.")
        if vocabulary is not None and idf_weights is None and self.output_mode == "tf_idf":
            raise ValueError(f"{name}: a vocabulary needs idf_weights in output_mode 'tf_idf'.")

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Returns a layer of this class for a `get_config` dict.

        Raises: ValueError: if it names a file of tokens, which a config may not open.
        """
        if isinstance(config.get("vocabulary"), str):
            raise ValueError(
                f"{cls.__name__}: a config cannot open the file {config['vocabulary']!r}; pass its tokens."
            )
        return super().from_config(config)

    # ---------------------------------------------------------------------------------------------- what a subclass says

    def _as_tokens(self, data: Any) -> tuple[list[Any], tuple[int, ...]]:
        """Returns the flattened tokens of data, and its shape."""
        raise NotImplementedError

    def _read(self, path: str | os.PathLike[str]) -> list[Any]:
        """Returns the tokens in a file."""
        raise NotImplementedError

    def _prepare(self) -> None:
        """Builds the lookup table of the call."""
        raise NotImplementedError

    # --------------------------------------------------------------------------------------------------- the vocabulary

    def get_vocabulary(self, include_special_tokens: bool = True) -> list[Any]:
        """Returns the tokens in the order of their indices.

        Args:
            include_special_tokens: Whether to include the mask and unknown tokens.
        """
        return [*self._specials(), *self._tokens] if include_special_tokens else list(self._tokens)

    def vocabulary_size(self) -> int:
        """Returns the number of indices, including those of the mask and of unknown tokens."""
        return self._token_start() + len(self._tokens)

    def _indices(self) -> dict[Any, int]:
        """Returns the index of each token, including the mask."""
        indices = dict(zip(self._tokens, itertools.count(self._token_start())))
        if self.mask_token is not None:
            indices[self.mask_token] = 0 if self.output_mode == "int" else DROPPED
        return indices

    def _oov_start(self) -> int:
        return 1 if self.mask_token is not None and self.output_mode == "int" else 0

    def _token_start(self) -> int:
        return self._oov_start() + self.num_oov_indices

    def _specials(self) -> list[Any]:
        return [self.mask_token] * self._oov_start() + [self.oov_token] * self.num_oov_indices

    def set_vocabulary(self, vocabulary: Any, idf_weights: Any = None) -> None:
        """Sets the vocabulary.

        Args:
            vocabulary: Tokens, most frequent first, with or without leading special tokens; or a file with one per line.
            idf_weights: A weight for each of them, for output mode "tf_idf".
        Raises: ValueError: if it is empty, too long, has a token twice, or has weights that do not fit.
        """
        if (idf_weights is not None) != (self.output_mode == "tf_idf"):
            raise ValueError(
                f"{self.name}: output_mode {self.output_mode!r} and idf_weights={idf_weights} contradict each other: weights "
                "are for 'tf_idf', which needs them."
            )
        if isinstance(vocabulary, (str, os.PathLike)):  # holds no special tokens
            if self.output_mode == "tf_idf" or not os.path.exists(vocabulary):
                raise ValueError(f"{self.name}: file not found for output_mode {self.output_mode!r}: {vocabulary!r}.")
            given = [*self._specials(), *self._read(vocabulary)]
        else:
            given = self._as_tokens(vocabulary)[0]
        specials = self._token_start() if given[: self._token_start()] == self._specials() else 0
        tokens = given[specials:]
        self._check_tokens(given, tokens)
        self._learn(tokens, None if idf_weights is None else self._fit_idf(idf_weights, len(given), specials))
        weights = None if idf_weights is None else np.asarray(idf_weights).tolist()
        self._arguments.update(vocabulary=given, idf_weights=weights)

    def _check_tokens(self, given: list[Any], tokens: list[Any]) -> None:
        if not given:
            raise ValueError(f"{self.name}: the vocabulary is empty.")
        if len({*tokens}) < len(tokens):
            twice = [token for token, count in Counter(tokens).items() if count > 1]
            raise ValueError(f"{self.name}: tokens must be unique; the vocabulary has {twice[:5]} more than once.")
        reserved = [self.mask_token, self.oov_token] if self.invert else [self.mask_token]
        for special in reserved:
            if special is not None and special in tokens:
                raise ValueError(
                    f"{self.name}: the token {special!r} is reserved, but is at position {given.index(special)} of the "
                    f"vocabulary. Omit all special tokens, or begin with {self._specials()}."
                )
        size = self._token_start() + len(tokens)
        if self.max_tokens is not None and size > self.max_tokens:
            raise ValueError(f"{self.name}: the vocabulary has {size} entries; max_tokens is {self.max_tokens}.")

    def _fit_idf(self, idf_weights: Any, num_given: int, specials: int) -> np.ndarray:
        """Returns a weight for each index; unknown tokens have the mean weight unless it is given."""
        weights = np.asarray(idf_weights, dtype="float64")
        if weights.shape != (num_given,):
            raise ValueError(
                f"{self.name}: idf_weights must have one number for each of {num_given} tokens; got shape {weights.shape}."
            )
        return np.pad(weights, (self._token_start() - specials, 0), constant_values=weights.mean())

    def _learn(self, tokens: list[Any], idf: np.ndarray | None) -> None:
        set_unnoticed(self, _tokens=tokens, _idf=idf)
        self._prepare()
        if self.output_mode == "tf_idf":
            budget.take(8 * self._depth(), "token weights")
            weights = np.zeros(self._depth())
            if idf is not None:
                weights[: len(idf)] = idf
            self._set_buffer("idf_weights", torch.tensor(weights, dtype=self._dtype))

    def _set_buffer(self, name: str, values: Tensor) -> None:
        before = self._buffers.get(name)
        device = config.device() if before is None else before.device
        self.register_buffer(name, values.to(device), persistent=False)

    # --------------------------------------------------------------------------------------------------------- adapting

    def adapt(self, data: Any, steps: int | None = None) -> None:
        """Learns the vocabulary: the tokens in the data by descending frequency, and in descending order for equal ones.

        Args:
            data: Array, list, pandas object, torch `Dataset` or `DataLoader`, or an iterable of batches of tokens. A row
                is a document for inverse document frequencies.
            steps: Number of batches to use; all if None.
        Raises: ValueError: if the vocabulary was given to the constructor.
        """
        self.reset_state()
        for batch in batches_of(data, steps, layer=self):
            self.update_state(_rows(batch) if is_one_array(data) else batch)
        self.finalize_state()

    def update_state(self, data: Any) -> None:
        """Counts the tokens of a batch."""
        tokens, shape = self._as_tokens(data)
        if self.output_mode != "tf_idf":
            self._count([tokens])  # documents are not needed, and a million lists of one token take seconds
            return
        width = len(tokens) // shape[0] if len(shape) > 1 and shape[0] else len(tokens)
        self._count([tokens[start : start + width] for start in range(0, len(tokens), max(width, 1))])

    def _count(self, documents: Sequence[list[Any]]) -> None:
        if not self._adaptable:
            raise ValueError(f"{self.name} was given its vocabulary, so it cannot adapt to data.")
        self._counts.update(itertools.chain.from_iterable(documents))
        if self.output_mode == "tf_idf":
            self._document_counts.update(itertools.chain.from_iterable(map(set, documents)))
            set_unnoticed(self, _num_documents=self._num_documents + len(documents))

    def finalize_state(self) -> None:
        """Builds the vocabulary from the counts, and discards them."""
        for special in (self.mask_token, self.oov_token):
            self._counts.pop(special, None)
        if not self._adaptable or not self._counts:
            return
        ranked = sorted(((count, token) for token, count in self._counts.items()), reverse=True)
        limit = None if self.max_tokens is None else self.max_tokens - self._token_start()
        tokens = [token for _, token in ranked[:limit]]
        idf = self._learned_idf(tokens) if self.output_mode == "tf_idf" else None
        self._learn(tokens, idf)
        self._arguments.update(
            vocabulary=self.get_vocabulary(),
            idf_weights=None if idf is None else idf.tolist(),
            has_input_vocabulary=False,  # so that a layer of this config can adapt again
        )
        self.reset_state()

    def _learned_idf(self, tokens: Iterable[Any]) -> np.ndarray:
        documents = np.array([self._document_counts[token] for token in tokens])
        weights = np.log(1 + self._num_documents / (1 + documents))
        return np.pad(weights, (self._token_start(), 0), constant_values=weights.mean())

    def reset_state(self) -> None:
        """Discards the counts of `update_state`."""
        set_unnoticed(self, _counts=Counter(), _document_counts=Counter(), _num_documents=0)

    # ----------------------------------------------------------------------------------------------------------- calling

    def _depth(self) -> int:
        """Returns the length of vectors; without a vocabulary, as during loading, that of the config."""
        if self.pad_to_max_tokens and self.max_tokens:
            return self.max_tokens
        return self.vocabulary_size() if self._tokens else self._expected_size or self.vocabulary_size()

    def _need_vocabulary(self, rows: int) -> None:
        if not self._tokens and rows:  # shape inference has no rows, and may run before
            raise ValueError(f"{self.name} has no vocabulary yet: call adapt(data), or pass vocabulary.")

    def _encode(self, indices: Tensor) -> Tensor:
        """Encodes indices by the output mode."""
        if self.output_mode == "tf_idf":
            counts = encode(indices, "count", self._depth(), self.idf_weights.dtype)
            return counts * self.idf_weights.to(counts.device)
        return encode(indices, self.output_mode, self._depth(), torch.int64)

    def _refuse_unknown(self, unknown: Sequence[Any]) -> None:
        raise ValueError(
            f"{self.name}: with num_oov_indices=0 every token must be in the vocabulary; {list(unknown[:5])} are not."
        )

    # ---------------------------------------------------------------------------------------------------- Keras' files

    def save_assets(self, dir_path: str) -> None:
        """Writes the vocabulary to `vocabulary.txt` in a folder, one token per line."""
        with open(os.path.join(dir_path, "vocabulary.txt"), "w", encoding="utf-8") as file:
            file.write("\n".join(map(str, self.get_vocabulary())))

    def load_assets(self, dir_path: str) -> None:
        """Loads the vocabulary from `vocabulary.txt` in a folder, as in Keras' files."""
        tokens = self._read(os.path.join(dir_path, "vocabulary.txt"))
        self.set_vocabulary(tokens, None if self._idf is None else self._idf[: len(tokens)])

    def save_own_variables(self, store: Any) -> None:
        """Stores the weights of output mode "tf_idf", which are not weights of the layer in Keras either, in a dict."""
        if self.output_mode == "tf_idf":
            store["idf_weights"] = self.idf_weights.cpu().numpy()

    def load_own_variables(self, store: Any) -> None:
        """Loads them from a dict, for `load_assets`."""
        if self.output_mode == "tf_idf":
            set_unnoticed(self, _idf=np.asarray(store["idf_weights"]))


def read_lines(path: str | os.PathLike[str], encoding: str = "utf-8") -> list[str]:
    """Returns the lines of a file, without empty ones at its end."""
    with open(path, encoding=encoding) as file:
        text = file.read()
    budget.take(len(text) + BYTES_A_TOKEN * text.count("\n"), "a vocabulary")
    lines = text.split("\n")
    while lines and not lines[-1]:
        lines.pop()
    return lines


def as_salt(salt: Any, layer: Any) -> list[int] | None:
    """Returns the two ints for a salt.

    Raises: ValueError: if it is neither None, an int nor two of them.
    """
    if salt is None:
        return None
    if isinstance(salt, int):
        return [salt, salt]
    if isinstance(salt, (list, tuple)) and len(salt) == 2:
        return list(salt)
    raise ValueError(f"{type(layer).__name__}: salt must be an int or two of them; got {salt!r}.")


def _rows(data: Any) -> Any:
    """Reshapes data of one axis to rows of one token, so that each token is a document."""
    array = as_array(data)
    return array.reshape(-1, 1) if array.ndim <= 1 else array
