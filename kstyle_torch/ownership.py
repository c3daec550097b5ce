"""Owners of classes, functions and objects: the package, torch and Python, or users.

Fast paths trust code of the first three. `__module__` alone does not say whose code it is: `functools.wraps` copies it from
the function that a user replaces or wraps.
"""

from __future__ import annotations

import functools
import sys
from types import FunctionType, MethodType
from typing import Any

import torch

OURS = frozenset({"kstyle_torch", "torch", "builtins", "_operator", "math"})
OPAQUE = frozenset({*OURS, "numpy", *sys.stdlib_module_names}) - {"__main__", "argparse"}  # not searched for values
SCRIPTED = frozenset({torch.jit.ScriptModule, torch.jit.ScriptFunction})  # what users wrote, compiled
GENERATED = "<kstyle_torch "  # begin of the file names of generated code, whose globals are no module's
USERS = "?"  # of what has no home, or claims that of another object


def is_ours(value: Any) -> bool:
    """Returns whether a class, function or object is the package's, torch's or Python's, and so is all that it wraps."""
    if isinstance(value, functools.partial):
        return all(is_ours(part) for part in (value.func, *value.args, *value.keywords.values()) if callable(part))
    if isinstance(value, type):  # Python's own bases, such as Generic, add nothing to a class
        return home_of_class(value) in OURS and homes_of(value) <= OPAQUE
    kind = type(value)
    if kind is MethodType:
        return is_ours(value.__func__) and is_ours(value.__self__)
    return homes_of(value) <= OURS if kind is FunctionType or kind.__module__ == "builtins" else is_ours(kind)


def is_opaque(value: Any) -> bool:
    """Returns whether a class, function or object is of a package whose objects hold no values of users."""
    return homes_of(value) <= OPAQUE


def is_of_package(value: Any) -> bool:
    """Returns whether a function, method or class is this package's own."""
    homes = homes_of(value)
    return "kstyle_torch" in homes and homes <= {"kstyle_torch", "builtins"}


def homes_of(value: Any) -> set[str]:
    """Returns the top-level packages of an object's code.

    Those of a function are where its code was written, where it claims to be from, and those of what it wraps; those of a
    method are also its object's; those of a class are its bases' too; those of other objects are their class's.
    """
    kind = type(value)
    if kind is FunctionType:
        if value.__code__.co_filename.startswith(GENERATED):
            return {"kstyle_torch"}
        homes = {_top(value.__globals__.get("__name__")), _top(value.__module__)}
        wrapped = vars(value).get("__wrapped__")
        return homes if wrapped is None or wrapped is value else homes | homes_of(wrapped)
    if kind is MethodType:
        return homes_of(value.__func__) | homes_of(value.__self__)
    if issubclass(kind, type):
        return {home_of_class(base) for base in value.__mro__}
    if kind.__module__ == "builtins":  # functions and methods in C
        return {_top(getattr(value, "__module__", None) or "builtins")}
    return homes_of(kind)


def home_of_class(cls: Any) -> str:
    """Returns the top-level package of a class without its bases."""
    if cls in SCRIPTED:
        return USERS
    module: Any = cls.__module__
    found: Any = sys.modules.get(module)
    for name in cls.__qualname__.split("."):
        found = getattr(found, name, None)
    return USERS if isinstance(found, type) and found is not cls else _top(module)


def _top(module: Any) -> str:
    return str(module).partition(".")[0] if module else USERS
