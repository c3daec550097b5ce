"""CIFAR-10: small colour images of ten kinds."""

from __future__ import annotations

import numpy as np

from kstyle_torch.datasets._cifar import fetch, read_batch
from kstyle_torch.datasets._files import Split

__all__ = ["load_data"]


def load_data() -> tuple[Split, Split]:
    """Returns 50,000 images for training and 10,000 for testing.

    The labels are 0 airplane, 1 automobile, 2 bird, 3 cat, 4 deer, 5 dog, 6 frog, 7 horse, 8 ship and 9 truck.

    Returns: `(x_train, y_train), (x_test, y_test)`: images (n, 32, 32, 3), or (n, 3, 32, 32) where
        `config.image_data_format()` is `"channels_first"`, and labels (n, 1), both uint8.
    Raises: OSError: if the file is not in the cache and cannot be downloaded.
    """
    digest = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
    folder = fetch("cifar-10-python", "cifar-10-batches-py", digest)
    batches = [read_batch(folder / f"data_batch_{number}", "labels") for number in range(1, 6)]
    x_train = np.concatenate([images for images, _ in batches])
    y_train = np.concatenate([labels for _, labels in batches])
    x_test, y_test = read_batch(folder / "test_batch", "labels")
    return (x_train, _column(y_train)), (x_test, _column(y_test))


def _column(labels: np.ndarray | list[int]) -> np.ndarray:
    return np.array(labels, np.uint8).reshape(-1, 1)
