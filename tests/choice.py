"""The rows that the quick set keeps: `python scripts/test.py --quick` leaves out what is marked `full`."""

import pytest


def first_of_each(rows, kind=lambda row: row.name):
    """Returns the first row of each kind, in the order of the rows."""
    found = {}
    for row in rows:
        found.setdefault(kind(row), row)
    return [*found.values()]


def per_row(rows, kind=lambda row: row.name):
    """Returns the mark that runs a test for every row; the quick set has the first of each kind."""
    return pytest.mark.parametrize("row", parameters(rows, kind))


def parameters(rows, kind=lambda row: row.name, name=str):
    """Returns a pytest parameter for each row; those after the first of their kind are marked `full`.

    Args:
        rows: Objects, or tuples of a test's arguments.
        kind: Function of a row; of the rows for which it returns the same, the first is in the quick set.
        name: Function of a row that returns its id.
    """
    rows = [*rows]
    quick = {id(row) for row in first_of_each(rows, kind)}
    return [
        pytest.param(
            *(row if type(row) is tuple else (row,)),
            id=name(row),
            marks=() if id(row) in quick else pytest.mark.full,
        )
        for row in rows
    ]
