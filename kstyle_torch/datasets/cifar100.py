"""CIFAR-100: small colour images of a hundred kinds, in twenty groups."""

from __future__ import annotations

import numpy as np

from kstyle_torch.datasets._cifar import fetch, read_batch
from kstyle_torch.datasets._files import Split

__all__ = ["load_data"]


def load_data(label_mode: str = "fine") -> tuple[Split, Split]:
    """Returns 50,000 images for training and 10,000 for testing.

    Args:
        label_mode: `"fine"` for the 100 kinds, `"coarse"` for the 20 groups.
    Returns: `(x_train, y_train), (x_test, y_test)`: images (n, 32, 32, 3), or (n, 3, 32, 32) where
        `config.image_data_format()` is `"channels_first"`, uint8, and labels (n, 1), int64.
    Raises: ValueError: for another `label_mode`. OSError: if the file is not in the cache and cannot be downloaded.
    """
    if label_mode not in ("fine", "coarse"):
        raise ValueError(f"label_mode must be 'fine' or 'coarse'; got {label_mode!r}.")
    digest = "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"
    folder = fetch("cifar-100-python", "cifar-100-python", digest)
    x_train, y_train = read_batch(folder / "train", f"{label_mode}_labels")
    x_test, y_test = read_batch(folder / "test", f"{label_mode}_labels")
    return (x_train, np.reshape(y_train, (-1, 1))), (x_test, np.reshape(y_test, (-1, 1)))
