"""TextVectorization: indices of words, or vectors of counts, for texts."""

from __future__ import annotations

import itertools
import re
import string
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kstyle_torch import budget
from kstyle_torch.layer.base import layer_registry
from kstyle_torch.layers.preprocessing.data_layer import batches_of, is_one_array
from kstyle_torch.layers.preprocessing.encoding import OLDER_MODES
from kstyle_torch.layers.preprocessing.lookup import DROPPED
from kstyle_torch.layers.preprocessing.string_lookup import StringLookup
from kstyle_torch.layers.preprocessing.text import TextLayer, Texts, as_texts

register = layer_registry.register
Documents = list[list[str]]

BYTES_A_LENGTH = 40  # a number in a tuple
# ASCII only, as in TensorFlow
LOWER: dict[int, Any] = {
    ord(upper): lower for upper, lower in zip(string.ascii_uppercase, string.ascii_lowercase, strict=True)
}
NO_PUNCTUATION: dict[int, Any] = dict.fromkeys(map(ord, string.punctuation))
STANDARDS: dict[str, dict[int, Any]] = {
    "lower": LOWER,
    "strip_punctuation": NO_PUNCTUATION,
    "lower_and_strip_punctuation": LOWER | NO_PUNCTUATION,
}
WORD = re.compile(r"[^ \t\n\r\f\v]+")


@register()
class TextVectorization(TextLayer):
    """Conversion of texts to indices of words, or to vectors of word counts. It is called before the model.

    A text is standardized, split into tokens and combined to n-grams; a `StringLookup` with mask token "" returns their
    indices: 0 is padding, 1 is for unknown tokens.

    Args:
        max_tokens: Largest size of the vocabulary, including padding and unknown tokens; no limit if None.
        standardize: `"lower_and_strip_punctuation"`, `"lower"`, `"strip_punctuation"` (of ASCII letters and signs), None, or
            a function from an array of strings to one.
        split: `"whitespace"`, `"character"`, None, or a function from a vector of strings to a list of tokens for each.
        ngrams: Length of the longest n-gram, or a tuple of lengths; None for single tokens.
        output_mode: `"int"`, or one vector per text: `"multi_hot"`, `"count"` or `"tf_idf"`.
        output_sequence_length: Length to which rows of indices are truncated or padded; that of the longest if None.
        pad_to_max_tokens: Whether vectors have length `max_tokens` instead of that of the vocabulary.
        vocabulary: Tokens, most frequent first, or the path of a file with one per line. `adapt` learns it if None.
        idf_weights: A weight for each token, for mode "tf_idf".
        sparse: Not supported.
        ragged: Not supported.
        encoding: Encoding of bytes and of a vocabulary file.
    Input shape: (batch,) or (batch, 1), of strings. Output shape: (batch, length) of int64; in the other modes
        (batch, size of the vocabulary).
    Raises: TypeError: if it is called on anything but text, a symbolic tensor for instance.

    Example:
        >>> layer = TextVectorization(output_sequence_length=4)
        >>> layer.adapt(["foo bar", "bar baz", "baz bada boom"])
        >>> layer(["Foo qux, bar!"])
        tensor([[4, 1, 3, 0]])
        >>> layer.get_vocabulary()
        ['', '[UNK]', 'baz', 'bar', 'foo', 'boom', 'bada']
    """

    def __init__(
        self,
        max_tokens: int | None = None,
        standardize: str | Callable[[Any], Any] | None = "lower_and_strip_punctuation",
        split: str | Callable[[Any], Any] | None = "whitespace",
        ngrams: int | Sequence[int] | None = None,
        output_mode: str = "int",
        output_sequence_length: int | None = None,
        pad_to_max_tokens: bool = False,
        vocabulary: Any = None,
        idf_weights: Any = None,
        sparse: bool = False,
        ragged: bool = False,
        encoding: str = "utf-8",
        name: str | None = None,
        **kwargs: Any,
    ):
        self.output_mode = OLDER_MODES.get(output_mode, output_mode)
        self.standardize, self.split, self.ngrams = standardize, split, _lengths(ngrams)
        self.output_sequence_length, self.encoding = output_sequence_length, encoding
        self._check_text_arguments(ragged)
        about_vocabulary = {
            key: kwargs.pop(key) for key in ("has_input_vocabulary", "vocabulary_size") if key in kwargs
        }
        if str(kwargs.get("dtype")) == "string":
            kwargs.pop("dtype")
        super().__init__(name=name, **kwargs)
        self.lookup = StringLookup(
            max_tokens=max_tokens,
            mask_token="",
            vocabulary=vocabulary,
            idf_weights=idf_weights,
            output_mode=self.output_mode,
            pad_to_max_tokens=pad_to_max_tokens,
            sparse=sparse,
            encoding=encoding,
            name=self.name,
            **about_vocabulary,
        )
        self._take_config()

    def _check_text_arguments(self, ragged: bool) -> None:
        if not callable(self.standardize) and self.standardize not in (None, *STANDARDS):
            raise ValueError(
                f"TextVectorization: standardize must be one of {(None, *STANDARDS)} or a function; got {self.standardize!r}."
            )
        if not callable(self.split) and self.split not in (None, "whitespace", "character"):
            raise ValueError(
                f"TextVectorization: split must be None, 'whitespace', 'character' or a function; got {self.split!r}."
            )
        length = self.output_sequence_length
        if length is not None and (self.output_mode != "int" or not isinstance(length, int)):
            raise ValueError(
                f"TextVectorization: output_sequence_length must be an int, for output_mode='int'; got {length!r} "
                f"and {self.output_mode!r}."
            )
        if ragged:
            raise ValueError("TextVectorization: ragged=True is not supported; pad with output_sequence_length.")

    def _take_config(self) -> None:
        self._arguments.pop("vocabulary_size", None)
        for key in ("vocabulary", "idf_weights", "has_input_vocabulary"):
            if key in self.lookup._arguments:
                self._arguments[key] = self.lookup._arguments[key]

    # ------------------------------------------------------------------------------------------------- the vocabulary

    def get_vocabulary(self, include_special_tokens: bool = True) -> list[str]:
        """Returns the tokens in the order of their indices.

        Args:
            include_special_tokens: Whether to include the padding and unknown tokens.
        """
        return self.lookup.get_vocabulary(include_special_tokens)

    def vocabulary_size(self) -> int:
        """Returns the number of indices, including those of padding and unknown tokens."""
        return self.lookup.vocabulary_size()

    def set_vocabulary(self, vocabulary: Any, idf_weights: Any = None) -> None:
        """Sets the vocabulary, as `StringLookup.set_vocabulary` does."""
        self.lookup.set_vocabulary(vocabulary, idf_weights)
        self._take_config()

    def adapt(self, data: Any, batch_size: int | None = None, steps: int | None = None) -> None:
        """Learns the vocabulary: the tokens in the texts by descending frequency, and in descending order for equal ones.

        Args:
            data: Array, list or pandas Series of texts, torch `Dataset` or `DataLoader`, or an iterable of batches.
            batch_size: Has no effect, as in Keras.
            steps: Number of batches to use; all if None.
        Raises: ValueError: if the vocabulary was given to the constructor.
        """
        self.reset_state()
        for batch in batches_of(data, steps, layer=self):
            texts = as_texts(batch, self.encoding, self)
            alone = is_one_array(data) and len(texts.shape) <= 1  # each text is a document even if it is not split
            self._count(Texts(texts.flat, (len(texts.flat), 1)) if alone else texts)
        self.finalize_state()

    def update_state(self, data: Any) -> None:
        """Counts the tokens of a batch of texts."""
        self._count(as_texts(data, self.encoding, self))

    def _count(self, texts: Texts) -> None:
        self.lookup._count(self._tokenize(texts)[0])

    def finalize_state(self) -> None:
        """Builds the vocabulary from the counts, and discards them."""
        self.lookup.finalize_state()
        self._take_config()

    def reset_state(self) -> None:
        """Discards the counts of `update_state`."""
        self.lookup.reset_state()

    # -------------------------------------------------------------------------------------------------------- calling

    def build(self, input_shape: Any = None) -> None:
        super().build(input_shape)

    def forward(self, inputs: Any) -> Tensor:
        documents, shape = self._tokenize(as_texts(inputs, self.encoding, self))
        if self.output_sequence_length is not None:
            documents = [tokens[: self.output_sequence_length] for tokens in documents]
        indices = self._padded(documents).to(self.place.device)
        if self.output_mode == "int":
            return indices.reshape(*shape, indices.shape[1])
        vectors = self.lookup._encode(indices)
        return vectors.reshape(*shape, *vectors.shape[1:])

    def _padded(self, documents: Documents) -> Tensor:
        """Returns the indices of the tokens, a row for each document."""
        lengths = np.fromiter(map(len, documents), np.int64, len(documents))
        width = self.output_sequence_length or int(lengths.max(initial=0))
        padding = 0 if self.output_mode == "int" else DROPPED
        rows = np.full((len(documents), width), padding, dtype=np.int64)
        tokens = list(itertools.chain.from_iterable(documents))
        rows[np.arange(width) < lengths[:, None]] = self.lookup.indices_of(tokens)
        return torch.from_numpy(rows)

    def _tokenize(self, texts: Texts) -> tuple[Documents, tuple[int, ...]]:
        """Returns the tokens of every text, and the texts' shape; without a split, the last axis has a text's tokens."""
        texts = self._standardized(texts)
        if self.split is None:
            width, shape = (texts.shape[-1], texts.shape[:-1]) if texts.shape else (1, ())
            documents = [texts.flat[start : start + width] for start in range(0, len(texts.flat), max(width, 1))]
        else:
            shape = self._without_last_axis(texts.shape)
            documents = self._split(Texts(texts.flat, shape))
        return [_ngrams(tokens, self.ngrams) for tokens in documents] if self.ngrams else documents, shape

    def _standardized(self, texts: Texts) -> Texts:
        if callable(self.standardize):
            return as_texts(np.asarray(self.standardize(texts.array())), self.encoding, self)
        if self.standardize is None:
            return texts
        table = STANDARDS[self.standardize]
        return Texts([text.translate(table) for text in texts.flat], texts.shape)

    def _without_last_axis(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) > 1 and shape[-1] != 1:
            raise ValueError(
                f"{self.name}: texts to split must have shape (batch,) or (batch, 1); got {shape}. For texts that are "
                "split already, pass split=None."
            )
        return shape[:-1] if len(shape) > 1 else shape

    def _split(self, texts: Texts) -> Documents:
        if callable(self.split):
            return [[str(token) for token in tokens] for tokens in self.split(texts.array())]
        if self.split == "character":
            return [list(text) for text in texts.flat]
        # str.split also splits at separators that are not ASCII whitespace, such as \xa0 and \x1c; TensorFlow does not
        return [text.split() if text.isascii() and text.isprintable() else WORD.findall(text) for text in texts.flat]

    # -------------------------------------------------------------------------------------------------- Keras' files

    def save_assets(self, dir_path: str) -> None:
        """Writes the vocabulary to `vocabulary.txt` in a folder, one token per line."""
        self.lookup.save_assets(dir_path)

    def load_assets(self, dir_path: str) -> None:
        """Loads the vocabulary from `vocabulary.txt` in a folder, as in Keras' files."""
        self.lookup.load_assets(dir_path)
        self._take_config()

    def save_own_variables(self, store: Any) -> None:
        """Stores the weights of output mode "tf_idf" in a dict."""
        self.lookup.save_own_variables(store)

    def load_own_variables(self, store: Any) -> None:
        """Loads them from a dict, for `load_assets`."""
        self.lookup.load_own_variables(store)

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


def _lengths(ngrams: Any) -> tuple[int, ...] | None:
    """Returns the lengths of n-grams."""
    if ngrams is None:
        return None
    if isinstance(ngrams, int):
        budget.take(BYTES_A_LENGTH * ngrams, "lengths of n-grams")
        ngrams = range(1, ngrams + 1)
    lengths = tuple(ngrams)
    if not lengths or not all(isinstance(length, int) and length > 0 for length in lengths):
        raise ValueError(f"TextVectorization: ngrams must be None, a positive int or a tuple of them; got {ngrams!r}.")
    return lengths


def _ngrams(tokens: list[str], lengths: Iterable[int]) -> list[str]:
    """Returns all n-grams of the shortest length first, then those of the next."""
    made: list[str] = []
    for length in lengths:
        made += map(" ".join, zip(*(tokens[start:] for start in range(length)), strict=False))
    return made
