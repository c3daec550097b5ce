"""Reuters: news of 46 topics."""

from __future__ import annotations

import numpy as np

from kstyle_torch.datasets._files import Split, fetch, read_arrays
from kstyle_torch.datasets._words import keep_short, limit_words, number_words, read_word_index, shuffle

__all__ = ["get_label_names", "get_word_index", "load_data"]

LABELS = tuple(
    "cocoa grain veg-oil earn acq wheat copper housing money-supply coffee sugar trade reserves ship cotton carcass crude "
    "nat-gas cpi money-fx interest gnp meal-feed alum oilseed gold tin strategic-metal livestock retail ipi iron-steel "
    "rubber heat jobs lei bop zinc orange pet-chem dlr gas silver wpi hog lead".split()
)


def load_data(
    path: str = "reuters.npz",
    num_words: int | None = None,
    skip_top: int = 0,
    maxlen: int | None = None,
    test_split: float = 0.2,
    seed: int = 113,
    start_char: int | None = 1,
    oov_char: int | None = 2,
    index_from: int | None = 3,
) -> tuple[Split, Split]:
    """Returns 11,228 pieces of news, as lists of word numbers, and their topics.

    Words are numbered by how often they occur, from 1 on; 0 is for padding.

    Args:
        path: Name of the file in the cache.
        num_words: Words from this number on count as unknown. None: only the last of all does.
        skip_top: Words before this number count as unknown.
        maxlen: News of as many words or more are dropped.
        test_split: Share of the news that is for testing.
        seed: Of the random order.
        start_char: Number in front of each piece; None for no such number.
        oov_char: Number of unknown words; if None they are dropped.
        index_from: Added to the number of each word.
    Returns: `(x_train, y_train), (x_test, y_test)`: arrays of lists (n,), and topics from 0 to 45 (n,).
    Raises: ValueError: if no piece is shorter than `maxlen`. OSError: if the file is not in the cache and cannot be
        downloaded.
    """
    digest = "d6586e694ee56d7a4e65172e12b3e987c03096cb01eab99753921ef915959916"
    arrays = read_arrays(fetch(path, digest, "reuters.npz"))
    x, y = shuffle(arrays["x"], arrays["y"], np.random.RandomState(seed))
    texts, labels = keep_short(number_words(x, start_char, index_from), y, maxlen)
    texts = limit_words(texts, num_words, skip_top, oov_char)
    end = int(len(texts) * (1 - test_split))
    x_train, x_test = np.array(texts[:end], dtype="object"), np.array(texts[end:], dtype="object")
    return (x_train, labels[:end].copy()), (x_test, labels[end:].copy())


def get_word_index(path: str = "reuters_word_index.json") -> dict[str, int]:
    """Returns the number of each word, before `index_from` is added.

    Args:
        path: Name of the file in the cache.
    Raises: OSError: if the file is not in the cache and cannot be downloaded.
    """
    return read_word_index(fetch(path, "4d44cc38712099c9e383dc6e5f11a921", "reuters_word_index.json"))


def get_label_names() -> tuple[str, ...]:
    """Returns the topics, in the order of their numbers."""
    return LABELS
