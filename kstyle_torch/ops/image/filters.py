"""Filters: Gaussian blur, Sobel edges, structural similarity. A `batch` is channels_first."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kstyle_torch.ops.image.layout import channel_axis, check_images, on_batch
from kstyle_torch.ops.operation import as_tensor, operation


@operation
def gaussian_blur(
    images: Any, kernel_size: Any = (3, 3), sigma: Any = (1.0, 1.0), data_format: str | None = None
) -> Tensor:
    """Blurs images, padded with zeros.

    Args:
        images: One image or a batch, floats.
        kernel_size: Height and width of the kernel, odd.
        sigma: Width of the Gaussian along x and along y, two numbers or a tensor of two.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
    Raises: ValueError: for another number of axes.

    Example:
        >>> gaussian_blur(torch.ones(4, 5, 1))[1:3, 1:4, 0]
        tensor([[1., 1., 1.],
                [1., 1., 1.]])
    """
    sizes = tuple(int(size) for size in kernel_size)
    return on_batch(lambda batch: blur(batch, sizes, sigma), as_tensor(images), data_format)


def blur(batch: Tensor, kernel_size: tuple[int, ...], sigma: Any) -> Tensor:
    """Blurs a batch in two passes, along height and width, which is cheaper than one with the whole kernel."""
    (height, width), (sigma_x, sigma_y) = kernel_size, sigma
    channels = batch.shape[1]
    down = gaussian(height, sigma_y, batch).expand(channels, 1, height).unsqueeze(-1)
    across = gaussian(width, sigma_x, batch).expand(channels, 1, width).unsqueeze(-2)
    blurred = F.conv2d(batch, down, padding=(height // 2, 0), groups=channels)
    return F.conv2d(blurred, across, padding=(0, width // 2), groups=channels)


def gaussian(size: int, sigma: Any, like: Tensor) -> Tensor:
    """Returns a Gaussian of `size` numbers with sum 1."""
    x = torch.arange(size, dtype=like.dtype, device=like.device) - (size - 1) / 2
    bell = torch.exp(-0.5 * (x / sigma) ** 2)
    return bell / bell.sum()


@operation
def sobel_edges(images: Any, data_format: str | None = None) -> Tensor:
    """Returns the Sobel gradients along y and x, stacked in a new last axis.

    Args:
        images: One image or a batch, floats.
        data_format: As in `gaussian_blur`.
    Raises: ValueError: for another number of axes.

    Example:
        >>> sobel_edges(torch.ones(2, 5, 5, 3)).shape
        torch.Size([2, 5, 5, 3, 2])
    """
    images = as_tensor(images)
    check_images(images)
    axis = channel_axis(data_format)
    batch = images if images.ndim == 4 else images[None]
    edges = torch.stack(_sobel(batch.movedim(axis, 1)), -1).movedim(1, axis - 1 if axis == -1 else 1)
    return edges if images.ndim == 4 else edges[0]


def _sobel(batch: Tensor) -> tuple[Tensor, Tensor]:
    channels = batch.shape[1]
    along_y = batch.new_tensor([[-1, -2, -1], [0, 0, 0], [1, 2, 1]])
    kernels = (along_y.expand(channels, 1, 3, 3), along_y.T.expand(channels, 1, 3, 3))
    down, across = (F.conv2d(batch, kernel, padding=1, groups=channels) for kernel in kernels)
    return down, across


@operation
def ssim(
    image1: Any,
    image2: Any,
    max_val: float = 1.0,
    filter_size: int = 11,
    filter_sigma: float = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
    data_format: str | None = None,
) -> Tensor:
    """Returns the structural similarity of two images, 1 for equal ones; one number for each image.

    Args:
        image1, image2: One image or a batch.
        max_val: Largest possible value of a pixel.
        filter_size: Size of the Gaussian window; images must not be smaller.
        filter_sigma: Its width.
        k1, k2: Small numbers that stabilize the division.
        data_format: As in `gaussian_blur`.
    Raises: ValueError: for another number of axes, or images smaller than the window.
    Source: Wang et al. 2004.

    Example:
        >>> ssim(torch.ones(2, 16, 16, 3), torch.ones(2, 16, 16, 3))
        tensor([1., 1.])
    """
    first, second = as_tensor(image1), as_tensor(image2)
    check_images(first)
    check_images(second)
    dtype = first.dtype if first.is_floating_point() else torch.float32
    axis = channel_axis(data_format)
    x, y = ((image if image.ndim == 4 else image[None]).to(dtype).movedim(axis, 1) for image in (first, second))
    if min(x.shape[2:]) < filter_size:
        raise ValueError(
            f"ssim: images must be at least {filter_size} (filter_size) high and wide; got {tuple(first.shape)}."
        )
    window = gaussian(filter_size, filter_sigma, x)
    result = _ssim_map(x, y, window, (k1 * max_val) ** 2, (k2 * max_val) ** 2).mean((1, 2, 3))
    return (result if first.ndim == 4 else result[0]).to(first.dtype)


def _ssim_map(x: Tensor, y: Tensor, window: Tensor, c1: float, c2: float) -> Tensor:
    moments = torch.cat((x, y, x * x, y * y, x * y), 1)
    channels = moments.shape[1]
    down = F.conv2d(moments, window[:, None].expand(channels, 1, -1, 1), groups=channels)
    means = F.conv2d(down, window[None].expand(channels, 1, 1, -1), groups=channels)
    mean_x, mean_y, square_x, square_y, product = means.chunk(5, 1)
    covariance = product - mean_x * mean_y
    variances = (square_x - mean_x * mean_x) + (square_y - mean_y * mean_y)
    top = (2.0 * mean_x * mean_y + c1) * (2.0 * covariance + c2)
    return top / ((mean_x * mean_x + mean_y * mean_y + c1) * (variances + c2))
