"""`call` and `forward` of layers: one function under Keras' name and torch's, also where a user replaces one of the two.

On an object, the layer's `__setattr__` notices the assignment. On a class only a metaclass could, and classes that have
another metaclass could then not be mixed in. So calls and runs compare the two names, which costs a few nanoseconds, and
pair them again where they differ.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterable
from types import MethodType
from typing import Any

from torch import nn

from kstyle_torch.layer.casts import PreciseForward
from kstyle_torch.layer.changes import changes
from kstyle_torch.layer.module_walk import set_unnoticed
from kstyle_torch.layer.users_calls import has_users_call
from kstyle_torch.mode import fills_training

CALLS = ("call", "forward")


def pair_call_and_forward(cls: Any, root: type) -> None:
    """Makes `call` and `forward` of a new class the same function, the one defined nearest along the MRO.

    Args:
        cls: The class.
        root: The class of all layers.
    """
    home = next(base for base in cls.__mro__ if base is not root and {*CALLS} & vars(base).keys())
    if home is nn.Module or (home is not cls and issubclass(home, root)):
        return  # nothing new: the functions of the base class are paired already
    function = vars(home).get("forward") or vars(home)["call"]
    parameters = inspect.signature(function).parameters
    takes_training = "training" in parameters
    if takes_training and not vars(cls).get("_resolves_mode", False):
        default = parameters["training"].default
        cls._training_default = default if isinstance(default, bool) else None
        function = fills_training(function)
    cls._takes_training = takes_training
    cls._parameter_names = tuple(parameters)[1:]
    is_users = not (function.__module__ or "").startswith("kstyle_torch.")
    cls._takes_mask = is_users and any("mask" in name for name in cls._parameter_names)
    if is_users and "forward" in vars(home):  # written for torch, where any argument may be passed by position
        cls._allow_non_tensor_positional_args = True
    if cls._training_default or not cls.__module__.startswith("kstyle_torch."):
        cls._opens_call = True
    cls.forward = cls.call = cls._own_call = cls._paired_call = function


def pair_again(classes: Iterable[Any]) -> None:
    """Pairs the names again in classes where a user has replaced one of them since."""
    for cls in classes:
        if cls.call is not cls.forward:
            for base in reversed(cls.__mro__):
                if hasattr(base, "_own_call"):
                    _pair_again(base)


def _pair_again(cls: Any) -> None:
    held, paired = {name: vars(cls)[name] for name in CALLS if name in vars(cls)}, vars(cls).get("_paired_call")
    if not held or (len(held) == len(CALLS) and held["call"] is held["forward"]):
        return
    changes.count += 1
    new = [function for function in held.values() if function is not paired]
    if not new:  # the function that was set on this class was deleted again
        delattr(cls, *held)
        del cls._paired_call
        _open_calls(cls, False)
        return
    known = any(vars(base).get("_own_call") is new[0] for base in cls.__mro__)
    function = new[0] if known or not _takes_training(new[0]) else fills_training(new[0])
    _open_calls(cls, new[0] is not cls._own_call)
    cls.forward = cls.call = cls._paired_call = function


def _open_calls(cls: Any, opens: bool) -> None:
    """Records that a user's call may call other layers, or restores what the class itself declares."""
    if opens and "_opened_before" not in vars(cls):
        cls._opened_before = vars(cls).get("_opens_call")
        cls._opens_call = True
    elif not opens and "_opened_before" in vars(cls):
        if cls._opened_before is None:
            del cls._opens_call
        else:
            cls._opens_call = cls._opened_before
        del cls._opened_before


def replace_call(layer: Any, value: Callable[..., Any]) -> None:
    """Sets `call` and `forward` of an object to what a user assigns to one of them; its own method restores both."""
    restore_call(layer)
    cls: Any = type(layer)
    if isinstance(value, PreciseForward):
        set_unnoticed(layer, forward=value)
        return
    if getattr(value, "__self__", None) is layer and getattr(value, "__func__", None) is cls.forward:
        return
    function = _with_mode(layer, value) if _takes_training(value) else value
    set_unnoticed(layer, call=function, _opens_call=True)
    # The casts call what is set. They are copied, since the user's function may hold the former ones.
    casts = vars(layer).get("forward")
    set_unnoticed(layer, forward=function if casts is None else copy.copy(casts))


def restore_call(layer: Any) -> None:
    """Restores the methods of the class on an object."""
    fields = vars(layer)
    if "call" in fields:
        del fields["call"], fields["_opens_call"]
    if "forward" in fields and not isinstance(fields["forward"], PreciseForward):
        del fields["forward"]


def drop_casts(layer: Any) -> None:
    """Removes the casts from an object's `forward`; a function that a user has set stays."""
    fields = vars(layer)
    fields.pop("forward", None)
    if "call" in fields:
        set_unnoticed(layer, forward=fields["call"])


def has_other_call(layer: Any) -> bool:
    """Returns whether a user has replaced `call`, or the `__call__` of the class."""
    cls = type(layer)
    pair_again((cls,))
    return "call" in vars(layer) or cls.forward is not cls._own_call or has_users_call(cls)


def _takes_training(function: Any) -> bool:
    try:
        return "training" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # no signature
        return False


def _with_mode(layer: Any, value: Any) -> MethodType:
    """Returns a user's call of an object, with `training` filled in where the caller omits it."""
    if isinstance(value, MethodType) and value.__self__ is layer:
        return MethodType(fills_training(value.__func__), layer)

    @functools.wraps(value)
    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG001
        return value(*args, **kwargs)

    return MethodType(fills_training(call, [*inspect.signature(value).parameters].index("training") + 1), layer)
