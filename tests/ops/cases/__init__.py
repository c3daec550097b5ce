"""One or more rows for every operation, by family."""

from tests.ops.cases import arrays, core, elementwise, reduction

ROWS = [*elementwise.ROWS, *reduction.ROWS, *arrays.ROWS, *core.ROWS]
