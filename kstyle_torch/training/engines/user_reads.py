"""Values that user code may read in a step: attributes, containers, arrays, closures, globals, class attributes.

They are gathered in one flat list, which is compared with a later one: numbers and strings by value, containers and small
arrays by content, other objects by identity. The search follows the names in a function's code and in the functions that it
calls. It does not find values behind computed names (`globals()["a" + "b"]`), values from the system or other libraries, or
changes inside large arrays.
"""

from __future__ import annotations

import functools
import operator
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from types import CodeType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from torch import Tensor

from kstyle_torch._torch import version_of
from kstyle_torch.layer.module_walk import OwnDict, OwnList
from kstyle_torch.losses.base import Loss
from kstyle_torch.ownership import OPAQUE, home_of_class, is_opaque
from kstyle_torch.regularizers import Regularizer

SEARCHED = (Regularizer, Loss, SimpleNamespace)  # although their packages are opaque
MAX_DEPTH = 12  # of containers in objects in functions
MAX_VALUES = 20_000
MAX_BYTES = 2**20  # of an array whose content is compared
CONTAINERS = (dict, list, tuple, set, frozenset, deque)
VALUES = frozenset({int, float, complex, bool, str, bytes, type(None)})


def is_same(before: list[Any], now: list[Any]) -> bool:
    """Returns whether values are the same objects, or equal numbers, strings or tuples of them."""
    if len(before) != len(now):
        return False
    return all(map(operator.is_, before, now)) or all(map(_is_equal, before, now))


def _is_equal(one: Any, other: Any) -> bool:
    if one is other:
        return True
    kind = type(one)
    if kind is not type(other):
        return False
    if kind is float:
        return bool(one.hex() == other.hex())  # NaN is NaN here, and 0.0 is not -0.0
    if kind is tuple:
        return is_same([*one], [*other])
    return kind in VALUES and bool(one == other)


def reads_of(roots: Iterable[Any], known: Collection[int]) -> list[Any]:
    """Returns all values that the code of user-defined objects can read.

    Args:
        roots: Modules, losses, functions.
        known: Ids of objects that are compared elsewhere, such as weights, which change in place.
    """
    reader = _Reader(known)
    for root in roots:
        reader.take(root, MAX_DEPTH, is_root=True)
    return reader.found


class _Reader:
    """Gatherer of values; each object is searched once."""

    def __init__(self, known: Collection[int]):
        self.known = known
        self.found: list[Any] = []
        self.seen: dict[int, Any] = {}  # by id; references keep the ids unique

    def take(self, value: Any, depth: int, is_root: bool = False) -> None:
        """Adds a value and what can be read from it."""
        kind = type(value)
        is_known = id(value) in self.seen or (id(value) in self.known and not is_root)
        if kind in VALUES or is_known or depth == 0 or len(self.found) > MAX_VALUES:
            self.found.append(value)
            return
        self.seen[id(value)] = value
        self.found.append(kind)
        for part in _parts_of(value, kind):
            self.take(part, depth - 1)


def _parts_of(value: Any, kind: type) -> Iterable[Any]:
    """Returns the parts of a value, including the value itself if its identity matters.

    Uses `issubclass(type(value))`, since `isinstance` may run code of a proxy object.
    """
    if issubclass(kind, CONTAINERS):
        return _parts_of_container(value, kind)
    if issubclass(kind, np.ndarray):
        return _parts_of_array(value)
    if issubclass(kind, np.generic):
        return str(value.dtype), value.tobytes()
    if issubclass(kind, Tensor):
        return _parts_of_tensor(value)
    if kind is MethodType:
        return value.__self__, value.__func__
    if kind is functools.partial:
        return value.func, value.args, value.keywords
    if kind in (staticmethod, classmethod):
        return (value.__func__,)
    if kind is property:
        return (value.fget,)
    if kind is FunctionType:
        return _parts_of_function(value)
    return _parts_of_class(value) if issubclass(kind, type) else _parts_of_object(value, kind)


def _parts_of_container(value: Any, kind: type) -> Iterable[Any]:
    if issubclass(kind, (OwnList, OwnDict)):
        return (value,)
    if issubclass(kind, dict):
        return *value, *value.values()
    if issubclass(kind, (set, frozenset)):
        return sorted(value, key=lambda item: (str(type(item)), str(item) if type(item) in VALUES else id(item)))
    parts: Iterable[Any] = value
    return parts


def _parts_of_array(array: np.ndarray) -> Iterable[Any]:
    if array.dtype.hasobject:
        return array, array.tolist() if array.nbytes <= MAX_BYTES else None
    return str(array.dtype), array.shape, array.tobytes() if array.nbytes <= MAX_BYTES else array


def _parts_of_tensor(tensor: Tensor) -> Iterable[Any]:
    """Returns the tensor and its version, which detects changes in place."""
    version = None if tensor.is_inference() else version_of(tensor)
    return tensor, tensor.requires_grad, str(tensor.dtype), tuple(tensor.shape), version


def _parts_of_function(function: FunctionType) -> Iterator[Any]:
    yield function
    if is_opaque(function):
        return
    yield from (function.__code__, function.__defaults__, function.__kwdefaults__)
    yield from vars(function).values()
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # it has no value yet
            yield cell
    names, known = _names_in(function.__code__), function.__globals__
    for value in [known[name] for name in names if name in known]:
        yield value
        if type(value) is ModuleType and value.__name__.partition(".")[0] not in OPAQUE:
            yield from [vars(value)[name] for name in names if name in vars(value)]


@functools.lru_cache(maxsize=1024)
def _names_in(code: CodeType) -> dict[str, None]:
    """Returns the names of globals and attributes in some code, and in the functions that it makes; in order."""
    names = dict.fromkeys(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names.update(_names_in(constant))
    return names


def _parts_of_class(cls: type) -> Iterator[Any]:
    yield cls
    for base in cls.__mro__:
        if home_of_class(base) not in OPAQUE:
            yield from vars(base).values()


def _parts_of_object(value: Any, kind: type) -> Iterator[Any]:
    yield value
    if issubclass(kind, ModuleType) or (is_opaque(kind) and not issubclass(kind, SEARCHED)):
        return
    yield kind
    yield from getattr(value, "__dict__", {}).values()
    for base in kind.__mro__:
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            yield getattr(value, name, None)
