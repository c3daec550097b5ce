"""Conversion of frames, series and tables (pandas, polars, pyarrow, xarray) to arrays. None of them is imported."""

from __future__ import annotations

import numbers
from collections.abc import Iterator
from typing import Any

import numpy as np

from kstyle_torch import config

NUMERIC = "biuf"


def is_frame(data: Any) -> bool:
    """Returns whether it is a frame, a series or a table."""
    return hasattr(data, "to_numpy") or hasattr(data, "column_names")


def frame_to_array(frame: Any, what: str) -> np.ndarray:
    """Returns the values, (rows,) of a series or (rows, columns) of a frame; columns may mix numbers and booleans.

    Missing values become NaN.

    Args:
        frame: The user's data.
        what: What it is called, for messages (`"x"`).
    Raises: ValueError: if columns do not hold numbers; the message lists them.
    """
    if hasattr(frame, "features") and not hasattr(frame, "columns"):  # a stream of the library `datasets`
        raise ValueError(
            f"{what} is a {type(frame).__name__} of single rows that are not read by index; pass a DataLoader of it, which "
            "makes batches: DataLoader(data.with_format('torch'), batch_size=32)."
        )
    columns = list(_columns(frame))
    if not hasattr(frame, "columns") and not hasattr(frame, "column_names"):
        numeric = _numeric(frame)
        return _values(frame) if numeric is None else numeric
    if not columns:
        raise ValueError(f"{what} has no columns.")
    kinds = {str(getattr(column, "dtype", "")) for _, column in columns}
    if len(kinds) == 1 and hasattr(frame, "to_numpy"):  # columns of one type may share the frame's memory
        array = np.asarray(frame.to_numpy())
        if array.dtype.kind in NUMERIC:
            return array
    arrays = [(name, _numeric(column), column) for name, column in columns]
    unfit = [f"{name!r} ({_description(column)})" for name, array, column in arrays if array is None]
    if unfit:
        raise ValueError(
            f"{what} has columns that are not numbers: {', '.join(unfit)}. Encode them (pandas.get_dummies, "
            "LabelEncoder) or drop them."
        )
    parts = [array for _, array, _ in arrays if array is not None]
    dtype = np.result_type(*parts)
    whole = np.empty((len(parts[0]), len(parts)), config.floatx() if dtype.kind == "f" else dtype)
    for place, part in enumerate(parts):
        whole[:, place] = part
    return whole


def _columns(frame: Any) -> Iterator[tuple[str, Any]]:
    if hasattr(frame, "iloc") and hasattr(frame, "columns"):  # pandas: names may repeat
        yield from ((str(name), frame.iloc[:, place]) for place, name in enumerate(frame.columns))
    elif hasattr(frame, "get_columns"):  # polars
        yield from ((column.name, column) for column in frame.get_columns())
    elif hasattr(frame, "column_names"):  # pyarrow
        yield from zip(map(str, frame.column_names), frame.columns, strict=True)


def _values(column: Any) -> np.ndarray:
    try:
        return np.asarray(column.to_numpy())
    except (ValueError, TypeError, NotImplementedError):  # from pyarrow, for an array that would have to be copied
        return np.asarray(column.to_numpy(zero_copy_only=False))


def _numeric(column: Any) -> np.ndarray | None:
    """Returns a column as numbers; None if it holds other values."""
    kind = getattr(getattr(column, "dtype", None), "kind", None)  # pandas, its extension types too
    values = _values(column)
    if values.dtype.kind in NUMERIC:
        return values
    if kind is not None and kind in NUMERIC:  # a nullable type of pandas with missing values
        return np.asarray(column.to_numpy(dtype=config.floatx(), na_value=np.nan))
    if values.dtype.kind == "O":
        return numbers_in(values)
    return None


def numbers_in(values: np.ndarray) -> np.ndarray | None:
    """Converts an array of objects to numbers, missing booleans to NaN; None if some are not numbers."""
    present = [value for value in values.flat if value is not None]
    if not present or not all(isinstance(value, (numbers.Number, np.bool_)) for value in present):
        return None
    if any(isinstance(value, complex) for value in present):
        return None
    if len(present) < values.size:
        values = np.where([value is None for value in values.flat], np.nan, values.ravel()).reshape(values.shape)
    return values.astype(config.floatx())


def _description(column: Any) -> str:
    name = str(getattr(column, "dtype", getattr(column, "type", "object")))
    return "text" if name in ("object", "str", "String", "string", "large_string", "Utf8") else name
