"""Operations of neural networks: Keras' `ops.nn`."""

from __future__ import annotations

import torch
from torch import Tensor

from kstyle_torch.ops.activation import (
    celu,
    elu,
    gelu,
    glu,
    hard_shrink,
    hard_sigmoid,
    hard_silu,
    hard_swish,
    hard_tanh,
    leaky_relu,
    log_sigmoid,
    log_softmax,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    soft_shrink,
    softmax,
    softplus,
    softsign,
    sparse_plus,
    sparse_sigmoid,
    sparsemax,
    squareplus,
    swish,
    tanh_shrink,
    threshold,
)
from kstyle_torch.ops.attention import dot_product_attention
from kstyle_torch.ops.convolution import (
    conv,
    conv_transpose,
    depth_to_space,
    depthwise_conv,
    fold,
    separable_conv,
    space_to_depth,
    unfold,
)
from kstyle_torch.ops.crossentropy import (
    binary_crossentropy,
    categorical_crossentropy,
    multi_hot,
    one_hot,
    sparse_categorical_crossentropy,
)
from kstyle_torch.ops.ctc import ctc_decode, ctc_loss
from kstyle_torch.ops.normalization import (
    batch_normalization,
    layer_normalization,
    moments,
    normalize,
    rms_normalization,
)
from kstyle_torch.ops.operation import TensorLike, operation
from kstyle_torch.ops.pooling import adaptive_average_pool, adaptive_max_pool, average_pool, max_pool

__all__ = [
    "adaptive_average_pool",
    "adaptive_max_pool",
    "average_pool",
    "batch_normalization",
    "binary_crossentropy",
    "categorical_crossentropy",
    "celu",
    "conv",
    "conv_transpose",
    "ctc_decode",
    "ctc_loss",
    "depth_to_space",
    "depthwise_conv",
    "dot_product_attention",
    "elu",
    "fold",
    "gelu",
    "glu",
    "hard_shrink",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "hard_tanh",
    "layer_normalization",
    "leaky_relu",
    "log_sigmoid",
    "log_softmax",
    "max_pool",
    "moments",
    "multi_hot",
    "normalize",
    "one_hot",
    "polar",
    "psnr",
    "relu",
    "relu6",
    "rms_normalization",
    "selu",
    "separable_conv",
    "sigmoid",
    "silu",
    "soft_shrink",
    "softmax",
    "softplus",
    "softsign",
    "space_to_depth",
    "sparse_categorical_crossentropy",
    "sparse_plus",
    "sparse_sigmoid",
    "sparsemax",
    "squareplus",
    "swish",
    "tanh_shrink",
    "threshold",
    "unfold",
]


@operation
def polar(abs_: TensorLike, angle: TensorLike) -> Tensor:
    """Returns the complex numbers with these absolute values and angles.

    Args:
        abs_: Absolute values.
        angle: Angles in radians.
    """
    abs_, angle = torch.broadcast_tensors(abs_, angle)
    return torch.complex(abs_ * angle.cos(), abs_ * angle.sin())


@operation
def psnr(x1: TensorLike, x2: TensorLike, max_val: TensorLike) -> Tensor:
    """Returns the peak signal-to-noise ratio of two images in decibels: `20 log10(max_val) - 10 log10(mse)`.

    Args:
        x1: First image, or a batch of them.
        x2: Second, of the same shape.
        max_val: Largest possible value of a pixel.
    Raises: ValueError: if the shapes differ.
    """
    if x1.shape != x2.shape:
        raise ValueError(f"psnr: the images must have the same shape; got {tuple(x1.shape)} and {tuple(x2.shape)}.")
    return 20 * max_val.to(x1).log10() - 10 * (x1 - x2).square().mean().log10()
