"""Names of `keras.distribution` that libraries use: one device and no distribution, as for Keras before one is set.

`kstyle_torch.distribution` takes the place of this module once there is one.
"""

from __future__ import annotations

from typing import Any

import torch

from kstyle_torch import config

__all__ = [
    "DataParallel",
    "DeviceMesh",
    "LayoutMap",
    "ModelParallel",
    "TensorLayout",
    "distribute_tensor",
    "distribution",
    "get_device_count",
    "initialize",
    "list_devices",
    "set_distribution",
]

ADVICE = "Use from_torch(torch.nn.parallel.DistributedDataParallel(...)), or torch.distributed."


class _Refused:
    """A class that libraries test against, and that cannot be made here."""

    def __init__(self, *args: Any, **kwargs: Any):
        raise NotImplementedError(f"keras.distribution.{type(self).__name__} is not here yet. {ADVICE}")


class DeviceMesh(_Refused):
    """Devices in a grid."""


class TensorLayout(_Refused):
    """A tensor's axes over the axes of a grid."""


class LayoutMap(_Refused):
    """Layouts by the paths of variables."""


class DataParallel(_Refused):
    """Batches that are split over devices."""


class ModelParallel(_Refused):
    """Weights that are split over devices."""


def distribution() -> None:
    """Returns None: no distribution is set."""


def set_distribution(value: Any) -> None:
    """Takes None, which is what is set.

    Raises: NotImplementedError: for a distribution.
    """
    if value is not None:
        raise NotImplementedError(f"keras.distribution.set_distribution is not here yet. {ADVICE}")


def initialize(job_addresses: Any = None, num_processes: int | None = None, process_id: int | None = None) -> None:
    """Raises a NotImplementedError: processes are started by torchrun."""
    raise NotImplementedError(f"keras.distribution.initialize is not here yet. {ADVICE}")


def distribute_tensor(tensor: Any, layout: Any) -> Any:
    """Returns a tensor without a layout.

    Raises: NotImplementedError: for a layout.
    """
    if layout is not None:
        raise NotImplementedError(f"keras.distribution.distribute_tensor is not here yet. {ADVICE}")
    return tensor


def list_devices(device_type: str | None = None) -> list[str]:
    """Returns the devices of a kind: those that tensors are made on if None."""
    kind = {"gpu": "cuda"}.get(str(device_type).lower(), device_type) or config.device().type
    return [
        f"{device_type or kind}:{i}" for i in range(torch.cuda.device_count() if kind == "cuda" else int(kind == "cpu"))
    ]


def get_device_count(device_type: str | None = None) -> int:
    """Returns the number of devices of a kind."""
    return len(list_devices(device_type))
