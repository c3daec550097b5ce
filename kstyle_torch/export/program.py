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
    """Returns the model in inference mode as a `torch.export.ExportedProgram`, with dynamic sizes for None and the batch.

    Args:
        model: A built model.
        input_signature: The inputs, if those of the model are unknown or too general: an `InputSpec`, a symbolic tensor, or
            an example tensor or array (then only the batch size is dynamic); a nest of them for several inputs.
        options: Arguments of `torch.export.export`.
    Returns: The program. It shares the model's weights, and torch keeps the model in reference cycles: its memory is freed
        when Python's garbage collector has run.
    Raises: ValueError: if the inputs are unknown, or the model has control flow on data that torch.export cannot
        follow.
    """
    signature = Signature.of(model, input_signature)
    options.setdefault("dynamic_shapes", signature.open_axes())
    with inference(model) as held:
        if (
            len(signature.leaves) == 1
        ):  # a module in from_torch may have children with the names of a Model's properties
            held = vars(held).get("wrapped", held)
        try:
            return torch.export.export(held, signature.example(), **options)
        except refusals() as error:
            try:  # conditions on dynamic sizes become checks in the program
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
        # torch warns about channels_last weights, but writes them correctly
        warnings.filterwarnings("ignore", message="No complete tensor found")
        torch.export.save(program, file)


def refusals() -> tuple[type[Exception], ...]:
    """Returns the errors of torch.export for unsupported models."""
    from torch.fx.experimental.symbolic_shapes import ConstraintViolationError, GuardOnDataDependentSymNode

    return (
        ConstraintViolationError,
        GuardOnDataDependentSymNode,
        RuntimeError,  # base class of the compiler's errors
        ValueError,
    )


def refusal(name: str, error: Exception) -> str:
    """Returns torch.export's message on one line, with advice."""
    reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return (
        f"{name!r} cannot be exported: {reason} If a size is dynamic (None) "
        "that the model needs to know, pass it with input_signature=InputSpec(shape=...)."
    )
