"""Approximate quantiles of data that comes in batches: a summary is a sorted table of values and their weights."""

from __future__ import annotations

import numpy as np


def empty_summary() -> np.ndarray:
    """Returns the empty summary, shape (2, 0)."""
    return np.zeros((2, 0), dtype="float32")


def summarize(values: np.ndarray, epsilon: float) -> np.ndarray:
    """Returns about `1 / epsilon` of the values, evenly spaced in sorted order, and their weights."""
    ordered = np.sort(values, axis=None)
    step = max(ordered.size * epsilon, 1)
    chosen = ordered[int(step - 1) :: int(step)]
    return np.stack([chosen, np.full_like(chosen, step)])


def merge(first: np.ndarray, second: np.ndarray, epsilon: float) -> np.ndarray:
    """Merges two summaries."""
    both = np.concatenate([first, second], axis=1)
    return compress(both[:, np.argsort(both[0])], epsilon)


def compress(summary: np.ndarray, epsilon: float) -> np.ndarray:
    """Compresses a summary to `1 / epsilon` evenly spaced, interpolated quantiles; shorter ones are not changed."""
    if summary.shape[1] * epsilon < 1:
        return summary
    reached = summary[1].cumsum()
    shares = reached / reached[-1]
    wanted = epsilon + np.arange(0.0, 1.0, epsilon)
    values, weights = np.interp(wanted, shares, summary[0]), np.interp(wanted, shares, reached)
    return np.stack([values, np.diff(weights, prepend=0.0)]).astype("float32")
