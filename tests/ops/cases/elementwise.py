"""Functions of each element, of one tensor and of two."""

import numpy as np
import torch

from tests.ops.case import COMPLEX, EXTREMES, HALF, I8, I64, U8, B, M, N, P, W, X, Y, row

FLOATING = (
    "arccos arcsin arcsinh arctan arctanh cos cosh deg2rad exp exp2 expm1 i0 log log10 log1p log2 rad2deg reciprocal "
    "sin sinc sinh sqrt tan tanh cbrt fabs angle"
).split()
ANY = "abs absolute ceil copy floor negative sign square trunc round conj conjugate isfinite isinf isnan".split()
ANY += "isneginf isposinf isreal logical_not signbit nan_to_num".split()

BINARY = (
    "add arctan2 divide divide_no_nan fmax fmin hypot logaddexp logaddexp2 maximum minimum multiply subtract".split()
)
BINARY += "true_divide equal greater greater_equal less less_equal not_equal logical_and logical_or logical_xor".split()
BINARY += "mod fmod floor_divide heaviside isclose".split()
BITS = (
    "bitwise_and bitwise_or bitwise_xor bitwise_left_shift bitwise_right_shift left_shift right_shift gcd lcm".split()
)

ROWS = [
    *(row(name, x) for name in FLOATING for x in (P, HALF.abs() * 0.5 + 0.1)),
    *(row(name, x) for name in FLOATING for x in (M,) if name not in ("arccos", "arcsin", "arctanh")),
    *(row(name, x) for name in ANY for x in (X, N)),
    *(row(name, EXTREMES) for name in ("isfinite", "isinf", "isnan", "isneginf", "isposinf", "signbit", "nan_to_num")),
    *(row(name, B) for name in ("abs", "ceil", "floor", "trunc", "square", "logical_not", "exp", "sqrt", "sin")),
    row("arccosh", P + 1),
    row("arccosh", M),
    *(row(name, COMPLEX) for name in ("real", "imag", "conj", "conjugate", "angle", "abs", "isreal")),
    row("real", X),
    row("bitwise_invert", N),
    row("bitwise_not", N),
    row("round", X * 10, 1),
    row("round", N * 17, kwargs={"decimals": -1}),
    row("nan_to_num", EXTREMES, 1.0, 2.0, 3.0),
    row("clip", X, -0.5, 0.5),
    row("clip", X, Y - 1, Y + 1),
    row("clip", X, P - 1, 0.5),
    row("clip", N, 1, 2.5),
    row("clip", B, 0, 1),
    row("view", X, "int32", gradient=False),
    *(row(name, x1, x2) for name in BINARY for x1, x2 in ((X, P), (N, M), (X, M), (N, P), (X, W))),
    *(row(name, X, 0.5) for name in BINARY),
    *(row(name, 2, P) for name in BINARY),
    *(row(name, N, M) for name in BITS),
    row("bitwise_left_shift", N, 2),
    row("right_shift", N, 1),
    row("power", P, Y),
    row("power", N, 2),
    row("power", 2.0, Y),
    row("subtract", B, N),
    row("subtract", P, B),
    row("divide_no_nan", X, M - 2),
    row("fmax", EXTREMES, 0.0),
    row("maximum", EXTREMES, 0.0),
    row("ldexp", X, N),
    row("ldexp", N, M),
    # Keras steps in float64 and rounds the step away
    row("nextafter", X, Y, oracle=lambda x1, x2: np.nextafter(x1.numpy(), x2.numpy()), gradient=False),
    row("isclose", EXTREMES, EXTREMES, kwargs={"equal_nan": True}),
    row("isclose", X, X + 1e-3, 1e-2, 0.0),
    row("allclose", X, X + 1e-9),
    row("allclose", N, M),
    row("isin", N, M[0]),
    row("isin", N, torch.tensor([1, 3]), kwargs={"invert": True}),
    row("isin", B, B[0]),
    *(row("add", x, 1) for x in (I8, I64, U8, HALF, COMPLEX)),
    *(row("multiply", x, 1.5) for x in (I8, I64, U8, HALF, B)),
]

for each in ROWS:
    each.batched = all(tensor.shape[:1] == (3,) for tensor in each.tensors()) and each.name != "allclose"
    each.gradient = each.gradient and each.name not in ("floor_divide", "heaviside")  # torch gives them none
