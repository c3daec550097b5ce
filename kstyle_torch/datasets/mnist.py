"""MNIST: handwritten digits."""

from __future__ import annotations

import numpy as np

from kstyle_torch.datasets._files import Split, fetch

__all__ = ["load_data"]


def load_data(path: str = "mnist.npz") -> tuple[Split, Split]:
    """Returns 60,000 images of digits for training and 10,000 for testing.

    Args:
        path: Name of the file in the cache.
    Returns: `(x_train, y_train), (x_test, y_test)`: images (n, 28, 28) and digits (n,), both uint8.
    Raises: OSError: if the file is not in the cache and cannot be downloaded.
    """
    file = fetch(path, "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1", "mnist.npz")
    with np.load(file, allow_pickle=False) as arrays:
        return (arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"])
