"""Warning about `parameters()` of layers that are not built yet.

An optimizer made from them would never train the weights that are built later.
"""

from __future__ import annotations

import sys
import warnings
from types import FrameType
from typing import Any

from torch import nn

# Callers from QUIET packages do not cause a warning, except those in HEARD, which keep the list of parameters.
QUIET = ("kstyle_torch", "torchinfo", "torch")
HEARD = ("torch.optim", "torch.nn.parallel", "torch.nn.utils", "torch.distributed")


def warn_of_unbuilt(layer: nn.Module, lacks_weights: Any) -> None:
    """Warns if `named_modules` of the layer was called on behalf of `parameters()`, by code outside the package.

    `parameters()` of any enclosing module calls it, but so do `modules()`, `buffers()`, `to()` and `state_dict()`, which
    need no warning. The call stack tells them apart.

    Args:
        layer: A layer without weights yet.
        lacks_weights: Returns whether a module is such a layer; the first one below the root warns for all.
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
            "an optimizer made before that never trains them. Call the model on a batch, or build() it, first.",
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
