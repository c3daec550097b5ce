"""Files of the data sets: their origin, and readers that run no code from them."""

from __future__ import annotations

import pickle
import zipfile
from typing import Any

import numpy as np

from kstyle_torch.utils.files import get_file

ORIGIN = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"

Split = tuple[np.ndarray, np.ndarray]

_rebuild = np.empty(0).__reduce__()[0]  # NumPy's own function, which has moved between its versions
SAFE = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _rebuild,
    ("numpy._core.multiarray", "_reconstruct"): _rebuild,
}


class SafeUnpickler(pickle.Unpickler):
    """An unpickler of plain objects and arrays; a file that names anything else is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """Returns one of the few globals that arrays need."""
        if (module, name) not in SAFE:
            raise pickle.UnpicklingError(f"The file asks for {module}.{name}; a data set holds arrays and lists only.")
        return SAFE[module, name]


def fetch(name: str, digest: str, origin: str | None = None) -> str:
    """Returns the path of a file in the cache, downloaded if it is not there.

    Args:
        name: Its name in the cache.
        digest: Its SHA-256 or MD5 digest.
        origin: Its name at the place that Keras downloads from; None if it is the same.
    """
    return get_file(name, f"{ORIGIN}{origin or name}", file_hash=digest)


def read_arrays(path: str) -> dict[str, np.ndarray]:
    """Reads an `.npz` file, whose arrays may hold lists."""
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as file:
                arrays[name.removesuffix(".npy")] = _read_array(file)
    return arrays


def _read_array(file: Any) -> np.ndarray:
    try:
        return np.lib.format.read_array(file, allow_pickle=False)
    except ValueError:
        file.seek(0)
        version = np.lib.format.read_magic(file)
        skip = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        if not skip(file)[2].hasobject:
            raise
        return SafeUnpickler(file).load()
