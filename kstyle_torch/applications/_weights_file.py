"""Files of weights that Keras publishes."""

from __future__ import annotations

from typing import NamedTuple

from kstyle_torch.utils.files import get_file

ORIGIN = "https://storage.googleapis.com/tensorflow/keras-applications/"


class WeightsFile(NamedTuple):
    """A published file: its path at the origin, its digest, and its name in the cache where that is another."""

    path: str
    digest: str | None = None
    name: str | None = None
    origin: str = ORIGIN

    def fetch(self) -> str:
        """Returns the path in Keras' cache; the file is downloaded if it is not there."""
        name = self.name or self.path.rpartition("/")[2]
        return get_file(name, self.origin + self.path, cache_subdir="models", file_hash=self.digest)


def pair(path: str, top: str, no_top: str) -> dict[bool, WeightsFile]:
    """Returns the two files of an architecture by `include_top`, from the path before the suffix and both digests."""
    return {True: WeightsFile(f"{path}.h5", top), False: WeightsFile(f"{path}_notop.h5", no_top)}
