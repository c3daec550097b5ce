"""Comparison of the public API with that of the installed Keras: `python scripts/compatibility.py`.

Writes `docs/compatibility.md`, a table per namespace of what is the same, what is different and what is missing, each with
its reason from `scripts/compatibility_reasons.py`. `--check` changes nothing, and fails where the file is out of date or a
difference has no reason.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import inspect
import os
import pkgutil
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "compatibility.md"
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from compatibility_reasons import BEHAVIOR, reason_for  # noqa: E402

MISSING: Any = object()
INSIDE = ("keras.src", "keras._tf_keras")  # Keras' own inside, and the same names again
TORCH = ("forward", "torch_params")  # members that Keras has for torch, and that are torch's own here


@dataclass(frozen=True)
class Row:
    """One public name of Keras, or a member of one: `state` is "same", "different" or "missing"."""

    namespace: str
    name: str
    state: str
    detail: str = ""

    @property
    def path(self) -> str:
        return f"{self.namespace}.{self.name}".lstrip(".")

    @functools.cached_property
    def reason(self) -> str:
        return reason_for(self.path) if self.state != "same" else ""


def namespaces(path: str = "keras") -> Iterator[str]:
    """Yields the import paths of Keras' public modules."""
    if path.startswith(INSIDE):
        return
    yield path
    for found in pkgutil.iter_modules(getattr(importlib.import_module(path), "__path__", ())):
        if not found.name.startswith("_"):
            yield from namespaces(f"{path}.{found.name}")


def public_names(namespace: Any) -> list[str]:
    """Returns the names of a module's functions, classes and values, or of a class' members."""
    return sorted(
        name
        for name in dir(namespace)
        if not name.startswith("_") and not inspect.ismodule(getattr(namespace, name, None))
    )


def members(cls: type) -> Iterator[tuple[str, Any, Any]]:
    """Yields the public members that Keras gives to a class, each with the class that defines it."""
    for name in public_names(cls):
        owner = next((base for base in cls.__mro__ if name in vars(base)), object)
        if owner.__module__.split(".")[0] == "keras" and name not in TORCH:
            yield name, owner, inspect.getattr_static(cls, name)


def signature(function: Any) -> inspect.Signature | None:
    """Returns the signature of a function or a constructor; None where there is none to compare."""
    if isinstance(function, type):
        if function.__init__ is object.__init__ and function.__new__ is object.__new__:  # type: ignore[misc]
            return inspect.Signature()
        function = function.__init__ if function.__init__ is not object.__init__ else function.__new__  # type: ignore[misc]
        found = inspect.signature(function)
        return found.replace(parameters=[*found.parameters.values()][1:])  # without self, which `object` has none of
    try:
        return inspect.signature(getattr(function, "__func__", function))
    except (TypeError, ValueError):
        return None


def spelled(value: Any) -> str:
    """Returns a default as text in which the same default is spelled the same in both libraries."""
    if isinstance(value, (types.FunctionType, type)):
        return value.__name__
    text = repr(value)
    return type(value).__name__ if " at 0x" in text or "object" in text else text


def difference(theirs: inspect.Signature, ours: inspect.Signature) -> str:
    """Returns what differs between two signatures as a short phrase; "" where every call that Keras takes is taken.

    Parameters of ours that Keras lacks are allowed where they are keywords with a default, behind Keras' own.
    """
    wanted = list(theirs.parameters.values())
    found = ours.parameters
    phrases = []
    missing = [
        each.name
        for each in wanted
        if each.name not in found and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]
    if missing:
        phrases.append("lacks " + ", ".join(missing))
    for kind, mark in ((inspect.Parameter.VAR_POSITIONAL, "*"), (inspect.Parameter.VAR_KEYWORD, "**")):
        name = next((each.name for each in wanted if each.kind is kind), None)
        if name is not None and not any(each.kind is kind for each in found.values()):
            phrases.append(f"lacks {mark}{name}")
    names = {each.name for each in wanted}
    for each in found.values():
        more = each.name not in names and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
        if more and (each.default is each.empty or each.kind is not each.KEYWORD_ONLY):
            phrases.append(f"has {each.name}")
    shared = [each for each in wanted if each.name in found and each.kind is not each.VAR_KEYWORD]
    order = [name for name in found if name in {each.name for each in shared}]
    if [each.name for each in shared] != order:
        phrases.append("order " + ", ".join(order))
    for each in shared:
        mine = found[each.name]
        if mine.kind is not each.kind:
            phrases.append(f"{each.name} is {mine.kind.description}")
        if spelled(mine.default) != spelled(each.default):
            phrases.append(f"{each.name}={'required' if mine.default is mine.empty else spelled(mine.default)}")
    return "; ".join(phrases)


def compare(namespace: str, name: str, theirs: Any, ours: Any, seen: dict[Any, str]) -> Iterator[Row]:
    """Yields the row of one name, and rows of the members of a class.

    Args:
        seen: How a member that Keras' classes inherit from one another turned out before, so that it has a row once only.
    """
    if ours is MISSING:
        yield Row(namespace, name, "missing")
    elif not callable(theirs):
        yield Row(namespace, name, "same")
    elif isinstance(theirs, type) is not isinstance(ours, type):
        yield Row(namespace, name, "different", f"is a {type(ours).__name__}")
    else:
        yield signature_row(namespace, name, theirs, ours)
        for member, owner, value in members(theirs) if isinstance(theirs, type) else ():
            mine = inspect.getattr_static(ours, member, MISSING)
            if mine is MISSING and not callable(getattr(value, "__func__", value)) and is_set_by_init(ours, member):
                mine = value
            row = member_row(namespace, f"{name}.{member}", value, mine)
            outcome = row.state + row.detail
            if seen.setdefault((owner, member), outcome) != outcome or (owner, member, outcome) not in seen:
                seen[owner, member, outcome] = row.path
                yield row


def is_set_by_init(cls: type, name: str) -> bool:
    """Returns whether instances get an attribute of that name when they are made."""
    codes = (getattr(vars(base).get("__init__"), "__code__", None) for base in cls.__mro__)
    return any(code is not None and name in code.co_names for code in codes)


def member_row(namespace: str, name: str, theirs: Any, ours: Any) -> Row:
    """Returns the row of a method, whose signature is compared, or of a property or value, which has to be there."""
    if ours is MISSING:
        return Row(namespace, name, "missing")
    if isinstance(theirs, (property, functools.cached_property)) or not callable(getattr(theirs, "__func__", theirs)):
        return Row(namespace, name, "same")
    return signature_row(namespace, name, theirs, ours)


def signature_row(namespace: str, name: str, theirs: Any, ours: Any) -> Row:
    """Returns the row of a function, method or constructor, whose signatures are compared."""
    wanted, found = signature(theirs), signature(ours)
    if wanted is None:
        return Row(namespace, name, "same")
    phrase = difference(wanted, found) if found is not None else "has no signature"
    return Row(namespace, name, "different" if phrase else "same", phrase)


def attribute(path: str, name: str) -> Any:
    """Returns a public name of ours, given by Keras' path; MISSING where it is not there."""
    try:
        return getattr(importlib.import_module(path.replace("keras", "kstyle_torch", 1)), name)
    except (ImportError, AttributeError):
        return MISSING


def rows() -> list[Row]:
    """Returns a row for each public name and member of the installed Keras.

    A name for an object that another namespace has listed gets one row of its own, without members.
    """
    found: list[Row] = []
    seen: dict[Any, str] = {}
    first: dict[int, Row] = {}
    for path in namespaces():
        module = importlib.import_module(path)
        namespace = path.removeprefix("keras").lstrip(".")
        for name in public_names(module):
            theirs, ours = getattr(module, name), attribute(path, name)
            before = first.get(id(theirs))
            if before is None or ours is MISSING:
                fresh = list(compare(namespace, name, theirs, ours, seen))
                if callable(theirs):
                    first[id(theirs)] = fresh[0]
                found.extend(fresh)
            elif ours is attribute(f"keras.{before.namespace}".rstrip("."), before.name):
                found.append(Row(namespace, name, before.state, before.detail and f"as {before.path}"))
            else:
                found.append(Row(namespace, name, "different", f"is not {before.path}"))
    return found


def page(found: list[Row]) -> str:
    """Returns the documentation page: how much is the same, and a table of all else for each namespace."""
    same = sum(row.state == "same" for row in found)
    version = ".".join(importlib.import_module("keras").__version__.split(".")[:2])
    lines = [
        "# Compatibility with Keras",
        "",
        f"Written by `python scripts/compatibility.py` from Keras {version}: {len(found):,} public names, methods, properties",
        f"and signatures, of which {same:,} are the same, {sum(row.state == 'different' for row in found):,} differ and "
        f"{sum(row.state == 'missing' for row in found):,} are missing. A signature is the same",
        "where names, order, kinds and defaults of its parameters are; more parameters of ours stand behind those of Keras, as",
        "keywords with defaults.",
        "",
        "| namespace | same | different | missing |",
        "| --- | ---: | ---: | ---: |",
    ]
    spaces: dict[str, list[Row]] = {}
    for row in found:
        spaces.setdefault(row.namespace, []).append(row)
    for namespace, listed in spaces.items():
        counts = (sum(row.state == state for row in listed) for state in ("same", "different", "missing"))
        lines.append(f"| `{namespace or 'kstyle_torch'}` | " + " | ".join(map(str, counts)) + " |")
    for namespace, listed in spaces.items():
        rest = [row for row in listed if row.state != "same"]
        if rest:
            lines += ["", f"## {namespace or 'kstyle_torch'}", "", "| name | | why |", "| --- | --- | --- |"]
            lines += [f"| `{row.name}` | {shown(row)} | {row.reason or '**no reason given**'} |" for row in rest]
    lines += ["", "## Behavior", "", "| what | here |", "| --- | --- |"]
    lines += [f"| {what} | {why} |" for what, why in BEHAVIOR.items()]
    return "\n".join(lines) + "\n"


def shown(row: Row) -> str:
    """Returns a row's state and detail as the text of a table cell."""
    return row.state + (f": `{row.detail}`" if row.detail else "").replace("|", "\\|")


def main() -> int:
    """Writes the page, or checks it, and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing; fail where the page is out of date")
    parser.add_argument("--list", action="store_true", help="print what has no reason, and change nothing")
    options = parser.parse_args()
    found = rows()
    unexplained = [row for row in found if row.state != "same" and not row.reason]
    if options.list:
        for row in unexplained:
            print(row.state, row.path, row.detail, sep="\t")
        return 0
    text = page(found)
    if options.check:
        current = PAGE.read_text() if PAGE.exists() else ""
        if current == text and not unexplained:
            return 0
        print(*(f"{row.path}: {row.state} {row.detail}, without a reason" for row in unexplained), sep="\n")
        print("" if current == text else f"{PAGE.name} is out of date: run `python scripts/compatibility.py`.")
        return 1
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(text)
    print(
        f"{len(found)} names: {sum(row.state == 'same' for row in found)} are the same; {len(unexplained)} lack a reason."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
