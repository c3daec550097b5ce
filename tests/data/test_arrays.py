"""Whatever holds numbers becomes tensors; what does not is named."""

import datetime

import numpy as np
import pandas
import polars
import pyarrow
import pytest
import scipy.sparse
import torch

from kstyle_torch.data import rows as rows_module
from kstyle_torch.data.arrays import to_tensors
from kstyle_torch.data.rows import Rows

X = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
FLAGS = X[:, 2] > 0
MIXED = np.column_stack([X[:, :2], FLAGS]).astype("float32")
SHUFFLED = [5, 3, 1, 0, 2, 4]


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


FRAMES = {
    "pandas": lambda: pandas.DataFrame({"a": X[:, 0], "b": X[:, 1], "flag": FLAGS}),
    "pandas, repeated names": lambda: pandas.concat(
        [pandas.DataFrame(X[:, :2], columns=["a", "a"]), pandas.Series(FLAGS, name="a")], axis=1
    ),
    "pandas, shuffled index": lambda: pandas.DataFrame({"a": X[:, 0], "b": X[:, 1], "flag": FLAGS}, index=SHUFFLED),
    "pandas, nullable": lambda: pandas.DataFrame({"a": X[:, 0], "b": X[:, 1], "flag": FLAGS}).convert_dtypes(),
    "pandas, objects": lambda: pandas.DataFrame({"a": X[:, 0], "b": X[:, 1], "flag": FLAGS}).astype(object),
    "polars": lambda: polars.DataFrame({"a": X[:, 0], "b": X[:, 1], "flag": FLAGS}),
    "pyarrow": lambda: pyarrow.table({"a": X[:, 0], "b": X[:, 1], "flag": FLAGS}),
    "pyarrow, record batch": lambda: pyarrow.record_batch({"a": X[:, 0], "b": X[:, 1], "flag": FLAGS}),
    "pandas, on pyarrow": lambda: pandas.DataFrame({"a": X[:, 0], "b": X[:, 1], "flag": FLAGS}).convert_dtypes(
        dtype_backend="pyarrow"
    ),
}


@pytest.mark.parametrize("kind", FRAMES)
def test_frames_of_numbers_and_booleans(kind):
    tensor = to_tensors(FRAMES[kind](), "x")
    assert tensor.dtype is torch.float32
    np.testing.assert_array_equal(tensor.numpy(), MIXED)


SERIES = {
    "pandas": lambda y: pandas.Series(y, index=SHUFFLED),
    "pandas, nullable": lambda y: pandas.Series(y, index=SHUFFLED, dtype="Int64"),
    "polars": lambda y: polars.Series(y),
    "pyarrow": lambda y: pyarrow.array(y),
    "pyarrow, chunked": lambda y: pyarrow.chunked_array([y[:2], y[2:]]),
    "list": lambda y: y.tolist(),
    "tuple": lambda y: tuple(y.tolist()),
    "list of tensors": lambda y: list(torch.from_numpy(y)),
    "range": lambda y: range(1, 7),
    "objects": lambda y: y.astype(object),
}


@pytest.mark.parametrize("kind", SERIES)
def test_series_are_positional(kind):
    y = np.arange(1, 7)
    tensor = to_tensors(SERIES[kind](y), "y")
    np.testing.assert_array_equal(tensor.numpy(), y)


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow"])
def test_a_missing_number_becomes_nan(kind):
    data = {"a": [1, None, 3], "b": [0.5, 1.5, None]}
    frame = {
        "pandas": lambda: pandas.DataFrame(data, dtype="object").convert_dtypes(),
        "polars": lambda: polars.DataFrame(data),
        "pyarrow": lambda: pyarrow.table(data),
    }[kind]()
    np.testing.assert_array_equal(to_tensors(frame, "x").numpy(), [[1, 0.5], [np.nan, 1.5], [3, np.nan]])


ARRAYS = {
    "read only": (read_only(X), X),
    "reversed": (X[::-1], X[::-1]),
    "big endian": (X.astype(">f4"), X),
    "float64": (X.astype("float64"), X),
    "float16": (np.float16(X), np.float16(X).astype("float32")),
    "longdouble": (X.astype(np.longdouble), X),
    "column-major": (np.asfortranarray(X), X),
    "uint16": (np.arange(6, dtype="uint16"), np.arange(6)),
    "uint64": (np.arange(6, dtype="uint64"), np.arange(6)),
    "bool": (FLAGS, FLAGS),
    "matrix": (np.matrix(X), X),
    "bfloat16": (torch.from_numpy(X).bfloat16(), torch.from_numpy(X).bfloat16().float()),
    "sparse tensor": (torch.from_numpy(X).to_sparse(), X),
    "scipy csr": (scipy.sparse.csr_matrix(X), X),
    "scipy coo": (scipy.sparse.coo_array(X), X),
    "rows in objects": (pandas.Series(list(X)), X),
    "nested lists": (X.tolist(), X),
}


@pytest.mark.parametrize("kind", ARRAYS)
@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_arrays_of_any_kind(kind, large, monkeypatch):
    if large:
        monkeypatch.setattr("kstyle_torch.data.arrays.WHOLE_BYTES", 0)
    given, wanted = ARRAYS[kind]
    tensor = to_tensors(given, "x").to("cpu")
    assert tensor.dtype is torch.from_numpy(np.ascontiguousarray(wanted)).dtype
    np.testing.assert_array_equal(tensor.numpy(), wanted)


def test_memory_is_shared_where_nothing_changes():
    assert to_tensors(X, "x").data_ptr() == X.ctypes.data


@pytest.mark.parametrize("large", [False, True])
def test_what_must_be_converted_is_read_by_rows_once_it_is_large(large, monkeypatch):
    monkeypatch.setattr("kstyle_torch.data.arrays.WHOLE_BYTES", 0 if large else rows_module.WHOLE_BYTES)
    assert isinstance(to_tensors(X.astype("float64"), "x"), Rows) is large


def test_rows_answer_like_a_tensor(tmp_path):
    np.save(tmp_path / "x.npy", X.astype("float64"))
    rows = to_tensors(np.load(tmp_path / "x.npy", mmap_mode="r"), "x")
    assert isinstance(rows, Rows) and rows.mapped
    assert (rows.shape, rows.dtype, rows.ndim, len(rows), rows.nbytes) == ((6, 3), torch.float32, 2, 6, 72)
    assert rows.is_floating_point() and rows.device.type == "cpu"
    part = rows[2:][1:3]
    np.testing.assert_array_equal(part.to("cpu"), X[3:5])
    np.testing.assert_array_equal(part.take(torch.tensor([1, 0])), X[[4, 3]])
    np.testing.assert_array_equal(rows.take(slice(1, 2)), X[1:2])
    with pytest.raises(ValueError, match="without a step"):
        rows[::2]


def test_taken_rows_have_memory_of_their_own(tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r+")
    to_tensors(mapped, "x").take(slice(None)).zero_()
    np.testing.assert_array_equal(mapped, X)


def test_arrays_in_hdf5_files_stay_there(tmp_path):
    import h5py

    with h5py.File(tmp_path / "x.h5", "w") as file:
        rows = to_tensors(file.create_dataset("x", data=X), "x")
        assert isinstance(rows, Rows)
        order = torch.tensor([4, 0, 2])
        np.testing.assert_array_equal(rows.take(order), X[order])
        np.testing.assert_array_equal(rows[2:].take(torch.tensor([3, 0])), X[[5, 2]])


DAYS = np.array(["2026-01-01", "2026-01-02"], dtype="datetime64[D]")
MISTAKES = {
    "text": (np.array(["yes", "no"]), "x contains text, such as 'yes'"),
    "text in objects": (np.array([1.0, "no"], dtype=object), "x contains text, such as 'no'"),
    "ragged objects": (np.array([[1], [2, 3]], dtype=object), "rows of different lengths.*pad_sequences"),
    "ragged lists": ([[1], [2, 3]], "rows have different lengths.*pad_sequences"),
    "ragged series": (pandas.Series([[1], [2, 3]]), "rows of different lengths"),
    "None inside": (np.array([1.0, None], dtype=object), "contains None"),
    "dates": (DAYS, r"dates or times \(datetime64\[D\]\); convert them to numbers"),
    "time spans": (DAYS - DAYS[0], "dates or times"),
    "fields": (
        np.zeros(2, dtype=[("a", "f4"), ("b", "i4")]),
        "structured array with the fields a, b; pass its columns",
    ),
    "complex": (np.ones(2, dtype=complex), "real numbers; got an array of dtype complex128"),
    "complex tensor": (torch.ones(2, dtype=torch.complex64), "real numbers"),
    "a number": (np.float32(3), "axis of samples; got a single number"),
    "an object": (object(), "x must hold numbers"),
    "an empty list": ([], "x is an empty list"),
    "an empty dict": ({}, "x is an empty dict"),
    "text column": (
        pandas.DataFrame({"age": [1, 2], "city": ["Rome", "Oslo"]}),
        r"x has columns that are not numbers: 'city' \(text\). Encode them",
    ),
    "categorical column": (
        pandas.DataFrame({"age": [1, 2], "city": pandas.Categorical(["Rome", "Oslo"])}),
        r"'city' \(category\)",
    ),
    "date column": (pandas.DataFrame({"age": [1, 2], "day": DAYS}), r"'day' \(datetime64"),
    "polars text column": (polars.DataFrame({"age": [1], "city": ["Rome"]}), r"'city' \(text\)"),
    "polars date column": (polars.DataFrame({"age": [1], "day": [datetime.date(2026, 1, 1)]}), r"'day' \(Date\)"),
    "pyarrow text column": (pyarrow.table({"age": [1], "city": ["Rome"]}), r"'city' \(text\)"),
    "text series": (pandas.Series(["Rome", "Oslo"]), "x contains text, such as 'Rome'"),
    "no columns": (pandas.DataFrame(index=[1, 2]), "x has no columns"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_holds_no_numbers_is_named(mistake):
    data, message = MISTAKES[mistake]
    with pytest.raises(ValueError, match=message):
        to_tensors(data, "x")


def test_the_data_itself_is_not_in_the_message():
    with pytest.raises(ValueError) as error:
        to_tensors([["word"] * 5000, ["other"] * 5000], "x")
    assert len(str(error.value)) < 300
