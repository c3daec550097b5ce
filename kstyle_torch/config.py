"""Facts about the process: float type, device, fuzz factor, and what is printed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch.overrides import has_torch_function

from kstyle_torch.dtype_policies import dtype_policy, floatx, set_dtype_policy, set_floatx

__all__ = [
    "backend",
    "device",
    "device_scope",
    "disable_interactive_logging",
    "dtype_policy",
    "enable_interactive_logging",
    "epsilon",
    "floatx",
    "image_data_format",
    "is_interactive_logging_enabled",
    "keeps_freed_memory",
    "resident_bytes",
    "set_device",
    "set_dtype_policy",
    "set_epsilon",
    "set_floatx",
    "set_image_data_format",
    "set_keeps_freed_memory",
    "set_resident_bytes",
]

_IMAGE_FORMATS = ("channels_last", "channels_first")

_epsilon = 1e-7
_image_data_format = "channels_last"
_interactive_logging = True
_device: torch.device | None = None
_resident_bytes: int | None = None
_keeps_freed_memory = True


def backend() -> str:
    """Returns the name of the backend, which is always `"torch"`."""
    return "torch"


def epsilon() -> float:
    """Returns the fuzz factor that keeps logarithms and divisions finite, 1e-7 unless it was set."""
    return _epsilon


def set_epsilon(value: float) -> None:
    """Sets the fuzz factor of losses and metrics."""
    global _epsilon
    _epsilon = float(value)


def image_data_format() -> str:
    """Returns where an image keeps its channels when a layer does not say: `"channels_last"` unless it was set."""
    return _image_data_format


def set_image_data_format(data_format: str) -> None:
    """Sets the default place of an image's channels: `"channels_last"` or `"channels_first"`."""
    global _image_data_format
    _image_data_format = _one_of(data_format, _IMAGE_FORMATS, "data_format")


def device() -> torch.device:
    """Returns the device on which layers make their weights.

    That is the device of a `with torch.device(...)` around, such as "meta"; else the choice of `set_device`, else torch's
    accelerator, else the CPU.
    """
    if has_torch_function((None,)):
        around = torch.get_default_device()  # the CPU where there is no such block
        if around.type != "cpu":
            return around
    if _device is not None:
        return _device
    if torch.accelerator.is_available():
        return torch.accelerator.current_accelerator() or torch.device("cpu")
    return torch.device("cpu")


def set_device(value: str | torch.device | None) -> None:
    """Chooses the device of all layers built from now on.

    Args:
        value: A torch device or its name (`"cpu"`, `"cuda:1"`, `"mps"`); None goes back to the default.
    """
    global _device
    _device = None if value is None else torch.device(value)


@contextlib.contextmanager
def device_scope(value: str | torch.device) -> Iterator[None]:
    """Makes `value` the device of all layers built inside the block."""
    global _device
    before, _device = _device, torch.device(value)
    try:
        yield
    finally:
        _device = before


def resident_bytes(on: str | torch.device | None = None) -> int:
    """Arrays that are larger than this stay on the host, and are brought to the accelerator a part at a time.

    Args:
        on: The accelerator.
    Returns: What `set_resident_bytes` chose, else half of the memory that is free there; 2 GiB if it does not say.
    """
    if _resident_bytes is not None:
        return _resident_bytes
    try:
        free, _ = torch.accelerator.get_memory_info(device() if on is None else on)
    except (RuntimeError, AttributeError, NotImplementedError):
        return 2 * 2**30
    return free // 2


def set_resident_bytes(value: int | None) -> None:
    """Chooses the size up to which arrays are kept on the accelerator; None goes back to the default."""
    global _resident_bytes
    _resident_bytes = None if value is None else int(value)


def keeps_freed_memory() -> bool:
    """Returns whether the first `fit` tells the C library to keep up to 64 MiB of freed memory for the next step."""
    return _keeps_freed_memory


def set_keeps_freed_memory(value: bool) -> None:
    """Chooses whether freed memory is kept between steps, which speeds up small convnets; before the first `fit`."""
    global _keeps_freed_memory
    _keeps_freed_memory = bool(value)


def enable_interactive_logging() -> None:
    """Prints progress and messages to standard output (the default)."""
    global _interactive_logging
    _interactive_logging = True


def disable_interactive_logging() -> None:
    """Logs progress and messages, at the level INFO of the logger "kstyle_torch", instead of printing them."""
    global _interactive_logging
    _interactive_logging = False


def is_interactive_logging_enabled() -> bool:
    """Returns whether progress and messages are printed rather than logged."""
    return _interactive_logging


def _one_of(value: str, allowed: tuple[str, ...], what: str) -> str:
    if value not in allowed:
        raise ValueError(f"{what} must be one of {', '.join(map(repr, allowed))}; got {value!r}.")
    return value
