"""Expressions as text, broken into lines as `ruff format` breaks them."""

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
        head: What stands in front of the bracket; nothing for a literal.
        brackets: Both.
        items: Between them: a prefix (`name=`) and an expression each.
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
    """Returns the expression in one line."""
    if isinstance(expr, str):
        return expr
    items = ", ".join(prefix + one_line(item) for prefix, item in expr.items)
    comma = "," if expr.brackets == "()" and not expr.head and len(expr.items) == 1 else ""
    return f"{expr.head}{expr.brackets[0]}{items}{comma}{expr.brackets[1]}"


def lines(prefix: str, expr: Expr, indent: int, suffix: str = "") -> list[str]:
    """Returns `prefix` and the expression, in as few lines as fit."""
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
    """Returns a string as a literal that ruff leaves alone; nothing in it can end it."""
    plain = repr(value)
    if plain[0] == "'" and '"' not in value and "'" not in value:
        return f'"{plain[1:-1]}"'
    return plain
