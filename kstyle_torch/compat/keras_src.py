"""Keras' own modules, `keras.src`: public objects under the paths where Keras defines them, and what libraries use besides.

`keras_src.txt`, which `scripts/keras_src.py` writes from the installed Keras, says which module defines which public
objects. Private functions of Keras that libraries import are in `internals`.
"""

from __future__ import annotations

import functools
import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from kstyle_torch.compat.import_frames import missing
from kstyle_torch.compat.internal_places import PLACES

PACKAGE = __name__.partition(".")[0]
TABLE = Path(__file__).with_name("keras_src.txt")
NAMES_SHOWN = 20
STAND_INS = {"distribution": "compat.internals.distribution"}
# Packages of Keras whose names are public elsewhere, too; of any other package, those of the namespace of its name.
NAMESPACES = {
    "": ("",),
    "backend": ("backend", "", "ops", "config", "random"),
    **{f"backend.{name}": ("ops",) for name in ("core", "image", "linalg", "math", "nn", "numpy")},
    "backend.common": ("", "backend"),
    "backend.random": ("random",),
    "random": ("random",),
    "tree": ("tree",),
}

_modules: dict[str, SourceModule] = {}


class SourceModule(ModuleType):
    """A module of Keras' own: it looks names up in the public namespaces and among Keras' internals.

    Args:
        path: Its path without `keras.src`; empty for the package itself.
    """

    def __init__(self, path: str):
        super().__init__(f"keras.src.{path}".rstrip("."), "Names of Keras' own module that are here.")
        vars(self).update(_path=path, __path__=[])

    def __getattr__(self, name: str) -> Any:
        path = vars(self)["_path"]
        if name == "__all__":  # `from keras.src.ops import *`
            return sorted(public for public in names_of(path) if not public.startswith("_"))
        try:
            value = look_up(path, name)
        except AttributeError:
            if name.startswith("__"):
                raise
            here = ", ".join(sorted(names_of(path))[:NAMES_SHOWN]) or "none"
            advice = f"It is Keras' inside; use the public API. Names of this module that are here: {here}."
            raise missing(sys._getframe(1), self.__name__, name, advice) from None
        vars(self)[name] = value
        return value

    def __dir__(self) -> list[str]:
        return sorted({*vars(self), *names_of(vars(self)["_path"])})


def module(path: str) -> ModuleType:
    """Returns the module of Keras of that path without `keras.src`.

    Raises: ModuleNotFoundError: if Keras has none there, or nothing of it is here.
    """
    if path not in _modules:
        if path not in _paths():
            raise ModuleNotFoundError(
                f"No module named 'keras.src.{path}' here. It is Keras' inside; use the public API of keras.",
                name=f"keras.src.{path}",
            )
        _modules[path] = SourceModule(path)
    return _modules[path]


def look_up(path: str, name: str) -> Any:
    """Returns an object of a module of Keras.

    Raises: AttributeError: if it has none of that name here.
    """
    if internal := PLACES.get(path, {}).get(name):
        namespace, _, public = internal.rpartition(".")
        return getattr(own_module(namespace), public)
    if place := table().get(path, {}).get(name):
        return getattr(own_module(place[0]), place[1])
    if (submodule := f"{path}.{name}".lstrip(".")) in _paths():
        return module(submodule)
    for namespace in _namespaces(path):
        if name in own_module(namespace).__all__:
            return getattr(own_module(namespace), name)
    raise AttributeError(name)


def own_module(path: str) -> Any:
    """Returns the module of this package at a path of Keras; its stand-in where the package has none yet."""
    if path in STAND_INS and path not in sys.modules[PACKAGE].__all__:
        path = STAND_INS[path]
    return importlib.import_module(f"{PACKAGE}.{path}".rstrip("."))


def names_of(path: str) -> set[str]:
    """Returns the names that a module of Keras has here."""
    below = {other.removeprefix(f"{path}.".lstrip(".")).partition(".")[0] for other in _below(path)}
    public = [own_module(namespace).__all__ for namespace in _namespaces(path)]
    return {*PLACES.get(path, ()), *table().get(path, ()), *below, *(name for names in public for name in names)}


@functools.cache
def table() -> dict[str, dict[str, tuple[str, str]]]:
    """Returns, for each module of Keras, its public names: each with the namespace and the name it is public under."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            path, namespace, *words = line.split()
            pairs = [word.partition("=")[::2] for word in words]
            namespace = namespace.removeprefix("-")
            found.setdefault(path, {}).update((own, (namespace, public or own)) for own, public in pairs)
    return found


@functools.cache
def _paths() -> frozenset[str]:
    """Returns the paths of all modules of Keras of which something is here, and of the packages around them."""
    paths = {*table(), *PLACES, *NAMESPACES}
    return frozenset({path.rsplit(".", depth)[0] for path in paths for depth in range(path.count(".") + 1)})


def _below(path: str) -> list[str]:
    return [other for other in _paths() if other and (not path or other.startswith(f"{path}."))]


def _namespaces(path: str) -> tuple[str, ...]:
    """Returns the public namespaces that have the names of a package of Keras; none for a plain module."""
    if path in NAMESPACES:
        return NAMESPACES[path]
    is_namespace = bool(_below(path)) and isinstance(getattr(sys.modules[PACKAGE], path, None), ModuleType)
    return (path,) if is_namespace else ()


def public_place(path: str, name: str) -> str | None:
    """Returns the public namespace that has an object of a module of Keras, under the same name; None if none has."""
    if place := table().get(path, {}).get(name):
        return place[0] if place[1] == name else None
    return next((each for each in _namespaces(path) if name in own_module(each).__all__), None)
