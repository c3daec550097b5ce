"""Detection of a `__call__` that users have written or replaced, to trace or time layers.

Graphs and inner loops bypass the `__call__` of layers, which has no effect there. They must not bypass a user's. As with
`call`, assigning a function to a class notifies nothing, so callers compare.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from kstyle_torch.mode import running

# Function -> the class whose `__call__` it calls, None for the innermost ones. Read when the package is imported; the
# classes of layers add theirs.
OWN_CALLS: dict[Any, type | None] = {nn.Module.__call__: None}


def with_users_call(classes: Iterable[Any]) -> tuple[Any, ...]:
    """Returns those classes of modules whose `__call__` is a user's."""
    own = OWN_CALLS
    return tuple([cls for cls in classes if own.get(cls.__call__, cls) is not None and has_users_call(cls)])


def has_users_call(cls: Any) -> bool:
    """Returns whether the `__call__` of a class of modules is a user's, or calls one."""
    function = cls.__call__
    if function in OWN_CALLS:
        above = OWN_CALLS[function]
        return above is not None and has_users_call(above)
    # Each graph module that torch traces has a `__call__` of its own. Both names are compared: `functools.wraps` copies
    # torch's `__module__` to a user's wrapper, and torch's decorators have torch's globals around a user's function.
    homes = getattr(function, "__module__", None), getattr(function, "__globals__", {}).get("__name__")
    return not all(str(home).startswith("torch.") for home in homes)


def users_call(modules: Iterable[nn.Module]) -> str | None:
    """Returns the name of the first `__call__` of the modules that is a user's; None if there is none."""
    return next(
        (f"{cls.__name__}.__call__" for cls in with_users_call({type(module): None for module in modules})), None
    )


def call_by_users(module: Any, *args: Any, **kwargs: Any) -> Any:
    """Calls a module by its `__call__`, with `training` if its `call` takes it, as in Keras."""
    if running.mode is not None and getattr(module, "_takes_training", False):
        kwargs.setdefault("training", running.mode)
    return module(*args, **kwargs)
