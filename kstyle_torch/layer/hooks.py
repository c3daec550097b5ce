"""Detection of hooks: without any, the inner loops call `forward` directly."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from torch import nn

from kstyle_torch._torch import has_global_hook
from kstyle_torch.layer.users_calls import OWN_CALLS, has_users_call

CALL_MODULE = nn.Module.__call__  # as it is when the package is imported
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def anybody_listens(modules: Iterable[nn.Module], besides: Collection[Callable[..., Any]] = ()) -> bool:
    """Returns whether a call of one of the modules runs more than `forward`: hooks, a compiled call, another `__call__`.

    Args:
        modules: The modules to check.
        besides: Hooks to ignore.
    """
    if has_global_hook() or nn.Module.__call__ is not CALL_MODULE:
        return True
    for module in modules:
        fields = module.__dict__
        if (
            fields["_forward_hooks"]
            or fields["_forward_pre_hooks"]
            or fields["_backward_hooks"]
            or fields["_backward_pre_hooks"]
        ) and not all(hook in besides for name in HOOKS for hook in fields[name].values()):
            return True
        if fields.get("_compiled_call_impl") is not None:
            return True
        cls: Any = module.__class__
        call = cls.__call__
        if call is not CALL_MODULE and OWN_CALLS.get(call, cls) is not None and has_users_call(cls):
            return True
    return False
