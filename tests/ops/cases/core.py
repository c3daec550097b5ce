"""Conversion, scattering, slices."""

import torch

from tests.ops.case import CUBE, B, N, V, X, Y, row

POINTS = torch.tensor([[0, 1], [2, 3], [0, 1]])
ROWS_OF_X = torch.tensor([[0], [2], [0]])

ROWS = [
    *(row("cast", x, dtype) for x in (X, N, B) for dtype in ("float16", "int32", "bool", "uint8", "float64")),
    row("saturate_cast", X * 1000, "uint8"),
    # Keras overflows
    row("saturate_cast", X * 1e10, "int32", oracle=lambda x, _: x.double().clip(-(2**31), 2**31 - 128).int()),
    row("saturate_cast", N * 100, "int8"),
    row("saturate_cast", N - 2, "uint8"),
    row("saturate_cast", B, "float32"),
    row("convert_to_tensor", X, "float16"),
    row("convert_to_tensor", [1, 2.5]),
    row("convert_to_tensor", [[1, 2]]),
    row("convert_to_tensor", 3),
    row("convert_to_tensor", 2**40),
    row("convert_to_tensor", True),
    row("convert_to_tensor", 1j),
    row("stop_gradient", X),
    row("unstack", X),
    row("unstack", X, 4, 1),
    row("slice", X, (1, 0), (2, 3)),
    row("slice", X, torch.tensor([1, 0]), (2, 3)),
    row("slice_update", X, (1, 1), Y[:2, :3]),
    row("slice_update", X, torch.tensor([1, 1]), Y[:2, :3]),
    row("slice_update", V, [2], torch.tensor([1, 2])),
    row("scatter", POINTS, V[:3], (3, 4)),
    row("scatter", ROWS_OF_X, Y, (4, 4)),
    row("scatter_update", X, POINTS[:2], V[:2]),
    row("scatter_update", X, ROWS_OF_X[:2], Y[:2]),
    *(
        row("scatter_update", X, POINTS, V[:3], reduction, gradient="numeric")
        for reduction in ("add", "max", "min", "mul")
    ),
    *(
        row("scatter_update", X, ROWS_OF_X, Y, reduction, gradient="numeric")
        for reduction in ("add", "max", "min", "mul")
    ),
    row("scatter_update", CUBE, POINTS % 2, CUBE[:, 0].repeat(2, 1)[:3], "max", gradient="numeric"),
]
