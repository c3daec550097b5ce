"""A limit on what a file may make its reader allocate: a config of a few bytes can ask for any number of weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

FREE_SIZE = 1 << 28  # bytes of one tensor that nobody asks about
FREE_TOTAL = 1 << 30


class Budget(TorchFunctionMode):
    """Refuses to make tensors out of proportion to the file they are for, while a model is made of its config.

    Args:
        stored: Bytes of weights in the file.
    Raises: ValueError: (of the call) for a tensor that is too large, or when all together are.
    """

    def __init__(self, stored: int):
        super().__init__()
        self.of_one, self.left = max(FREE_SIZE, 4 * stored), max(FREE_TOTAL, 16 * stored)

    def __torch_function__(self, function: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        measure = MEASURES.get(getattr(function, "__name__", ""))
        if measure is not None:
            self._take(measure(args, kwargs) * 4)
        return function(*args, **kwargs)

    def _take(self, size: float) -> None:
        if size > self.of_one:
            raise ValueError(f"the config asks for a tensor of {size:.3g} bytes, far more than the file holds weights.")
        if size > 1 << 20:
            self.left -= int(size)
        if self.left < 0:
            raise ValueError("the config asks for far more memory than the file holds weights.")


def _product(sizes: Any) -> float:
    flat = sizes[0] if len(sizes) == 1 and isinstance(sizes[0], (tuple, list, torch.Size)) else sizes
    return float(math.prod(abs(size) for size in flat if isinstance(size, int)))


def _filled(args: Any, kwargs: dict[str, Any]) -> float:
    return _product(args if args else (kwargs.get("size", ()),))


def _drawn_or_full(args: Any, kwargs: dict[str, Any]) -> float:
    sizes = [arg for arg in args if isinstance(arg, (tuple, list, torch.Size))] + [kwargs.get("size", ())]
    return _product((sizes[0],))


def _square(args: Any, kwargs: dict[str, Any]) -> float:
    return _product(args[:1] * 2) if len(args) < 2 else _product(args[:2])


def _range(args: Any, kwargs: dict[str, Any]) -> float:
    numbers = [arg for arg in (*args, *kwargs.values()) if isinstance(arg, (int, float)) and not isinstance(arg, bool)]
    step = abs(numbers[2]) if len(numbers) > 2 and numbers[2] else 1
    return max(map(abs, numbers), default=0.0) / step


def _steps(args: Any, kwargs: dict[str, Any]) -> float:
    steps = kwargs.get("steps", args[2] if len(args) > 2 else 0)
    return float(abs(steps)) if isinstance(steps, (int, float)) else 0.0


def _repeated(args: Any, kwargs: dict[str, Any]) -> float:
    given = args[1:] or tuple(kwargs.values())
    return args[0].numel() * _product(given) if args and isinstance(args[0], Tensor) else 0.0


def _of_size(args: Any, kwargs: dict[str, Any]) -> float:
    if args and isinstance(args[0], Tensor) and args[0].numel() == 0:
        return 0.0
    return _product(args[1:] or (kwargs.get("size", ()),))


def _interleaved(args: Any, kwargs: dict[str, Any]) -> float:
    repeats = kwargs.get("repeats", args[1] if len(args) > 1 else 1)
    return args[0].numel() * float(abs(repeats)) if isinstance(repeats, int) and isinstance(args[0], Tensor) else 0.0


def _padded(args: Any, kwargs: dict[str, Any]) -> float:
    x, pads = args[0], kwargs.get("pad", args[1] if len(args) > 1 else ())
    if not isinstance(x, Tensor) or x.numel() == 0:
        return 0.0
    sizes = list(x.shape)
    for place in range(len(pads) // 2):
        sizes[-1 - place] += sum(pad for pad in pads[2 * place : 2 * place + 2] if isinstance(pad, int))
    return _product((sizes,))


def _resized(args: Any, kwargs: dict[str, Any]) -> float:
    x, size = args[0], kwargs.get("size", args[1] if len(args) > 1 else None)
    if not isinstance(x, Tensor) or size is None:
        return 0.0
    return float(math.prod(x.shape[:2])) * _product(
        (size if isinstance(size, (tuple, list)) else (size,) * (x.ndim - 2),)
    )


MEASURES: dict[str, Callable[[Any, dict[str, Any]], float]] = {
    **dict.fromkeys(("empty", "zeros", "ones", "rand", "randn"), _filled),
    **dict.fromkeys((f"{window}_window" for window in "bartlett blackman hamming hann kaiser".split()), _filled),
    **dict.fromkeys(("full", "randint", "normal", "empty_strided"), _drawn_or_full),
    **dict.fromkeys(("new_empty", "new_zeros", "new_ones", "new_full", "expand", "broadcast_to"), _of_size),
    **dict.fromkeys(("repeat", "tile"), _repeated),
    **dict.fromkeys(("linspace", "logspace"), _steps),
    **{"eye": _square, "arange": _range, "repeat_interleave": _interleaved, "pad": _padded, "interpolate": _resized},
}
