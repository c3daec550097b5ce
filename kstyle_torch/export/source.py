"""`to_source(model)`: the model as one file of plain torch code."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import nn

from kstyle_torch import tree
from kstyle_torch.export.classes import Classes, ModesDifferError, native_modules
from kstyle_torch.export.native import Undrawn
from kstyle_torch.export.record import Recorder, record
from kstyle_torch.export.render import UnwritableError
from kstyle_torch.export.signature import Signature
from kstyle_torch.export.text import source_of_text
from kstyle_torch.export.tracing import to_trace
from kstyle_torch.mode import in_mode
from kstyle_torch.saving.atomic import write_text
from kstyle_torch.symbolic.infer import untouched

HEADER = '''"""A model in plain torch, written by kstyle_torch.

Its weights are not in here:

    model = Model()
    model.load_state_dict(state_dict)  # of the model that this was written from
    model.eval()
"""'''


def to_source(model: nn.Module, input_signature: Any = None) -> str:
    """Returns the source of a module `Model` that needs only torch, with the model's `state_dict` keys and outputs.

    The calls in each layer are recorded in inference and training mode and written as torch code; equal layers share a
    class. The result is compared with the model before it is returned.

    Args:
        model: A built model.
        input_signature: The inputs of a model without a graph; see `Model.export`.
    Returns: Python source; `exec` it, or write it to a file and import that. In training mode a layer whose training could
        not be written raises an error.
    Raises: ValueError: if a layer has data-dependent control flow, leaves torch or holds large constants; it names the layer.

    Example:
        >>> from kstyle_torch import Input, Sequential
        >>> from kstyle_torch.layers import Dense
        >>> source = to_source(Sequential([Input((3,)), Dense(2, activation="relu")]))
        >>> "self.linear = nn.Linear(3, 2)" in source
        True
    """
    signature = Signature.of(model, input_signature)
    with to_trace(model) as held:
        return _written(held, signature)


def write_source(
    model: nn.Module, filepath: str | os.PathLike[str], input_signature: Any = None, verbose: bool | None = None
) -> None:
    """Writes `to_source(model)` to a `.py` file."""
    source = to_source(model, input_signature)
    if verbose:
        print(source)
    write_text(filepath, source)


def _written(model: nn.Module, signature: Signature) -> str:
    native, text = native_modules(model), source_of_text(model)
    try:
        inference = _run(model, signature, native)
        training = _training_run(model, signature, native)
        try:
            source = Classes(model, native, (inference, training)).source(HEADER, text)
        except ModesDifferError:
            source = Classes(model, native, (_run(model, signature, native), None)).source(HEADER, text)
    except UnwritableError as error:
        raise ValueError(f"to_source() cannot write {error}. Try model.export('model.pt2') instead.") from error
    _check(model, source, signature)
    return source


def _run(model: nn.Module, signature: Signature, native: dict[int, Any]) -> Recorder:
    try:
        return record(model, signature, False, native)
    except Exception as error:  # layers may raise any error for fake tensors
        where = getattr(error, "kstyle_layer", None) or getattr(model, "name", type(model).__name__)
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UnwritableError(f"{where!r}: {reason}") from error


def _training_run(model: nn.Module, signature: Signature, native: dict[int, Any]) -> Recorder | None:
    try:
        return record(model, signature, True, native)
    except Exception:  # random layers that draw on the host, say: then only inference is written  # noqa: BLE001
        return None


def _check(model: nn.Module, source: str, signature: Signature) -> None:
    """Compares the source with the model.

    Raises: ValueError: if keys or outputs differ.
    """
    namespace: dict[str, Any] = {"__name__": "written"}
    exec(compile(source, "<to_source>", "exec"), namespace)
    with Undrawn():
        twin = namespace["Model"]()
    twin.load_state_dict(model.state_dict())
    twin.to(signature.device).eval()
    with untouched(model), in_mode(model, False), torch.no_grad():
        for rows in (2, 1):
            example = signature.example(rows)
            pairs = zip(tree.flatten(model(*example)), tree.flatten(twin(*example)), strict=True)
            for expected, got in pairs:
                if isinstance(expected, torch.Tensor) and not torch.allclose(
                    got, expected, rtol=1e-4, atol=1e-5, equal_nan=True
                ):
                    raise ValueError(
                        "the outputs of to_source() differ from the model's, which is a bug; please report it. "
                        "model.export('model.pt2') is not affected."
                    )
