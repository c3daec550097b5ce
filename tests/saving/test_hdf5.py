"""HDF5 files: more content than the library caches."""

from pathlib import Path

import numpy as np

import kstyle_torch
from kstyle_torch.saving import hdf5


def test_content_of_any_size_is_written(tmp_path):
    """From some hundred layers on the library reads back what its cache no longer holds."""
    path = tmp_path / "m.weights.h5"
    with hdf5.created(path) as root:
        for number in range(1000):
            group = root.create_group(f"layers/dense_{number}/vars")
            group.create_dataset("0", data=np.full((3, 2), number))
            group.create_dataset("1", data=np.full(2, number))
    with hdf5.opened(path) as root:
        assert root["layers/dense_999/vars/1"][0] == 999


def test_every_writer_opens_its_file_there():
    files = Path(kstyle_torch.__file__).parent.rglob("*.py")
    writers = [path.name for path in files if "h5py.File(" in path.read_text(encoding="utf-8")]
    assert writers == ["hdf5.py"]
