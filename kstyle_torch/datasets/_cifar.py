"""Batches of CIFAR's images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kstyle_torch import config
from kstyle_torch.datasets._files import SafeUnpickler
from kstyle_torch.utils.files import get_file

ORIGIN = "https://www.cs.toronto.edu/~kriz/"


def fetch(archive: str, folder: str, digest: str) -> Path:
    """Returns the folder of a CIFAR data set, downloaded and unpacked where it is not there.

    Args:
        archive: Its name at the origin, without `.tar.gz`.
        folder: The folder in it.
        digest: Its SHA-256 digest.
    """
    return Path(get_file(f"{folder}-target", f"{ORIGIN}{archive}.tar.gz", extract=True, file_hash=digest), folder)


def read_batch(path: Path, labels: str) -> tuple[np.ndarray, list[int]]:
    """Reads a batch, and puts the channels into the current format's place.

    Args:
        path: A pickle of Python 2.
        labels: The key of its labels.
    Returns: Images (n, 32, 32, 3), or (n, 3, 32, 32) for "channels_first", and their labels.
    """
    with path.open("rb") as file:
        content = SafeUnpickler(file, encoding="bytes").load()
    images = content[b"data"].reshape(-1, 3, 32, 32)
    if config.image_data_format() == "channels_last":
        images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    return images, content[labels.encode()]
