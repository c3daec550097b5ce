"""Texts as lists of word numbers: marked at the start, and cut to the usual words and to short texts."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

Texts = list[list[int]]


def shuffle(x: np.ndarray, y: np.ndarray, random: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    """Returns texts and labels in a random order."""
    order = np.arange(len(x))
    random.shuffle(order)
    return x[order], y[order]


def number_words(texts: Any, start_char: int | None, index_from: int | None) -> Texts:
    """Adds `index_from` to the numbers of words, and `start_char` in front, which is not shifted.

    Without `start_char`, `index_from` may be None for no shift; with it, it is a number.
    """
    if start_char is not None:
        return [[start_char, *(word + index_from for word in text)] for text in texts]
    if index_from:
        return [[word + index_from for word in text] for text in texts]
    return [[*text] for text in texts]


def keep_short(texts: Texts, labels: Any, maxlen: int | None) -> tuple[Texts, Any]:
    """Drops texts that have `maxlen` words or more; 0 and None keep all.

    Raises: ValueError: if none is left.
    """
    if not maxlen:
        return texts, labels
    short = [(text, label) for text, label in zip(texts, labels) if len(text) < maxlen]
    if not short:
        raise ValueError(f"No text has fewer than maxlen={maxlen} words. Pass a larger maxlen.")
    return [text for text, _ in short], np.array([label for _, label in short])


def limit_words(texts: Texts, num_words: int | None, skip_top: int, oov_char: int | None) -> Texts:
    """Puts `oov_char` in place of words outside of `skip_top` to `num_words`; drops them if it is None.

    Without `num_words`, only the largest number that occurs is outside, as in Keras.
    """
    end = num_words or max(max(text) for text in texts)
    if oov_char is not None:
        return [[word if skip_top <= word < end else oov_char for word in text] for text in texts]
    return [[word for word in text if skip_top <= word < end] for text in texts]


def read_word_index(path: str) -> dict[str, int]:
    """Reads the numbers of words from a JSON file."""
    with open(path, encoding="utf-8") as file:
        return json.load(file)
