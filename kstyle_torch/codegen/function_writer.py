"""Writer of straight-line Python functions.

The code consists of numbers and of names that the writer chooses. All other objects are bound to global names by
reference, so strings from users, configs or files cannot become code.
"""

from __future__ import annotations

import builtins
import functools
import itertools
import keyword
import linecache
import re
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from kstyle_torch.registry import snake_case

IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z", re.ASCII)
RESERVED = (*dir(builtins), *keyword.kwlist)
Leaf = Callable[[Any], str | None]  # returns the code of a value that stands for a variable; None for other values
_numbers = itertools.count()


class Line(NamedTuple):
    """One statement, with the names that it reads and the local variables that it assigns."""

    code: str
    reads: tuple[str, ...]
    assigns: tuple[str, ...]
    optional: bool


class FunctionWriter:
    """Builder of one function: its statements, its variables, and the objects that it refers to.

    All arguments are constants of the package, never text from users.

    Args:
        name: The function's name.
        parameters: Names of its parameters.
        title: Description for tracebacks, which show the code.
        names: Name -> object, for objects with a fixed name in the code.
    """

    def __init__(self, name: str, parameters: Sequence[str], title: str, names: Mapping[str, Any] | None = None):
        self.name, self.parameters, self.title = name, parameters, title
        self._globals: dict[str, Any] = dict(names or {})  # references keep the ids unique
        self._bound = {id(value): each for each, value in self._globals.items()}  # id -> name among the globals
        self._taken = {name, *parameters, *self._globals, *RESERVED}
        self._next: dict[str, int] = {}  # base of a name -> the first number that may be free
        self._lines: list[Line] = []

    # ----------------------------------------------------------------------------------------------------------- names

    def variable(self, wish: str) -> str:
        """Returns an unused name: the wish in snake case, reduced to ASCII letters and digits, with a number if taken."""
        base = _identifier(wish)
        name, number = base, self._next.get(base, 1)
        while name in self._taken:
            name, number = f"{base}_{number}", number + 1
        self._taken.add(name)
        self._next[base] = number
        return name

    def bind(self, value: Any, wish: str = "constant") -> str:
        """Returns the global name of an object, the same one for the same object."""
        if id(value) not in self._bound:
            name = self._bound[id(value)] = self.variable(wish)
            self._globals[name] = value
        return self._bound[id(value)]

    # ----------------------------------------------------------------------------------------------------- expressions

    def value(self, value: Any, leaf: Leaf) -> str:
        """Returns the code of a value: numbers and nests of them as literals, everything else by reference.

        Args:
            value: Any object.
            leaf: Returns the code of values that stand for variables, and None for others; it has precedence.
        """
        code = leaf(value)
        if code is not None:
            return code
        if type(value) in (bool, int, type(None)) or (type(value) is float and repr(value)[-1].isdigit()):
            return repr(value)  # `inf` and `nan` are not literals
        if isinstance(value, tuple):
            items = f"({''.join(self.value(item, leaf) + ', ' for item in value)})"
            if type(value) is tuple:
                return items
            kind = self.bind(type(value), "kind")  # a named tuple, or one of torch.return_types
            return f"{kind}(*{items})" if hasattr(value, "_fields") else f"{kind}({items})"
        if type(value) is list:
            return f"[{', '.join([self.value(item, leaf) for item in value])}]"
        if type(value) is dict:
            items = ", ".join(f"{self.value(key, leaf)}: {self.value(item, leaf)}" for key, item in value.items())
            return f"{{{items}}}"
        if type(value) is slice:
            return f"slice({', '.join(self.value(part, leaf) for part in (value.start, value.stop, value.step))})"
        return self.bind(value)

    def call(self, function: str, args: Iterable[str], kwargs: Mapping[str, str]) -> str:
        """Returns the code of a call of `function`, a name.

        Names of keyword arguments that Python's grammar does not take here, or that are not ASCII, are passed in a dict.
        """
        plain = [f"{name}={value}" for name, value in kwargs.items() if _is_plain(name)]
        others = [f"{self.bind(name, 'key')}: {value}" for name, value in kwargs.items() if not _is_plain(name)]
        rest = [f"**{{{', '.join(others)}}}"] if others else []
        return f"{function}({', '.join([*args, *plain, *rest])})"

    # ------------------------------------------------------------------------------------------------------ statements

    def write(self, code: str, reads: Iterable[str] = (), assigns: Iterable[str] = (), optional: bool = False) -> None:
        """Adds a statement.

        Args:
            code: Source of the statement.
            reads: The names that it reads. Names that no statement assigns may be omitted.
            assigns: The variables that it assigns.
            optional: Whether to remove it if nothing reads the variables that it assigns.
        """
        self._lines.append(Line(code, tuple(reads), tuple(assigns), optional))

    def finish(self, result: str, reads: Iterable[str] = ()) -> tuple[Callable[..., Any], str]:
        """Returns the function and its source.

        Args:
            result: The expression that the function returns.
            reads: The variables that the expression reads, which must not be deleted before.
        """
        body = [*self._with_deletions(self._needed(reads), set(reads)), f"return {result}"]
        source = f"def {self.name}({', '.join(self.parameters)}):\n" + "".join(f"    {code}\n" for code in body)
        return self._compiled(source), source

    def _needed(self, reads: Iterable[str]) -> list[Line]:
        """Removes optional statements whose variables nothing reads, by a backward pass."""
        needed, kept = set(reads), []
        for line in reversed(self._lines):
            if not line.optional or needed.intersection(line.assigns):
                kept.append(line)
                needed.update(line.reads)
        return kept[::-1]

    def _with_deletions(self, lines: list[Line], left: set[str]) -> Iterable[str]:
        """Yields the code with a `del` after the last use of each variable, so that the next call can reuse its memory."""
        local = {name for line in lines for name in line.assigns}
        last = {name: number for number, line in enumerate(lines) for name in line.reads}
        dying: dict[int, list[str]] = {}
        for name, number in last.items():
            if name in local and name not in left:  # the caller keeps parameters alive, and the function its globals
                dying.setdefault(number, []).append(name)
        for number, line in enumerate(lines):
            yield line.code
            if number in dying:
                yield f"del {', '.join(sorted(dying[number]))}"

    def _compiled(self, source: str) -> Callable[..., Any]:
        filename = f"<kstyle_torch {self.title} {next(_numbers)}>"
        exec(compile(source, filename, "exec"), self._globals)
        function: Callable[..., Any] = self._globals.pop(self.name)  # the globals would hold it in a cycle
        linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)  # for tracebacks
        weakref.finalize(function, linecache.cache.pop, filename, None)
        return function


def _is_plain(name: str) -> bool:
    return bool(IDENTIFIER.match(name)) and not keyword.iskeyword(name) and name != "__debug__"


@functools.lru_cache(maxsize=256)
def _identifier(wish: str) -> str:
    base = snake_case(re.sub(r"[^A-Za-z0-9_]", "_", wish)).strip("_") or "value"
    return f"_{base}" if base[0].isdigit() else base
