"""Boston housing: prices of houses in the 1970s."""

from __future__ import annotations

import numpy as np

from kstyle_torch.datasets._files import Split, fetch
from kstyle_torch.datasets._tables import check_test_split, shuffle_and_split

__all__ = ["load_data"]


def load_data(path: str = "boston_housing.npz", test_split: float = 0.2, seed: int = 113) -> tuple[Split, Split]:
    """Returns 13 facts about each of 506 suburbs of Boston, and the median price of a house, in thousands of dollars.

    One of the facts assumes that segregation by race raises prices. Take it as an example of such data, or use
    `california_housing`.

    Args:
        path: Name of the file in the cache.
        test_split: Share of the rows that is for testing.
        seed: Of the random order.
    Returns: `(x_train, y_train), (x_test, y_test)`: facts (n, 13) and prices (n,), both float64.
    Raises: ValueError: for a `test_split` outside of 0 to 1. OSError: if the file is not in the cache and cannot be
        downloaded.
    """
    check_test_split(test_split)
    digest = "f553886a1f8d56431e820c5b82552d9d95cfcb96d1e678153f8839538947dff5"
    with np.load(fetch(path, digest, "boston_housing.npz"), allow_pickle=False) as arrays:
        return shuffle_and_split(arrays["x"], arrays["y"], test_split, seed)
