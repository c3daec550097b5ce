"""California housing: prices of houses in 1990."""

from __future__ import annotations

import numpy as np

from kstyle_torch.datasets._files import Split, fetch
from kstyle_torch.datasets._tables import check_test_split, shuffle_and_split

__all__ = ["load_data"]

SMALL = 600


def load_data(
    version: str = "large", path: str = "california_housing.npz", test_split: float = 0.2, seed: int = 113
) -> tuple[Split, Split]:
    """Returns 8 facts about each of 20,640 districts of California, and the median value of a house in dollars.

    The facts are the median income, the age of houses, rooms and bedrooms per household, the population, the people per
    household, the latitude and the longitude.

    Args:
        version: `"large"`, or `"small"` for 600 districts.
        path: Name of the file in the cache.
        test_split: Share of the rows that is for testing.
        seed: Of the random order.
    Returns: `(x_train, y_train), (x_test, y_test)`: facts (n, 8) and values (n,).
    Raises: ValueError: for a `test_split` outside of 0 to 1, or another `version`. OSError: if the file is not in the
        cache and cannot be downloaded.
    """
    check_test_split(test_split)
    if version not in ("small", "large"):
        raise ValueError(f"version must be 'small' or 'large'; got {version!r}.")
    digest = "1a2e3a52e0398de6463aebe6f4a8da34fb21fbb6b934cf88c3425e766f2a1a6f"
    with np.load(fetch(path, digest, "california_housing.npz"), allow_pickle=False) as arrays:
        rows = slice(SMALL if version == "small" else None)
        return shuffle_and_split(arrays["x"][rows], arrays["y"][rows], test_split, seed)
