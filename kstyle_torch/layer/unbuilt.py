"""Warns where the parameters of layers are asked for that have none yet.

An optimizer made of them would never train what is built later.
"""

from __future__ import annotations

import sys
import warnings
from types import FrameType
from typing import Any

from torch import nn

# Whose code may ask at any time. What torch's optimizers, wrappers and utilities do with a list is for good.
QUIET = ("kstyle_torch", "torchinfo", "torch")
HEARD = ("torch.optim", "torch.nn.parallel", "torch.nn.utils", "torch.distributed")


def warn_of_unbuilt(layer: nn.Module, lacks_weights: Any) -> None:
    """Warns if `named_modules` was called on the layer for the sake of `parameters()`, by code outside the package.

    `nn.Module.parameters()` of any module around the layer comes by here, and so does much that is no cause for a warning:
    `modules()`, `buffers()`, `to()`, `state_dict()`. The frames above tell them apart.

    Args:
        layer: Has no weights yet.
        lacks_weights: Tells that of any module: the first such layer below the root warns for all.
    """
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code.co_name == "named_modules":
        frame = frame.f_back
    if frame is None or frame.f_code.co_name != "_named_members":
        return
    root, frame = frame.f_locals["self"], frame.f_back
    if frame is None or frame.f_code.co_name != "named_parameters":
        return
    frame = frame.f_back
    while frame is not None and frame.f_code.co_name in ("parameters", "named_parameters"):
        frame = frame.f_back
    asking = "" if frame is None else str(frame.f_globals.get("__name__", ""))
    if _is_in(asking, QUIET) and not _is_in(asking, HEARD):
        return
    unbuilt = [module for module in root.modules() if lacks_weights(module)]
    if unbuilt[0] is layer:
        names = ", ".join(repr(module.name) for module in unbuilt[:5]) + (", ..." if len(unbuilt) > 5 else "")
        warnings.warn(
            f"parameters() of layers that are not built yet: {names}. Their weights are made when they are first called, and "
            "an optimizer that was made before never trains them. Call the model on a batch, or build() it, first.",
            stacklevel=_depth_of(frame),
        )


def _depth_of(frame: FrameType | None) -> int:
    """Returns the `stacklevel`, for the caller, of a frame above."""
    depth, above = 1, sys._getframe(1)
    while above is not frame and above.f_back is not None:
        depth, above = depth + 1, above.f_back
    return depth


def _is_in(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)
