"""Linear algebra: Keras' `ops.linalg`. Matrices are the last two axes; all others are batch axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from kstyle_torch.initializers import as_dtype
from kstyle_torch.ops.operation import Nest, TensorLike, operation

__all__ = [
    "cholesky",
    "cholesky_inverse",
    "det",
    "eig",
    "eigh",
    "inv",
    "jvp",
    "lstsq",
    "lu_factor",
    "matrix_rank",
    "norm",
    "pinv",
    "qr",
    "solve",
    "solve_triangular",
    "svd",
]


@operation
def cholesky(x: TensorLike, upper: bool = False) -> Tensor:
    """Returns the triangular L with `L @ L.T = x`.

    Args:
        x: Symmetric positive definite matrices, (..., n, n).
        upper: Whether to return the transpose of L.
    Raises: ValueError: if a matrix is not square or not positive definite.

    Example:
        >>> ops.cholesky(torch.tensor([[4.0, 2.0], [2.0, 5.0]]))
        tensor([[2., 0.],
                [1., 2.]])
    """
    x = _square(x, "cholesky")
    try:
        return torch.linalg.cholesky(x, upper=upper)
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]  # torch documents it
        raise ValueError(f"cholesky: the matrix must be symmetric and positive definite. {error}") from error


@operation
def cholesky_inverse(x: TensorLike, upper: bool = False) -> Tensor:
    """Returns the inverse of a matrix from its Cholesky factor.

    Args:
        x: Triangular factors, (..., n, n).
        upper: Whether they are upper triangular.
    Raises: ValueError: if a matrix is not square.
    """
    return torch.cholesky_inverse(_square(x, "cholesky_inverse"), upper=upper)


@operation
def det(x: TensorLike) -> Tensor:
    """Returns the determinant of (..., n, n).

    Raises: ValueError: if a matrix is not square.
    """
    return torch.linalg.det(_square(x, "det"))


@operation
def eig(x: TensorLike) -> tuple[Tensor, Tensor]:
    """Returns complex eigenvalues (..., n) and eigenvectors (..., n, n) of (..., n, n).

    Raises: ValueError: if a matrix is not square.
    """
    return _plain(torch.linalg.eig(_square(x, "eig")))


@operation
def eigh(x: TensorLike) -> tuple[Tensor, Tensor]:
    """Returns ascending eigenvalues (..., n) and eigenvectors (..., n, n) of symmetric (..., n, n).

    Raises: ValueError: if a matrix is not square.
    """
    return _plain(torch.linalg.eigh(_square(x, "eigh")))


@operation
def inv(x: TensorLike) -> Tensor:
    """Returns the inverse of (..., n, n).

    Raises: ValueError: if a matrix is not square.
    """
    return torch.linalg.inv(_square(x, "inv"))


@operation
def lu_factor(x: TensorLike) -> tuple[Tensor, Tensor]:
    """Returns L and U of `P @ L @ U = x` in one matrix, and the row that each row was swapped with, counted from 0.

    Args:
        x: (..., m, n).
    Returns: (..., m, n) and int32 (..., min(m, n)).
    """
    factors, pivots = torch.linalg.lu_factor(_matrix(x, "lu_factor"))
    return factors, pivots - 1


@operation
def norm(
    x: TensorLike, ord: int | float | str | None = None, axis: int | Sequence[int] | None = None, keepdims: bool = False
) -> Tensor:
    """Returns the norm of vectors (one axis) or matrices (two).

    Args:
        x: Tensor.
        ord: Order, `"fro"`, `"nuc"` or an infinity as in NumPy; the root of the sum of squares if None.
        axis: One axis or two; all if None.
        keepdims: Whether to keep them with size 1.

    Example:
        >>> ops.norm(torch.tensor([3.0, 4.0]))
        tensor(5.)
    """
    x = x if x.is_floating_point() or x.is_complex() else x.to(as_dtype(None))
    axes = tuple(axis) if isinstance(axis, list) else axis
    return torch.linalg.norm(x, ord, axes, keepdim=keepdims)


@operation
def qr(x: TensorLike, mode: str = "reduced") -> tuple[Tensor, Tensor]:
    """Returns Q with orthonormal columns and upper triangular R, `Q @ R = x`.

    Args:
        x: (..., m, n).
        mode: `"reduced"` for Q of (..., m, min(m, n)), `"complete"` for (..., m, m).
    Raises: ValueError: for another mode.
    """
    if mode not in ("reduced", "complete"):
        raise ValueError(f"qr: mode must be 'reduced' or 'complete'; got {mode!r}.")
    return _plain(torch.linalg.qr(_matrix(x, "qr"), mode=mode))


@operation
def solve(a: TensorLike, b: TensorLike) -> Tensor:
    """Solves `a @ x = b` for x.

    Args:
        a: (..., n, n).
        b: (..., n) or (..., n, k).
    Raises: ValueError: if the shapes do not fit.
    """
    a, b = _system(a, b, "solve")
    return torch.linalg.solve(a, b)


@operation
def solve_triangular(a: TensorLike, b: TensorLike, lower: bool = False) -> Tensor:
    """Solves `a @ x = b` for x, with triangular `a`.

    Args:
        a: (..., n, n); the other triangle is not read.
        b: (..., n) or (..., n, k).
        lower: Whether `a` is lower triangular.
    Raises: ValueError: if the shapes do not fit.
    """
    a, b = _system(a, b, "solve_triangular")
    if b.ndim == a.ndim:
        return torch.linalg.solve_triangular(a, b, upper=not lower)
    return torch.linalg.solve_triangular(a, b.unsqueeze(-1), upper=not lower).squeeze(-1)


@operation
def svd(x: TensorLike, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    """Returns the singular value decomposition `U @ diag(S) @ V = x`, S descending.

    Args:
        x: (..., m, n).
        full_matrices: Whether U and V are square.
        compute_uv: Whether to return U and V.
    Returns: U, S, V; or S alone.
    """
    x = _matrix(x, "svd")
    return _plain(torch.linalg.svd(x, full_matrices=full_matrices)) if compute_uv else torch.linalg.svdvals(x)


@operation
def lstsq(a: TensorLike, b: TensorLike, rcond: float | None = None) -> Tensor:
    """Returns the least-squares solution x of `a @ x = b`.

    Args:
        a: (m, n).
        b: (m,) or (m, k).
        rcond: Singular values below this fraction of the largest count as 0.
    """
    if rcond is None:
        return torch.linalg.lstsq(a, b).solution
    if a.is_cuda:  # the drivers on CUDA do not cut off singular values
        return torch.linalg.pinv(a, rtol=rcond) @ b
    return torch.linalg.lstsq(a, b, rcond=rcond, driver="gelsd").solution


@operation
def matrix_rank(x: TensorLike, tol: float | None = None) -> Tensor:
    """Returns the rank of matrices: how many singular values exceed `tol`, int32.

    Args:
        x: (..., m, n).
        tol: Tolerance; if None, the rounding error of the largest singular value.
    """
    return torch.linalg.matrix_rank(_matrix(x, "matrix_rank"), atol=tol).int()


@operation
def pinv(x: TensorLike, rcond: float | None = None) -> Tensor:
    """Returns the pseudo-inverse, (..., n, m) for (..., m, n).

    Args:
        x: (..., m, n).
        rcond: Singular values below this fraction of the largest count as 0.
    """
    return torch.linalg.pinv(_matrix(x, "pinv"), rtol=rcond)


@operation
def jvp(fun: Callable[..., Any], primals: Nest, tangents: Nest, has_aux: bool = False) -> Any:
    """Returns the value of a function and its directional derivative (Jacobian-vector product).

    Args:
        fun: The function.
        primals: Its arguments.
        tangents: The direction, one tensor for each of them.
        has_aux: Whether `fun` also returns auxiliary data.
    Returns: Value and derivative, and the auxiliary data.

    Example:
        >>> ops.jvp(torch.square, (torch.tensor(3.0),), (torch.tensor(1.0),))
        (tensor(9.), tensor(6.))
    """
    return torch.func.jvp(fun, tuple(primals), tuple(tangents), has_aux=has_aux)


def _plain(parts: Any) -> Any:
    """Converts torch's named tuples, which cannot be outputs of a graph, to tuples."""
    return tuple(parts)


def _matrix(x: Tensor, name: str) -> Tensor:
    if x.ndim < 2:
        raise ValueError(f"{name}: expected matrices of shape (..., m, n); got shape {tuple(x.shape)}.")
    return x


def _square(x: Tensor, name: str) -> Tensor:
    x = _matrix(x, name)
    if x.shape[-1] != x.shape[-2]:
        raise ValueError(f"{name}: expected square matrices; got shape {tuple(x.shape)}.")
    return x


def _system(a: Tensor, b: Tensor, name: str) -> tuple[Tensor, Tensor]:
    a, b = _square(a, name), b
    rows = b.shape[-2:-1] if b.ndim == a.ndim else b.shape[-1:]
    if rows != a.shape[-1:]:
        raise ValueError(
            f"{name}: {tuple(a.shape)} and {tuple(b.shape)} do not fit; b must be (..., n) or (..., n, k)."
        )
    return a, b
