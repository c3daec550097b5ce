"""Conversion of tensors to NumPy arrays and back, including bfloat16, which NumPy lacks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from kstyle_torch.errors import WrongTypeError


def to_array(tensor: Tensor) -> np.ndarray:
    """Returns a tensor as an array on the host; waits for the device.

    bfloat16 becomes the dtype of that name of `ml_dtypes` if that package is installed, as in Keras, else float32.
    """
    if type(tensor) is Tensor and tensor.dtype is not torch.bfloat16:
        return tensor.numpy(force=True)  # the same as below, in one call; torch has it for its own class only
    tensor = tensor.detach().cpu()
    if tensor.dtype is not torch.bfloat16:
        return tensor.resolve_conj().resolve_neg().numpy()
    try:
        import ml_dtypes
    except ImportError:
        return tensor.float().numpy()
    return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)


def from_array(value: Any, device: Any = None) -> Tensor:
    """Does what `torch.as_tensor` does, also for arrays of `ml_dtypes`' bfloat16."""
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.name == "bfloat16":
        bits = np.ascontiguousarray(value).view(np.int16).reshape(np.shape(value))
        return torch.as_tensor(bits, device=device).view(torch.bfloat16)
    try:
        return torch.as_tensor(value, device=device)
    except TypeError as error:  # whose message lists the dtypes of torch
        kind = value.dtype.name if isinstance(value, np.ndarray) else type(value).__name__
        raise WrongTypeError(f"A tensor holds numbers or bools; got {shown(value)} of type {kind}.") from error


def shown(value: Any) -> str:
    """Returns a value as text for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def tensor_of(value: Any) -> Any:
    """Converts an array, list, number or Variable to a tensor; (symbolic) tensors are returned unchanged."""
    if isinstance(value, (np.ndarray, np.generic, list, tuple, int, float)):
        return from_array(value)
    read = None if isinstance(value, Tensor) else getattr(value, "read", None)  # the class itself is above this module
    return value if read is None else read()
