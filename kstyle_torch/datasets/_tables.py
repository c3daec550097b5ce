"""Tables of numbers: rows in a random order, the last of them for testing."""

from __future__ import annotations

import numpy as np

from kstyle_torch.datasets._files import Split


def check_test_split(test_split: float) -> None:
    """Checks that rows are left for training.

    Raises: ValueError: if not.
    """
    if not 0 <= test_split < 1:
        raise ValueError(f"test_split is a share of the rows, at least 0 and less than 1; got {test_split!r}.")


def shuffle_and_split(x: np.ndarray, y: np.ndarray, test_split: float, seed: int) -> tuple[Split, Split]:
    """Returns the rows for training and those for testing, in Keras' order for this seed."""
    order = np.arange(len(x))
    np.random.RandomState(seed).shuffle(order)
    x, y = x[order], y[order]
    end = int(len(x) * (1 - test_split))
    return (x[:end].copy(), y[:end].copy()), (x[end:].copy(), y[end:].copy())
