"""Special functions, segments, Fourier transforms: names, arguments, values, dtypes and gradients of Keras."""

import keras
import numpy as np
import pytest
import torch

from kstyle_torch import ops
from kstyle_torch.ops import math
from tests.choice import first_of_each, per_row
from tests.ops.row import (
    Row,
    assert_same_parameters,
    check_equal,
    check_gradients,
    check_symbolic,
    check_traced,
    number_of_tensors,
)
from tests.oracle import array, assert_close, integers, uniform

NAMES = sorted(n for n in dir(keras.ops) if getattr(getattr(keras.ops, n), "__module__", "") == "keras.src.ops.math")
IDS = torch.tensor([0, 3, 3, -1, 0, 7, 3])  # segments 1 and 2 have no row, two rows are in none


def plain(low=-0.9, high=0.9):
    return lambda: (uniform(3, 4, low=low, high=high),)


def pair(*shape):
    return lambda: ((uniform(*shape), uniform(*shape, seed=1)),)


def matrices(*shape):
    return lambda: (uniform(*shape) + 2 * torch.eye(shape[-1]),)


def spectrum(length, **kwargs):
    """Of a signal, so that the inverse exists."""
    return lambda: (tuple(x.clone() for x in keras.ops.stft(uniform(2, length), **kwargs)),)


def inverse(length, wanted=None, **kwargs):
    return Row("istft", spectrum(length, **kwargs), {**kwargs, "length": wanted}, rtol=1e-4)


FRAMES = {"sequence_length": 8, "sequence_stride": 4, "fft_length": 8}
LONG = {"sequence_length": 7, "sequence_stride": 3, "fft_length": 10}
ROWS = [
    Row("erf", plain()),
    Row("erfc", plain()),
    Row("erfinv", plain()),
    Row("rsqrt", plain(0.1, 3.0)),
    Row("rsqrt", lambda: (integers(3) + 1,), grad=False),
    Row("logdet", matrices(3, 4, 4), rtol=1e-4),
    Row("logsumexp", plain(), symbolic=()),
    *[Row("logsumexp", plain(), {"axis": axis, "keepdims": True}) for axis in (None, 0, 1, (0, 1))],
    *[Row("top_k", plain(), {"k": k, "sorted": True}) for k in (1, 3)],
    *[Row("in_top_k", lambda: (integers(6), uniform(6, 5)), {"k": k}, (0, 1), grad=False) for k in (1, 3)],
    Row("in_top_k", lambda: (integers(6), uniform(6, 5).round()), {"k": 2}, (0, 1), grad=False),  # with ties
    *[
        Row(f"segment_{kind}", lambda: (uniform(7, 2, 3), IDS), {"num_segments": count}, (), traced=count is not None)
        for kind in ("sum", "max", "min", "prod")
        for count in (5, 2, None)
    ],
    Row("segment_sum", lambda: (integers(7), IDS), {"num_segments": 4}, (), grad=False),
    Row("segment_max", lambda: (integers(7), torch.tensor([0, 0, 1, 1, 1, 2, 2])), {}, (), grad=False),
    Row("cdist", lambda: (uniform(3, 4), uniform(5, 4, seed=1)), {}, ()),
    Row("cdist", lambda: (uniform(2, 3, 4), uniform(2, 5, 4, seed=1)), {}, (0, 1)),
    Row("cdist", lambda: (uniform(2, 3, 4), uniform(5, 4, seed=1))),
    *[Row(name, pair(3, 4, 6)) for name in ("fft", "fft2", "ifft2", "irfft")],
    Row("irfft", pair(3, 6), {"fft_length": 7}),
    *[Row("rfft", lambda: (uniform(3, 9),), {"fft_length": length}) for length in (None, 6, 12)],
    Row("extract_sequences", lambda: (uniform(2, 11),), {"sequence_length": 4, "sequence_stride": 3}),
    *[
        Row("stft", lambda: (uniform(2, 30),), {**sizes, "window": window, "center": center})
        for sizes in (FRAMES, LONG)
        for window in ("hann", "hamming", None, np.linspace(0.5, 1, sizes["sequence_length"]))
        for center in (True, False)
    ],
    Row("stft", lambda: (uniform(2, 3, 30),), FRAMES),
    Row("stft", lambda: (uniform(30).double(),), FRAMES, ()),
    inverse(30, **FRAMES),
    inverse(30, 25, **FRAMES),
    inverse(30, **FRAMES, window="hamming"),
    inverse(32, **{**FRAMES, "sequence_stride": 2}, window="hamming", center=False),
    inverse(30, **LONG),
    inverse(30, 20, **LONG, window="hamming"),
    inverse(31, **LONG, window=None),
    inverse(31, **LONG, window="hamming", center=False),
    Row("view_as_complex", lambda: (uniform(3, 4, 2),)),
    Row("view_as_complex", lambda: (integers(3, 4, 2),), grad=False),
    Row("view_as_real", lambda: (torch.complex(uniform(3, 4), uniform(3, 4, seed=1)),), grad=False),
]


def test_names_and_parameters_are_those_of_keras():
    for name in NAMES:
        assert_same_parameters(getattr(ops, name), getattr(keras.ops, name))


def test_every_operation_has_a_row():
    assert {row.name for row in ROWS} == {*NAMES} == {*math.__all__}


@pytest.mark.parametrize("row", ROWS, ids=str)  # all of them in the quick set: they are fast
def test_equals_keras(row):
    check_equal(row)


@per_row([row for row in ROWS if row.grad])
def test_gradients_equal_keras(row):
    check_gradients(row)


@per_row([row for row in ROWS if row.symbolic])
def test_symbolic_is_real(row):
    check_symbolic(row)


@per_row([row for row in first_of_each(ROWS) if row.traced], number_of_tensors)
def test_compiles_in_one_graph(row):
    check_traced(row)


def test_istft_undoes_stft_of_many_batches():
    x = uniform(2, 3, 32)
    assert_close(ops.istft(ops.stft(x, **FRAMES), **FRAMES), x, atol=1e-5)


def test_lists_and_arrays_are_taken():
    real, imaginary = array(uniform(3, 4)), array(uniform(3, 4, seed=1))
    assert_close(ops.fft((real, imaginary))[0], keras.ops.fft((real, imaginary))[0])
    assert_close(ops.segment_sum([1.0, 2.0], [1, 1]), torch.tensor([0.0, 3.0]))


def test_segments_of_whole_numbers_are_exact():
    """Keras adds them up in float32."""
    data = torch.tensor([2**40 + 1, 2**40 + 2])
    assert ops.segment_sum(data, torch.tensor([0, 0])).item() == 2**41 + 3
    assert ops.segment_max(data, torch.tensor([0, 0]), 2).tolist() == [2**40 + 2, torch.iinfo(torch.int64).min]


def test_complex_numbers_of_doubles_stay_exact():
    """Keras rounds them to complex64."""
    assert ops.view_as_complex(torch.ones(3, 2).double()).dtype == torch.complex128


def test_gradient_of_cdist_is_finite_at_zero():
    x = torch.ones(2, 3, requires_grad=True)
    ops.cdist(x, x.detach()).sum().backward()
    assert x.grad.isfinite().all()


WRONG = [
    (lambda x: ops.segment_sum(x, x.long()), "one id for each row"),
    (lambda x: ops.segment_max(x, torch.tensor([0])), "one id for each row"),
    (lambda x: ops.cdist(x, x[:, :2]), "with equal features"),
    (lambda x: ops.cdist(x[0], x), "rows, features"),
    (lambda x: ops.view_as_complex(x), "real and imaginary part"),
    (lambda x: ops.fft(x), "pair of tensors"),
    (lambda x: ops.fft((x, x[0])), "must have the same shape"),
    (lambda x: ops.ifft2((x.long(), x.long())), "must be floats"),
    (lambda x: ops.stft(x, 8, 4, 4), "at least sequence_length"),
    (lambda x: ops.stft(x, 8, 0, 8), "sequence_stride must be a positive int"),
    (lambda x: ops.stft(x, 8, 4, 8, window="tukey"), "got 'tukey'"),
    (lambda x: ops.istft((x, x), 8, 4, 8, window=np.ones(3)), r"must have the shape \(8,\)"),
]


@pytest.mark.parametrize(("call", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_is_wrong_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(uniform(3, 4))


def test_stft_takes_floats_only():
    with pytest.raises(TypeError, match="float32 or float64"):
        ops.stft(integers(30), **FRAMES)
