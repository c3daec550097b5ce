"""Linear algebra: names, arguments, values, dtypes and gradients of Keras."""

import keras
import numpy as np
import pytest
import torch

from kstyle_torch import ops
from kstyle_torch.layers import Input
from kstyle_torch.ops import linalg
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
from tests.oracle import GraphModule, array, assert_close, integers, uniform

NAMES = sorted(name for name in dir(keras.ops.linalg) if name[0] != "_")


def square(*shape):
    return lambda: (uniform(*(shape or (2, 4, 4))) + 3 * torch.eye(4),)


def positive():
    x = uniform(2, 4, 4)
    return (x @ x.mT + torch.eye(4),)


def factors(upper=False):
    return lambda: (torch.linalg.cholesky(positive()[0], upper=upper),)


def tall():
    return (uniform(2, 5, 3),)


def wide():
    return (uniform(2, 3, 5),)


def system(*shape, seed=1):
    return lambda: (square()()[0], uniform(*shape, seed=seed))


def deficient():
    """A matrix of rank 2."""
    return (uniform(2, 4, 2) @ uniform(2, 2, 4, seed=1),)


def multiply_and_sum(x, y):
    return (x * y).sum(-1)


def with_norm(x, y):
    return x * y, (x * x).sum()


ROWS = [
    *[Row("cholesky", positive, {"upper": upper}, rtol=1e-4) for upper in (False, True)],
    *[Row("cholesky_inverse", factors(upper), {"upper": upper}, rtol=1e-4) for upper in (False, True)],
    Row("det", square(), rtol=1e-4),
    Row("det", square(4, 4), symbolic=()),
    Row("eig", square(), grad=False),
    Row("eigh", positive, grad=False),
    Row("inv", square()),
    *[Row("lu_factor", args) for args in (square(), tall, wide)],
    *[
        Row("norm", lambda: (uniform(3, 4, 5),), {"ord": order, "axis": axis, "keepdims": keep})
        for order, axis, keep in [
            (None, None, False),
            (None, 1, True),
            (1, -1, False),
            (3, [2], False),
            (np.inf, 1, False),
            (None, (1, 2), False),
            ("fro", (1, 2), True),
            ("nuc", (1, 2), False),
            (-np.inf, [1, 2], False),
            (2, (1, 2), False),
        ]
    ],
    Row("norm", lambda: (integers(3, 4),), {"axis": 1}, grad=False),
    Row("qr", tall),
    Row("qr", tall, {"mode": "complete"}, grad=False),
    Row("qr", wide, grad=False),
    Row("solve", system(2, 4, 3), {}, (0, 1)),
    Row("solve", system(2, 4), {}, (0, 1)),
    *[Row("solve_triangular", system(2, 4, 3), {"lower": lower}, (0, 1)) for lower in (False, True)],
    Row("solve_triangular", system(2, 4), {}, (0, 1)),
    Row("svd", tall, grad=False),
    Row("svd", wide, {"full_matrices": False}, grad=False),
    Row("svd", tall, {"compute_uv": False}),
    Row("lstsq", lambda: (uniform(6, 3), uniform(6, 2, seed=1)), {}, (), traced=False),
    Row("lstsq", lambda: (uniform(6, 3), uniform(6, seed=1)), {}, (), grad=False),
    Row("lstsq", lambda: (deficient()[0][0], uniform(4, 2, seed=1)), {"rcond": 1e-3}, (), grad=False, rtol=1e-4),
    Row("matrix_rank", deficient, grad=False),
    Row("matrix_rank", square(), {"tol": 3.0}, grad=False),
    Row("pinv", tall, rtol=1e-4),
    Row("pinv", deficient, {"rcond": 1e-3}, grad=False, rtol=1e-4),
]
JVP = [(multiply_and_sum, False), (with_norm, True)]


def test_names_and_parameters_are_those_of_keras():
    for name in NAMES:
        assert getattr(ops, name) is getattr(linalg, name)
        assert_same_parameters(getattr(linalg, name), getattr(keras.ops.linalg, name))


def test_every_operation_has_a_row():
    assert {row.name for row in ROWS} | {"jvp"} == {*NAMES} == {*linalg.__all__}


@per_row(ROWS)
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


@pytest.mark.parametrize(("function", "has_aux"), JVP, ids=["plain", "has_aux"])
def test_jvp_equals_keras(function, has_aux):
    primals = uniform(3, 4), uniform(3, 4, seed=1)
    tangents = uniform(3, 4, seed=2), uniform(3, 4, seed=3)
    ours = ops.jvp(function, primals, tangents, has_aux=has_aux)
    theirs = keras.ops.jvp(function, primals, tangents, has_aux=has_aux)
    for our, their in zip(ours, theirs, strict=True):
        assert_close(our, their)
    arrays = ops.jvp(function, tuple(map(array, primals)), [*map(array, tangents)], has_aux)
    assert_close(arrays[1], ours[1])


def test_jvp_is_symbolic():
    x, tangent = uniform(3, 4), uniform(3, 4, seed=1)
    inputs = [Input((4,)), Input((4,))]
    outputs = ops.jvp(torch.sin, inputs[:1], inputs[1:])
    assert [y.shape for y in outputs] == [(None, 4)] * 2
    for ours, real in zip(
        GraphModule(inputs, outputs)([x, tangent]), ops.jvp(torch.sin, (x,), (tangent,)), strict=True
    ):
        assert_close(ours, real)


def test_arrays_and_lists_are_taken():
    x = array(square()()[0])
    assert_close(ops.inv(x), ops.inv(torch.from_numpy(x)))
    assert_close(ops.norm([3.0, 4.0]), 5.0)


WRONG = [
    (lambda x: ops.cholesky(-torch.eye(3)), "symmetric and positive definite"),
    *[
        (lambda x, name=name: getattr(ops, name)(x), f"{name}: expected square matrices; got shape \\(2, 3\\)")
        for name in ("cholesky", "cholesky_inverse", "det", "eig", "eigh", "inv")
    ],
    *[
        (lambda x, name=name: getattr(ops, name)(x[0]), f"{name}: expected matrices")
        for name in ("det", "lu_factor", "qr", "svd", "matrix_rank", "pinv")
    ],
    (lambda x: ops.qr(x, mode="raw"), "'reduced' or 'complete'; got 'raw'"),
    (lambda x: ops.solve(torch.eye(3), x), "do not fit"),
    (lambda x: ops.solve_triangular(torch.eye(3), x[0, :2]), "do not fit"),
]


@pytest.mark.parametrize(("call", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_is_wrong_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(uniform(2, 3))
