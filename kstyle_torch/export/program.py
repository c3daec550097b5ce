"""`model.export("m.pt2")`: a program of torch.export, which plain torch loads and runs without this package."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kstyle_torch.export.signature import Signature
from kstyle_torch.export.tracing import inference, leaves_nothing
from kstyle_torch.saving.atomic import replacing


def to_program(model: nn.Module, input_signature: Any = None, **options: Any) -> Any:
    """Returns the model in inference mode as a `torch.export.ExportedProgram`; sizes that are None, the batch's too, stay open.

    Args:
        model: What to export; built.
        input_signature: What it is called on, where the model's own inputs do not say it or say it too loosely: an
            `InputSpec`, a symbolic tensor, or a tensor or array to copy (then only the batch size is open); a nest of them
            for several inputs.
        options: For `torch.export.export`.
    Returns: The program. It holds the model's own weights, and what torch keeps of the tracing holds the model in reference
        cycles: its memory is free once Python's garbage collector has run.
    Raises: ValueError: if the inputs are not known, or the model decides on its data in a way that torch.export cannot
        follow.
    """
    signature = Signature.of(model, input_signature)
    options.setdefault("dynamic_shapes", signature.open_axes())
    with inference(model) as held:
        if len(signature.leaves) == 1:  # what from_torch wraps may have children called as a Model's properties are
            held = vars(held).get("wrapped", held)
        try:
            return torch.export.export(held, signature.example(), **options)
        except refusals() as error:
            try:  # conditions on open sizes become checks in the program
                options.setdefault("prefer_deferred_runtime_asserts_over_guards", True)
                return torch.export.export(held, signature.example(), **options)
            except refusals():
                raise ValueError(refusal(getattr(model, "name", type(model).__name__), error)) from error


@leaves_nothing
def write_program(
    model: nn.Module,
    filepath: str | os.PathLike[str],
    input_signature: Any = None,
    verbose: bool | None = None,
    **options: Any,
) -> None:
    """Writes the model's program to a `.pt2` file, which `torch.export.load(path).module()` reads.

    The arguments are those of `to_program`; `verbose` prints the program.
    """
    program = to_program(model, input_signature, **options)
    if verbose:
        print(program)
    with replacing(Path(filepath)) as unfinished, unfinished.open("wb") as file, warnings.catch_warnings():
        # torch measures channels_last weights wrongly and warns; it writes them right
        warnings.filterwarnings("ignore", message="No complete tensor found")
        torch.export.save(program, file)


def refusals() -> tuple[type[Exception], ...]:
    """Returns the errors by which torch.export says that it cannot follow a model."""
    from torch.fx.experimental.symbolic_shapes import ConstraintViolationError, GuardOnDataDependentSymNode

    return (
        ConstraintViolationError,
        GuardOnDataDependentSymNode,
        RuntimeError,  # those of the compiler are derived from it
        ValueError,
    )


def refusal(name: str, error: Exception) -> str:
    """Returns a message of one line that torch.export's, and advice, are made to."""
    reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return (
        f"{name!r} cannot be exported: {reason} Where a size is open (None) "
        "that the model needs to know, give it with input_signature=InputSpec(shape=...)."
    )
