"""Settings of the process: float type, device, fuzz factor, limits, and output.

`keras.json` in `$KERAS_HOME` or `~/.keras` sets floatx, epsilon and image_data_format, as for Keras.
"""

from __future__ import annotations

import contextlib
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.overrides import has_torch_function

from kstyle_torch.dtype_policies import FLOATS, dtype_policy, floatx, set_dtype_policy, set_floatx
from kstyle_torch.tracebacks import (
    disable_traceback_filtering,
    enable_traceback_filtering,
    is_traceback_filtering_enabled,
    warn_user,
)

__all__ = [
    "backend",
    "device",
    "device_scope",
    "disable_flash_attention",
    "disable_interactive_logging",
    "disable_traceback_filtering",
    "dtype_policy",
    "enable_flash_attention",
    "enable_interactive_logging",
    "enable_traceback_filtering",
    "enable_unsafe_deserialization",
    "epsilon",
    "floatx",
    "image_data_format",
    "is_flash_attention_enabled",
    "is_interactive_logging_enabled",
    "is_traceback_filtering_enabled",
    "keeps_freed_memory",
    "matmul",
    "max_epochs",
    "max_steps_per_epoch",
    "resident_bytes",
    "set_device",
    "set_dtype_policy",
    "set_epsilon",
    "set_floatx",
    "set_image_data_format",
    "set_keeps_freed_memory",
    "set_matmul",
    "set_max_epochs",
    "set_max_steps_per_epoch",
    "set_resident_bytes",
]

_IMAGE_FORMATS = ("channels_last", "channels_first")
_MATMULS = ("auto", "onednn", "torch")

_epsilon = 1e-7
_image_data_format = "channels_last"
_interactive_logging = True
_device: torch.device | None = None
_resident_bytes: int | None = None
_keeps_freed_memory = True
_matmul = "auto"
_unsafe_deserialization = False
_max_epochs: int | None = None
_max_steps_per_epoch: int | None = None


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
    """Returns the default position of an image's channels: `"channels_last"` unless it was set."""
    return _image_data_format


def set_image_data_format(data_format: str) -> None:
    """Sets the default position of an image's channels: `"channels_last"` or `"channels_first"`."""
    global _image_data_format
    _image_data_format = _one_of(data_format, _IMAGE_FORMATS, "data_format")


def device() -> torch.device:
    """Returns the device on which layers create their weights.

    That is the device of a surrounding `with torch.device(...)`, such as "meta"; else the choice of `set_device`, else torch's
    accelerator, else the CPU.
    """
    if has_torch_function((None,)):
        around = torch.get_default_device()  # the CPU outside of such a block
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
        value: A torch device or its name (`"cpu"`, `"cuda:1"`, `"mps"`); None restores the default.
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
    """Returns the size beyond which arrays stay on the host and are copied to the accelerator in parts.

    Args:
        on: The accelerator.
    Returns: The value of `set_resident_bytes`, else half of the free memory of the accelerator; 2 GiB if unknown.
    """
    if _resident_bytes is not None:
        return _resident_bytes
    try:
        free, _ = torch.accelerator.get_memory_info(device() if on is None else on)
    except (RuntimeError, AttributeError, NotImplementedError):
        return 2 * 2**30
    return free // 2


def set_resident_bytes(value: int | None) -> None:
    """Chooses the size up to which arrays are kept on the accelerator; None restores the default."""
    global _resident_bytes
    _resident_bytes = None if value is None else int(value)


def keeps_freed_memory() -> bool:
    """Returns whether the first `fit` tells the C library to keep up to 64 MiB of freed memory between steps."""
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


def enable_flash_attention() -> None:
    """Allows attention to use torch's flash kernel where possible (the default)."""
    torch.backends.cuda.enable_flash_sdp(True)  # of all devices, whatever the name says


def disable_flash_attention() -> None:
    """Disables the flash kernel of attention in all of torch; a layer may still require it."""
    torch.backends.cuda.enable_flash_sdp(False)


def is_flash_attention_enabled() -> bool | None:
    """Returns False if the flash kernel is disabled; else None, as Keras does: torch chooses."""
    return None if torch.backends.cuda.flash_sdp_enabled() else False


def enable_unsafe_deserialization() -> None:
    """Allows configs and files to run code that is stored in them, as if every caller passed `safe_mode=False`."""
    global _unsafe_deserialization
    _unsafe_deserialization = True


def is_unsafe_deserialization_enabled() -> bool:
    """Returns whether `enable_unsafe_deserialization` was called."""
    return _unsafe_deserialization


def matmul() -> str:
    """Returns which library multiplies the matrices of dense layers: `"auto"`, `"onednn"` or `"torch"`."""
    return _matmul


def set_matmul(library: str) -> None:
    """Chooses the library that multiplies large float32 matrices of dense layers on the CPU.

    Results differ by rounding (1e-6 relative), like those of two processors.

    Args:
        library: `"torch"` is what `torch.nn.functional.linear` takes. `"onednn"` is oneDNN. `"auto"`, the default, is
            oneDNN on processors where torch's choice is known to be slower (AMD's from Zen 5 on), torch's on others.
    Raises: ValueError: for other values.
    """
    global _matmul
    _matmul = _one_of(library, _MATMULS, "library")


def max_epochs() -> int | None:
    """Returns the limit of the epochs of `fit`; None for no limit."""
    return _max_epochs


def set_max_epochs(max_epochs: int | None) -> None:
    """Sets the number of epochs at which every `fit` ends, to try a program; so does `KERAS_MAX_EPOCHS`."""
    global _max_epochs
    _max_epochs = _limit(max_epochs, "max_epochs")


def max_steps_per_epoch() -> int | None:
    """Returns the limit of the batches of an epoch, evaluation or prediction; None for no limit."""
    return _max_steps_per_epoch


def set_max_steps_per_epoch(max_steps_per_epoch: int | None) -> None:
    """Sets the number of batches at which every epoch ends, to try a program; so does `KERAS_MAX_STEPS_PER_EPOCH`."""
    global _max_steps_per_epoch
    _max_steps_per_epoch = _limit(max_steps_per_epoch, "max_steps_per_epoch")


def limited(value: Any, limit: int | None, what: str) -> Any:
    """Limits a number of epochs or steps, with a warning if that reduces it."""
    if limit is None or (value is not None and value <= limit):
        return value
    warn_user(f"Limiting {what} to {limit}, as keras.config or the environment says.")
    return limit


def _limit(value: int | None, what: str) -> int | None:
    if value is not None and (not hasattr(value, "__index__") or isinstance(value, bool) or int(value) < 0):
        raise ValueError(f"{what} must be a non-negative int or None; got {value!r}.")
    return None if not value else int(value)


def _one_of(value: str, allowed: tuple[str, ...], what: str) -> str:
    if value not in allowed:
        raise ValueError(f"{what} must be one of {', '.join(map(repr, allowed))}; got {value!r}.")
    return value


def home() -> Path:
    """Returns the folder of Keras' settings and cache: `$KERAS_HOME`, else `~/.keras`."""
    return Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()


def _read_settings(path: Path) -> None:
    """Loads the settings of a `keras.json`; a missing or invalid file is ignored, as in Keras.

    Raises: ValueError: for a value that is not allowed.
    """
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if not isinstance(settings, dict):
        return
    number = settings.get("epsilon", _epsilon)
    if not isinstance(number, float):
        raise ValueError(f"{path}: epsilon must be a float; got {number!r}.")
    set_epsilon(number)
    set_floatx(_one_of(settings.get("floatx", floatx()), FLOATS, f"{path}: floatx"))
    set_image_data_format(
        _one_of(settings.get("image_data_format", _image_data_format), _IMAGE_FORMATS, f"{path}: image_data_format")
    )


def _read_environment() -> None:
    """Loads limits from the environment, and warns if it selects a backend other than torch."""
    for name, limit in (("KERAS_MAX_EPOCHS", set_max_epochs), ("KERAS_MAX_STEPS_PER_EPOCH", set_max_steps_per_epoch)):
        if text := os.environ.get(name):
            if not text.strip().isdigit():
                raise ValueError(f"The environment variable {name} must be a non-negative int; got {text!r}.")
            limit(int(text))
    if (name := os.environ.get("KERAS_BACKEND") or "torch") != "torch":
        warnings.warn(f"KERAS_BACKEND={name} is ignored: the backend of this package is torch.", stacklevel=2)


_read_settings(home() / "keras.json")
_read_environment()
