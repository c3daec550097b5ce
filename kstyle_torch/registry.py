"""Registries of objects by name, one for each kind; automatic names of layers; and objects registered by the user."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


def snake_case(name: str) -> str:
    """Returns the name in snake case: `"max_pooling2d"` for `"MaxPooling2D"`, as Keras names its layers."""
    words = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns ` Did you mean 'mse'?`, or the known names if none is similar."""
    known = [word for word in known if isinstance(word, str)]
    exact = [word for word in known if word.lower() == str(name).lower()]
    close = exact or difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
    if close:
        return f" Did you mean {' or '.join(map(repr, close))}?"
    return f" Known: {', '.join(sorted(known))}."


class Registry:
    """The public objects of one kind, by all of their names in Keras.

    Args:
        kind: What the objects are, for messages (`"loss"`).
        module: Keras' public module, as its files name it (`"keras.losses"`).
    """

    def __init__(self, kind: str, module: str):
        self.kind, self.module = kind, module
        self._objects: dict[str, Any] = {}

    def register(self, *aliases: str, public_name: str | None = None) -> Callable[[T], T]:
        """Registers a class or function under its name, its snake case and `aliases`.

        Args:
            public_name: Its name in Keras' modules and configs, where that is not its `__name__`.
        """
        if public_name is not None:
            aliases = (*aliases, public_name, snake_case(public_name))

        def enter(obj: T) -> T:
            name = obj.__name__  # type: ignore[attr-defined]
            self._objects.setdefault(snake_case(name), obj)  # a function of that name comes before its class
            self._objects.update(dict.fromkeys((name, *aliases), obj))
            HOMES[obj] = self.module
            if public_name is not None:
                PUBLIC_NAMES[obj] = public_name
            return obj

        return enter

    @property
    def objects(self) -> dict[str, Any]:
        """The table itself: an object that is put into it is found by its name from then on."""
        return self._objects

    def __contains__(self, name: object) -> bool:
        return name in self._objects

    def __iter__(self) -> Iterator[str]:
        return iter(self._objects)

    def lookup(self, name: str) -> Any:
        """Returns the object with a name; the user's own take precedence.

        Raises: ValueError: for an unknown name; the message suggests the nearest.
        """
        found = registered_object(name)
        if found is None:
            found = self._objects.get(name)
        if found is None:
            raise ValueError(f"Unknown {self.kind} {name!r}.{did_you_mean(name, self._objects)}")
        return found


HOMES: dict[Any, str] = {}  # public class or function -> Keras' module for it
PUBLIC_NAMES: dict[Any, str] = {}  # of those whose `__name__` is another
CUSTOM_OBJECTS: dict[str, Any] = {}  # "package>name" -> what register_keras_serializable entered
CUSTOM_NAMES: dict[Any, str] = {}  # and back
_scopes: list[dict[str, Any]] = []  # innermost last


def registered_object(name: str) -> Any | None:
    """Returns the object that the user registered or scoped as `name`; None if there is none."""
    for scope in reversed(_scopes):
        if name in scope:
            return scope[name]
    return CUSTOM_OBJECTS.get(name)


class CustomObjectScope:
    """A block in which lookups by name include the caller's classes and functions.

    Args:
        custom_objects: `{name: class or function}`.

    Example:
        >>> with CustomObjectScope({"twice": lambda x: 2 * x}):
        ...     activations.get("twice")(3)
        6
    """

    def __init__(self, custom_objects: dict[str, Any] | None):
        self.custom_objects = custom_objects or {}

    def __enter__(self) -> CustomObjectScope:
        _scopes.append(self.custom_objects)
        return self

    def __exit__(self, *args: object, **kwargs: object) -> None:
        _scopes.pop()


custom_object_scope = CustomObjectScope  # Keras has both spellings


_name_counts: Counter[str] = Counter()


def unique_name(base: str) -> str:
    """Returns `dense`, `dense_1`, ... counted over the whole process, as Keras does."""
    count = _name_counts[base]
    _name_counts[base] += 1
    return f"{base}_{count}" if count else base


def get_uid(prefix: str = "") -> int:
    """Returns the next number of a name, from the counts behind automatic names."""
    _name_counts[prefix] += 1
    return _name_counts[prefix]


def looks_automatic(cls: type, name: str) -> bool:
    """Returns whether a name is one that `unique_name` makes for objects of a class."""
    return re.fullmatch(rf"{re.escape(snake_case(cls.__name__))}(_\d+)?", name) is not None


def reset_names() -> None:
    """Resets the counts of all names."""
    _name_counts.clear()


@contextlib.contextmanager
def keeping_names() -> Iterator[None]:
    """Takes back the names that objects get in a block: the next ones get them again."""
    before = dict(_name_counts)
    try:
        yield
    finally:
        _name_counts.clear()
        _name_counts.update(before)
