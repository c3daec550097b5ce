"""Variables that have other values for the time of a block."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from kstyle_torch.variables import Variable


@contextlib.contextmanager
def holding_values(
    groups: dict[str, Sequence[Any]], values: Sequence[Any]
) -> Iterator[Callable[[], list[list[Tensor]]]]:
    """Lets variables have other values in a block; not beside other threads that use them.

    Args:
        groups: Lists of variables, by the name that a message gives them.
        values: A list of values, in Keras' layout, for each group.
    Yields: A function that returns the values of the moment, by group.
    Raises: ValueError: if a group has not as many values as variables, or a shape differs.
    """
    for (name, variables), given in zip(groups.items(), values, strict=True):
        if len(variables) != len(given):
            raise ValueError(f"{name} must have a value for each of {len(variables)} variables; got {len(given)}.")

    def read() -> list[list[Tensor]]:
        return [[torch.as_tensor(each.value).detach().clone() for each in variables] for variables in groups.values()]

    kept = read()
    try:
        _assign(groups, values)
        yield read
    finally:
        _assign(groups, kept)


def _assign(groups: dict[str, Sequence[Any]], values: Sequence[Any]) -> None:
    with torch.no_grad():
        for variables, given in zip(groups.values(), values, strict=True):
            for variable, value in zip(variables, given, strict=True):
                variable.assign(value.read() if isinstance(value, Variable) else value)
