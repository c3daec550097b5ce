"""`model.export("m.onnx")`: export to ONNX, for onnxruntime and others. Needs the extra `onnx`."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kstyle_torch import tree
from kstyle_torch._torch import ONNX_LOGGER
from kstyle_torch.export.program import to_program
from kstyle_torch.export.signature import Signature
from kstyle_torch.export.tracing import inference, leaves_nothing
from kstyle_torch.saving.atomic import replacing

NEEDED = ("onnx", "onnxscript")
MAX_BYTES = 2**31 - 2**20  # protobuf's limit, less the graph


@leaves_nothing
def write_onnx(
    model: nn.Module,
    filepath: str | os.PathLike[str],
    input_signature: Any = None,
    opset_version: int | None = None,
    verbose: bool | None = None,
) -> None:
    """Writes the model in inference mode to one `.onnx` file; sizes that are None, including the batch, stay dynamic.

    Inputs and outputs keep their names. onnxscript keeps the last graph, and with it the model's weights, until the next
    export to ONNX.

    Args:
        model: A built model.
        filepath: Path of the file.
        input_signature: See `to_program`.
        opset_version: Opset version of ONNX; torch's default if None.
        verbose: Whether torch prints its progress.
    Raises: ImportError: without the extra `onnx`. ValueError: if the model cannot be traced, has an operation that ONNX
        lacks, or is larger than 2 GB.
    """
    check_installed()
    if sum(tensor.nbytes for tensor in model.state_dict().values()) > MAX_BYTES:
        raise ValueError("A model over 2 GB does not fit into one .onnx file; export it to .pt2.")
    signature = Signature.of(model, input_signature)
    program = to_program(model, input_signature)
    names: dict[str, Any] = {
        "input_names": [leaf.name for leaf in signature.leaves],
        "output_names": _output_names(model, program),
    }
    with replacing(Path(filepath)) as unfinished, tempfile.TemporaryDirectory() as folder, _quiet(), inference(model):
        path = Path(folder, "model.onnx")
        try:
            torch.onnx.export(
                program,
                (),
                str(path),
                dynamo=True,
                opset_version=opset_version,
                external_data=False,
                verbose=bool(verbose),
                **names,
            )
        except torch.onnx.OnnxExporterError as error:
            raise ValueError(_refused(model, error)) from error
        unfinished.write_bytes(path.read_bytes())


def check_installed() -> None:
    """Raises: ImportError: if a package of the extra `onnx` is missing."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"Writing .onnx needs {' and '.join(missing)}: pip install 'kstyle-torch[onnx]'. "
            "A .pt2 file needs no extra."
        )


def _output_names(model: nn.Module, program: Any) -> list[str]:
    outputs = program.call_spec.out_spec.unflatten([0] * program.call_spec.out_spec.num_leaves)
    wanted = len(tree.flatten(outputs))
    names = list(outputs if isinstance(outputs, dict) else getattr(model, "output_names", None) or ())
    if len(names) != wanted or len({*names}) != wanted:
        names = ["output"] if wanted == 1 else [f"output_{number}" for number in range(wanted)]
    return names


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides the warnings of torch's exporter about its dependencies."""
    logger = logging.getLogger(ONNX_LOGGER)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _refused(model: nn.Module, error: Exception) -> str:
    cause = error.__cause__ or error
    reason = next((line for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
    return (
        f"{getattr(model, 'name', type(model).__name__)!r} cannot be written as ONNX: {reason} Try a .pt2 file instead."
    )
