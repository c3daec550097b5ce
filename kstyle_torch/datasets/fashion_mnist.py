"""Fashion-MNIST: photographs of clothes, in the format of MNIST."""

from __future__ import annotations

import gzip
import math
import zlib

import numpy as np

from kstyle_torch.datasets._files import ORIGIN, Split
from kstyle_torch.utils.files import get_file

__all__ = ["load_data"]

FOLDER = "datasets/fashion-mnist"
MAX_BYTES = 2**26  # of one unpacked file; the largest has 47 million. No digest vouches for these files.


def load_data() -> tuple[Split, Split]:
    """Returns 60,000 images of clothes for training and 10,000 for testing.

    The labels are 0 T-shirt/top, 1 Trouser, 2 Pullover, 3 Dress, 4 Coat, 5 Sandal, 6 Shirt, 7 Sneaker, 8 Bag and
    9 Ankle boot.

    Returns: `(x_train, y_train), (x_test, y_test)`: images (n, 28, 28) and labels (n,), both uint8.
    Raises: OSError: if a file is not in the cache and cannot be downloaded. ValueError: if one is damaged.
    """
    y_train = _read("train-labels-idx1-ubyte.gz", 1)
    x_train = _read("train-images-idx3-ubyte.gz", 3)
    y_test = _read("t10k-labels-idx1-ubyte.gz", 1)
    x_test = _read("t10k-images-idx3-ubyte.gz", 3)
    return (x_train, y_train), (x_test, y_test)


def _read(name: str, rank: int) -> np.ndarray:
    """Reads an IDX file: two zeros, 8 for uint8, the rank, each size in four bytes, and the values."""
    path = get_file(name, ORIGIN + name, cache_subdir=FOLDER)
    try:
        with gzip.open(path) as file:
            content = bytearray(file.read(MAX_BYTES))  # so that the array can be written
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged: {error}. Delete it; the next call downloads it anew.") from error
    start = 4 + 4 * rank
    is_whole = content[:4] == bytes((0, 0, 8, rank)) and len(content) >= start
    shape = np.frombuffer(bytes(content[4:start]), ">u4").tolist() if is_whole else []
    if not is_whole or len(content) != start + math.prod(shape):
        raise ValueError(f"{path} does not hold what its header says. Delete it; the next call downloads it anew.")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
