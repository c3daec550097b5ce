"""Replaced parameters: new objects that torch itself puts in the place of a module's parameters.

`load_state_dict(assign=True)` does so, and conversions such as `.to(device)` if the tensor cannot be changed in place.
Optimizers find the state of a parameter by its identity, and must distinguish these from parameters that users assign.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import Tensor, nn

from kstyle_torch.layer.module_walk import modules_of

MARK = "_replaced_by"  # an attribute of the old parameter: it lives as long as that does


@contextlib.contextmanager
def noting_replacements(module: nn.Module) -> Iterator[None]:
    """Links each parameter of the module to the one that replaces it in the block."""
    held = [each._parameters for each in modules_of(module)]
    before = [(place, name, old) for place in held for name, old in place.items() if old is not None]
    try:
        yield
    finally:
        for place, name, old in before:
            parameter = place.get(name)
            if parameter is not None and parameter is not old:
                vars(parameter).pop(MARK, None)  # an earlier parameter may come back: avoid a cycle
                setattr(old, MARK, parameter)


def latest(parameter: Tensor) -> Tensor:
    """Returns the parameter that has replaced this one; itself if none has."""
    while (following := vars(parameter).get(MARK)) is not None:
        parameter = following
    return parameter
