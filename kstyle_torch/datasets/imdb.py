"""IMDB: film reviews that are positive or negative."""

from __future__ import annotations

from typing import Any

import numpy as np

from kstyle_torch.datasets._files import Split, fetch, read_arrays
from kstyle_torch.datasets._words import keep_short, limit_words, number_words, read_word_index, shuffle

__all__ = ["get_word_index", "load_data"]


def load_data(
    path: str = "imdb.npz",
    num_words: int | None = None,
    skip_top: int = 0,
    maxlen: int | None = None,
    seed: int = 113,
    start_char: int | None = 1,
    oov_char: int | None = 2,
    index_from: int | None = 3,
    **kwargs: Any,
) -> tuple[Split, Split]:
    """Returns 25,000 reviews for training and 25,000 for testing, as lists of word numbers.

    Words are numbered by how often they occur, from 1 on; 0 is for padding.

    Args:
        path: Name of the file in the cache.
        num_words: Words from this number on count as unknown. None: only the last of all does.
        skip_top: Words before this number count as unknown.
        maxlen: Reviews of as many words or more are dropped.
        seed: Of the random order.
        start_char: Number in front of each review; None for no such number.
        oov_char: Number of unknown words; if None they are dropped.
        index_from: Added to the number of each word.
        **kwargs: Refused; here since Keras' function takes them.
    Returns: `(x_train, y_train), (x_test, y_test)`: arrays of lists (n,), and 1 for positive or 0 (n,).
    Raises: ValueError: if no review is shorter than `maxlen`. TypeError: for other arguments. OSError: if the file is not
        in the cache and cannot be downloaded.
    """
    if kwargs:
        older = " nb_words is called num_words now." if "nb_words" in kwargs else ""
        raise TypeError(f"imdb.load_data() has no argument {', '.join(kwargs)}.{older}")
    digest = "69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f"
    arrays = read_arrays(fetch(path, digest, "imdb.npz"))
    random = np.random.RandomState(seed)
    texts, labels, sizes = [], [], []
    for part in ("train", "test"):
        x, y = shuffle(arrays[f"x_{part}"], arrays[f"y_{part}"], random)
        kept, kept_labels = keep_short(number_words(x, start_char, index_from), y, maxlen)
        texts += kept
        labels.append(kept_labels)
        sizes.append(len(kept))
    texts = limit_words(texts, num_words, skip_top, oov_char)
    end = sizes[0]
    x_train, x_test = np.array(texts[:end], dtype="object"), np.array(texts[end:], dtype="object")
    return (x_train, labels[0]), (x_test, labels[1])


def get_word_index(path: str = "imdb_word_index.json") -> dict[str, int]:
    """Returns the number of each word, before `index_from` is added.

    Args:
        path: Name of the file in the cache.
    Raises: OSError: if the file is not in the cache and cannot be downloaded.
    """
    return read_word_index(fetch(path, "bfafd718b763782e994055a2d397834f", "imdb_word_index.json"))
