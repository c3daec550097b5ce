"""Widths and sizes of images of MobileNet and MobileNetV2, each pair with a published file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kstyle_torch.applications._arguments import Arguments
from kstyle_torch.applications._shapes import channel_axis
from kstyle_torch.tracebacks import warn_user


def trained_size(shape: Any, sizes: Sequence[int]) -> int:
    """Returns the height and width of images if a published file is for them, else 224.

    Args:
        shape: Of an image; None if it is not given.
        sizes: Those that there are files for.
    """
    rows, columns = rows_and_columns(shape) if shape is not None and len(shape) == 3 else (None, None)
    return int(rows) if rows is not None and rows == columns and rows in sizes else 224


def rows_and_columns(shape: Any) -> tuple[int | None, int | None]:
    """Returns the height and the width of an image from its shape."""
    return (shape[0], shape[1]) if channel_axis() == -1 else (shape[1], shape[2])


def published_rows(
    arguments: Arguments, shape: Any, alpha: float, widths: Sequence[float], sizes: Sequence[int]
) -> Any:
    """Returns the height of the images that stands in the names of the model and of the file.

    Args:
        arguments: Those of the architecture.
        shape: Of an image.
        alpha: Width of the network.
        widths: Widths that there are files for.
        sizes: Heights that there are files for.
    Raises: ValueError: if no file is published for the width. A warning is given if the file is for another size of images.
    """
    rows, columns = rows_and_columns(shape)
    if not arguments.is_published:
        return rows
    if alpha not in widths:
        raise ValueError(f"weights='imagenet' needs an alpha of {', '.join(map(str, widths))}; got {alpha!r}.")
    if rows == columns and rows in sizes:
        return rows
    warn_user(
        f"The weights were trained on images of 224 x 224; there are others for squares of {', '.join(map(str, sizes))}.",
    )
    return 224
