"""Warps: affine, perspective and elastic transforms of images.

A `batch` is channels_first. Points are (x, y), coordinates are (y, x) in the order of the axes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kstyle_torch.draws import generator
from kstyle_torch.ops.image.filters import blur
from kstyle_torch.ops.image.layout import on_batch
from kstyle_torch.ops.image.sampling import check_fill_mode, sample
from kstyle_torch.ops.operation import as_tensor, operation

ORDERS = {"nearest": 0, "bilinear": 1}


@operation
def affine_transform(
    images: Any,
    transform: Any,
    interpolation: str = "bilinear",
    fill_mode: str = "constant",
    fill_value: float = 0,
    data_format: str | None = None,
) -> Tensor:
    """Translates, rotates, scales or shears images.

    Args:
        images: One image or a batch.
        transform: `[a0, a1, a2, b0, b1, b2, c0, c1]`, one or one per image: the pixel (x, y) of the result is read at
            (a0 x + a1 y + a2, b0 x + b1 y + b2). c0 and c1 are ignored, as in Keras on backends other than TensorFlow.
        interpolation: `"bilinear"` or `"nearest"`.
        fill_mode: Values outside, as in `map_coordinates`.
        fill_value: The constant.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
    Raises: ValueError: for bad ranks, interpolation or fill mode.

    Example:
        >>> image = torch.tensor([[1.0, 2.0, 3.0]])[..., None]
        >>> affine_transform(image, [1, 0, 1, 0, 1, 0, 0, 0])[..., 0]  # one pixel to the left
        tensor([[2., 3., 0.]])
    """
    order = _order(interpolation)
    check_fill_mode(fill_mode)
    images = as_tensor(images)
    transform = as_tensor(transform).to(images.device)
    if transform.ndim not in (1, 2) or transform.shape[-1] != 8:
        raise ValueError(
            f"affine_transform: transform must be 8 numbers, or 8 for each image; got shape {tuple(transform.shape)}."
        )
    transform = transform.to(torch.promote_types(transform.dtype, torch.float32))

    def warp(batch: Tensor) -> Tensor:
        a0, a1, a2, b0, b1, b2 = transform.reshape(-1, 8)[:, :6, None, None].unbind(1)
        y, x = _grid(batch, transform.dtype)
        return warped(batch, b0 * x + b1 * y + b2, a0 * x + a1 * y + a2, order, fill_mode, fill_value)

    return on_batch(warp, images, data_format)


@operation
def perspective_transform(
    images: Any,
    start_points: Any,
    end_points: Any,
    interpolation: str = "bilinear",
    fill_value: float = 0,
    data_format: str | None = None,
) -> Tensor:
    """Applies the perspective transform that maps four points to four others.

    Args:
        images: One image or a batch.
        start_points: (4, 2), or (batch, 4, 2): x and y of the points in the images.
        end_points: Their positions in the result.
        interpolation: `"bilinear"` or `"nearest"`.
        fill_value: Value outside.
        data_format: As in `affine_transform`.
    Raises: ValueError: for bad shapes or interpolation.

    Example:
        >>> corners = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0], [3.0, 3.0]])
        >>> perspective_transform(torch.ones(4, 4, 1), corners, corners).sum()
        tensor(16.)
    """
    order = _order(interpolation)
    images, start, end = as_tensor(images), as_tensor(start_points), as_tensor(end_points)
    if start.shape != end.shape or start.shape[-2:] != (4, 2) or start.ndim not in (2, 3):
        raise ValueError(
            "perspective_transform: start_points and end_points must both be (4, 2), or (batch, 4, 2); "
            f"got {tuple(start.shape)} and {tuple(end.shape)}."
        )
    dtype = torch.promote_types(images.dtype, torch.float32)
    matrix = homography(
        start.to(images.device, dtype).reshape(-1, 4, 2), end.to(images.device, dtype).reshape(-1, 4, 2)
    )

    def warp(batch: Tensor) -> Tensor:
        x, y = apply_homography(matrix[:, :, None, None], *reversed(_grid(batch, dtype)))
        return warped(batch, y, x, order, "constant", fill_value)

    return on_batch(warp, images, data_format)


def homography(start: Tensor, end: Tensor) -> Tensor:
    """Returns the eight coefficients (last axis) of the transform of `end` to `start`, both (batch, 4, 2)."""
    (x, y), (to_x, to_y) = end.unbind(-1), start.unbind(-1)
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    for_x = torch.stack((x, y, one, zero, zero, zero, -to_x * x, -to_x * y), -1)
    for_y = torch.stack((zero, zero, zero, x, y, one, -to_y * x, -to_y * y), -1)
    equations = torch.stack((for_x, for_y), 2).flatten(1, 2)
    # unlike solve(), it does not make the host wait to check whether the matrix is invertible
    wide = torch.promote_types(start.dtype, torch.float32)
    solution, _ = torch.linalg.solve_ex(equations.to(wide), start.flatten(1).unsqueeze(-1).to(wide))
    return solution.squeeze(-1).to(start.dtype)


def apply_homography(matrix: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Transforms points; the eight coefficients are on axis 1 of `matrix`."""
    a0, a1, a2, b0, b1, b2, c0, c1 = matrix.unbind(1)
    depth = c0 * x + c1 * y + 1.0
    return (a0 * x + a1 * y + a2) / depth, (b0 * x + b1 * y + b2) / depth


@operation
def elastic_transform(
    images: Any,
    alpha: float = 20.0,
    sigma: float = 5.0,
    interpolation: str = "bilinear",
    fill_mode: str = "reflect",
    fill_value: float = 0.0,
    seed: int | None = None,
    data_format: str | None = None,
) -> Tensor:
    """Applies a random elastic deformation: smooth displacements of the pixels.

    Args:
        images: One image or a batch.
        alpha: Size of the displacements.
        sigma: Smoothness: width of the Gaussian that blurs the displacements.
        interpolation: `"bilinear"` or `"nearest"`.
        fill_mode: Values outside, as in `map_coordinates`.
        fill_value: The constant.
        seed: Int for the same displacements at each call.
        data_format: As in `affine_transform`.
    Raises: ValueError: for bad ranks, interpolation or fill mode.
    Source: Simard et al. 2003.

    Example:
        >>> elastic_transform(torch.ones(8, 8, 3), alpha=2.0, sigma=1.0, seed=1).shape
        torch.Size([8, 8, 3])
    """
    order = _order(interpolation)
    check_fill_mode(fill_mode)

    def warp(batch: Tensor) -> Tensor:
        noise = elastic_noise(batch, None if seed is None else generator(seed))
        taps = int(6 * sigma) | 1
        return elastically_warped(batch, noise, alpha, sigma, taps, order, fill_mode, fill_value)

    return on_batch(warp, as_tensor(images), data_format)


def elastic_noise(batch: Tensor, source: torch.Generator | None) -> Tensor:
    """Returns random displacements in x and y, (2, batch, height, width), drawn on the device of `source` if given."""
    dtype = torch.promote_types(batch.dtype, torch.float32)
    device = batch.device if source is None else source.device
    shape = (len(batch), *batch.shape[2:])
    moves = [torch.randn(shape, generator=source, dtype=dtype, device=device) for _ in range(2)]
    return torch.stack(moves).to(batch.device)


def elastically_warped(
    batch: Tensor,
    noise: Tensor,
    alpha: Any,
    sigma: Any,
    taps: int,
    order: int,
    fill_mode: str,
    fill_value: float,
) -> Tensor:
    """Displaces pixels by the noise, blurred with a kernel of `taps` pixels."""
    moves = alpha * blur((noise * sigma).movedim(0, 1), (taps, taps), (sigma, sigma))
    dx, dy = moves.unbind(1)
    y, x = _grid(batch, noise.dtype)
    return warped(batch, y + dy, x + dx, order, fill_mode, fill_value)


def warped(batch: Tensor, y: Tensor, x: Tensor, order: int, fill_mode: str, fill_value: float) -> Tensor:
    """Returns the images interpolated at the coordinates, (batch or 1, height, width)."""
    rows = torch.arange(len(batch), device=batch.device)[:, None, None]
    return sample(batch.movedim(1, -1), (y, x), order, fill_mode, fill_value, (rows,)).movedim(-1, 1)


def _grid(batch: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Returns the y and x coordinates of all pixels, in shapes that broadcast."""
    height, width = (torch.arange(size, dtype=dtype, device=batch.device) for size in batch.shape[2:])
    return height[:, None], width[None, :]


def _order(interpolation: str) -> int:
    if interpolation not in ORDERS:
        raise ValueError(f"interpolation must be one of {', '.join(ORDERS)}; got {interpolation!r}.")
    return ORDERS[interpolation]
