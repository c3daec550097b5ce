"""Data that holds inputs and targets under names: dicts with `labels`, as collators of Hugging Face give, and its data sets."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kstyle_torch.data.frames import NUMERIC
from kstyle_torch.data.rows import WHOLE_BYTES, Rows

LABELS = ("labels", "label")  # names of targets


class Naming:
    """The names that a model's inputs have in data.

    Args:
        is_input: Returns whether the model has an input of a name, which then is not that of targets.
        choose: Returns the inputs of the model among all but the targets.
    """

    def __init__(self, is_input: Callable[[str], bool], choose: Callable[[dict[str, Any]], Any]):
        self.is_input, self.choose = is_input, choose

    def split(self, named: Mapping[str, Any]) -> tuple[Any, Any]:
        """Returns inputs and targets; None if there are no targets. Without targets, a dict stays as it is."""
        key = next((key for key in LABELS if key in named and not self.is_input(key)), None)
        if key is None:
            return dict(named), None
        return self.choose({name: value for name, value in named.items() if name != key}), named[key]

    def split_table(self, table: Any) -> tuple[Any, Any]:
        """Returns inputs and targets of a data set of the library `datasets`: its columns as arrays.

        Raises: ValueError: for columns that are not numbers, or whose rows differ in length.
        """
        names = {name: name for name in table.column_names}
        chosen, label = self.split(names)
        if label is None:
            chosen = self.choose(names)
        x = {key: _column(table, name) for key, name in chosen.items()} if isinstance(chosen, dict) else chosen
        return _column(table, x) if isinstance(x, str) else x, None if label is None else _column(table, label)


def is_table(data: Any) -> bool:
    """Returns whether it is a data set of the library `datasets` that is read by index."""
    names = ("features", "column_names", "with_format", "__getitem__", "__len__")
    return not isinstance(data, dict) and all(hasattr(data, name) for name in names)


def check_is_no_collection(data: Any) -> None:
    """Raises a ValueError for several data sets, a `DatasetDict`."""
    if isinstance(data, dict) and data and all(map(is_table, data.values())):
        names = [*data]
        raise ValueError(
            f"x holds the data sets {', '.join(map(repr, names))}; pass one of them, as data[{names[0]!r}]."
        )


def _column(table: Any, name: str) -> Any:
    """Returns a column as an array; as `Rows` if it is large."""
    column = Column(table, name)
    is_large = math.prod(column.shape) * column.dtype.itemsize > WHOLE_BYTES
    return Rows(column) if is_large else column[:]


class Column:
    """A column of a data set, which is read from its files a few rows at a time.

    Args:
        table: The data set.
        name: The column.
    Raises: ValueError: for an empty data set, or if the column does not hold numbers.
    """

    def __init__(self, table: Any, name: str):
        self.table, self.name = table.with_format("numpy", columns=[name]), name
        if not len(table):
            raise ValueError(f"The {type(table).__name__} has no rows.")
        first = np.asarray(self.table[:1][name])
        if first.dtype.kind not in NUMERIC:
            raise ValueError(self._not_numbers(first.ravel()[0] if first.size else None))
        self.dtype, self.shape = first.dtype, (len(table), *first.shape[1:])

    def __getitem__(self, rows: Any) -> np.ndarray:
        read = self.table[rows if isinstance(rows, slice) else rows.tolist()][self.name]
        sizes = {np.shape(row) for row in read}
        if sizes != {self.shape[1:]}:
            listed = " and ".join(map(str, sorted(sizes)[:2]))
            raise ValueError(
                f"Rows of the column {self.name!r} have the shapes {listed}; make them equal, as a tokenizer does with "
                "padding='max_length', or pass a DataLoader whose collate_fn pads each batch."
            )
        return np.asarray(read)

    def _not_numbers(self, example: Any) -> str:
        if isinstance(example, str):
            return (
                f"The column {self.name!r} contains text, such as {example[:40]!r}. Make numbers of it (data.map(tokenize, "
                f"batched=True), or data.class_encode_column({self.name!r}) for classes), or drop it: "
                f"data.remove_columns({self.name!r})."
            )
        return (
            f"The column {self.name!r} holds values of the type {type(example).__name__} instead of numbers; convert it with "
            f"data.map(...), or drop it: data.remove_columns({self.name!r})."
        )
