"""`model.export(path)`: choice of the writer by the suffix, or by Keras' name of the format."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from kstyle_torch.export.onnx import write_onnx
from kstyle_torch.export.program import write_program
from kstyle_torch.export.source import write_source
from kstyle_torch.export.text import left_out
from kstyle_torch.messages import say
from kstyle_torch.registry import did_you_mean

WRITERS: dict[str, Callable[..., None]] = {".pt2": write_program, ".onnx": write_onnx, ".py": write_source}
SUFFIXES = {"torch": ".pt2", "pt2": ".pt2", "onnx": ".onnx", "source": ".py"}  # Keras' names, and this package's
OTHERS = ("tf_saved_model", "openvino", "litert")


def write(
    model: nn.Module,
    filepath: str | os.PathLike[str],
    format: str | None = None,
    input_signature: Any = None,
    **options: Any,
) -> None:
    """Writes the model in a format that runs without this package.

    Args:
        model: A built model.
        filepath: Path of the file.
        format: "torch", "onnx" or "source"; determined by the suffix if None.
        input_signature: See `to_program`.
        options: Options of the writer.
    Raises: ValueError: for another format, or an unsupported model. ImportError: without the format's extra.
    """
    if format in OTHERS:
        raise ValueError(f"export(format={format!r}) is for other frameworks; write a .pt2 or an .onnx file.")
    if format is not None and format not in SUFFIXES:
        raise ValueError(f"Unknown export format {format!r}.{did_you_mean(format, SUFFIXES)}")
    suffix = Path(filepath).suffix.lower() if format is None else SUFFIXES[format]
    if suffix not in WRITERS:
        raise ValueError(
            f"export() writes {', '.join(WRITERS)} files, or those of format= ({', '.join(SUFFIXES)}); got {str(filepath)!r}."
        )
    if not getattr(model, "built", True):
        raise ValueError(
            f"{getattr(model, 'name', '')!r} is not built yet: build it or call it on data before exporting."
        )
    WRITERS[suffix](model, filepath, input_signature=input_signature, **options)
    if note := left_out(model):
        say(f"{note} The .py file has functions for it." if suffix == ".py" else note)
