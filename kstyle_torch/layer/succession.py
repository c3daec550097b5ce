"""Succession of parameters: new objects that torch itself puts in the place of a module's parameters.

`load_state_dict(assign=True)` does, and a conversion such as `.to(device)` where the tensor cannot be changed in place.
Optimizers decide by the identity of a parameter which state is whose, and must tell these from parameters that a user
has put there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import Tensor, nn

from kstyle_torch.layer.module_walk import modules_of

MARK = "_succeeded_by"  # an attribute of the old parameter: it lives as long as that does


@contextlib.contextmanager
def succession(module: nn.Module) -> Iterator[None]:
    """Notes which parameters of the module succeed which, over an operation of torch's."""
    held = [each._parameters for each in modules_of(module)]
    before = [(place, name, old) for place in held for name, old in place.items() if old is not None]
    try:
        yield
    finally:
        for place, name, old in before:
            parameter = place.get(name)
            if parameter is not None and parameter is not old:
                vars(parameter).pop(MARK, None)  # it may be an earlier one that comes back: no circles
                setattr(old, MARK, parameter)


def successor(parameter: Tensor) -> Tensor:
    """Returns the parameter that has taken the place of this one by now; itself if none has."""
    while (following := vars(parameter).get(MARK)) is not None:
        parameter = following
    return parameter
