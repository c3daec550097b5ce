"""Formatting of expressions, with the line breaks of `ruff format`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Union

WIDTH = 88
Expr = Union[str, "Group"]


@dataclass(frozen=True)
class Group:
    """A call, or a literal with brackets.

    Args:
        head: Text before the bracket; empty for a literal.
        brackets: Both brackets.
        items: The items: a prefix (`name=`) and an expression each.
    """

    head: str
    brackets: str
    items: tuple[tuple[str, Expr], ...]


def call(head: str, args: Sequence[Expr], kwargs: Mapping[str, Expr] | None = None) -> Group:
    """Returns `head(args, name=kwarg)`."""
    named = [(f"{name}=", value) for name, value in (kwargs or {}).items()]
    return Group(head, "()", (*(("", arg) for arg in args), *named))


def literal(brackets: str, items: Sequence[Expr]) -> Group:
    """Returns `[items]` or `(items)`."""
    return Group("", brackets, tuple(("", item) for item in items))


def one_line(expr: Expr) -> str:
    """Returns the expression on one line."""
    if isinstance(expr, str):
        return expr
    items = ", ".join(prefix + one_line(item) for prefix, item in expr.items)
    comma = "," if expr.brackets == "()" and not expr.head and len(expr.items) == 1 else ""
    return f"{expr.head}{expr.brackets[0]}{items}{comma}{expr.brackets[1]}"


def lines(prefix: str, expr: Expr, indent: int, suffix: str = "") -> list[str]:
    """Returns `prefix` and the expression, on as few lines as possible."""
    space = " " * indent
    whole = space + prefix + one_line(expr) + suffix
    if len(whole) <= WIDTH or isinstance(expr, str) or not expr.items:
        return [whole]
    first, last = space + prefix + expr.head + expr.brackets[0], space + expr.brackets[1] + suffix
    inner = ", ".join(name + one_line(item) for name, item in expr.items)
    if expr.head and indent + 4 + len(inner) <= WIDTH:
        return [first, " " * (indent + 4) + inner, last]
    comma = "" if expr.head and len(expr.items) == 1 else ","
    broken = [line for name, item in expr.items for line in lines(name, item, indent + 4, comma)]
    return [first, *broken, last]


def text(value: str) -> str:
    """Returns a string as a literal in ruff's style; quotes in it are escaped."""
    plain = repr(value)
    if plain[0] == "'" and '"' not in value and "'" not in value:
        return f'"{plain[1:-1]}"'
    return plain
