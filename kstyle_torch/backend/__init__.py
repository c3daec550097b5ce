"""`keras.backend`: settings of the process, and the tensor functions that older programs call through it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kstyle_torch import ops, random
from kstyle_torch.backend.dtypes import is_float_dtype, is_int_dtype, result_type
from kstyle_torch.backend.older import (
    arange,
    batch_get_value,
    batch_normalization,
    batch_set_value,
    bias_add,
    binary_crossentropy,
    cast_to_floatx,
    categorical_crossentropy,
    conv1d,
    conv2d,
    conv3d,
    count_params,
    ctc_batch_cost,
    ctc_decode,
    cumprod,
    cumsum,
    dropout,
    dtype,
    elu,
    eval,
    foldl,
    foldr,
    function,
    gather,
    get_value,
    gradients,
    hard_sigmoid,
    image_dim_ordering,
    in_top_k,
    is_tensor,
    l2_normalize,
    learning_phase,
    logsumexp,
    map_fn,
    moving_average_update,
    name_scope,
    one_hot,
    placeholder,
    pool2d,
    pool3d,
    random_bernoulli,
    relu,
    repeat,
    reverse,
    softsign,
    sparse_categorical_crossentropy,
    spatial_2d_padding,
    stop_gradient,
    switch,
    temporal_padding,
    tile,
    truncated_normal,
    update,
    update_add,
    update_sub,
)
from kstyle_torch.config import (
    backend,
    epsilon,
    floatx,
    image_data_format,
    set_epsilon,
    set_floatx,
    set_image_data_format,
)
from kstyle_torch.dtype_policies import standardize_dtype
from kstyle_torch.ops import (
    abs,
    all,
    any,
    argmin,
    cast,
    clip,
    cos,
    equal,
    exp,
    eye,
    greater,
    greater_equal,
    less,
    less_equal,
    log,
    max,
    maximum,
    mean,
    min,
    minimum,
    not_equal,
    ones,
    ones_like,
    prod,
    reshape,
    round,
    sigmoid,
    sign,
    sin,
    softmax,
    softplus,
    sqrt,
    square,
    squeeze,
    stack,
    std,
    sum,
    tanh,
    transpose,
    var,
    zeros,
    zeros_like,
)
from kstyle_torch.registry import get_uid
from kstyle_torch.symbolic.tensor import is_symbolic
from kstyle_torch.symbolic.tensor import is_symbolic as is_keras_tensor
from kstyle_torch.utils import clear_session
from kstyle_torch.variables import Variable

__all__ = [
    "Variable",
    "abs",
    "all",
    "any",
    "arange",
    "argmax",
    "argmin",
    "backend",
    "batch_flatten",
    "batch_get_value",
    "batch_normalization",
    "batch_set_value",
    "bias_add",
    "binary_crossentropy",
    "cast",
    "cast_to_floatx",
    "categorical_crossentropy",
    "clear_session",
    "clip",
    "concatenate",
    "constant",
    "conv1d",
    "conv2d",
    "conv3d",
    "cos",
    "count_params",
    "ctc_batch_cost",
    "ctc_decode",
    "cumprod",
    "cumsum",
    "dot",
    "dropout",
    "dtype",
    "elu",
    "epsilon",
    "equal",
    "eval",
    "exp",
    "expand_dims",
    "eye",
    "flatten",
    "floatx",
    "foldl",
    "foldr",
    "function",
    "gather",
    "get_uid",
    "get_value",
    "gradients",
    "greater",
    "greater_equal",
    "hard_sigmoid",
    "image_data_format",
    "image_dim_ordering",
    "in_top_k",
    "int_shape",
    "is_float_dtype",
    "is_int_dtype",
    "is_keras_tensor",
    "is_tensor",
    "l2_normalize",
    "learning_phase",
    "less",
    "less_equal",
    "log",
    "logsumexp",
    "map_fn",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "moving_average_update",
    "name_scope",
    "ndim",
    "not_equal",
    "one_hot",
    "ones",
    "ones_like",
    "permute_dimensions",
    "placeholder",
    "pool2d",
    "pool3d",
    "pow",
    "prod",
    "random_bernoulli",
    "random_normal",
    "random_uniform",
    "relu",
    "repeat",
    "repeat_elements",
    "reshape",
    "result_type",
    "reverse",
    "round",
    "set_epsilon",
    "set_floatx",
    "set_image_data_format",
    "set_value",
    "shape",
    "sigmoid",
    "sign",
    "sin",
    "softmax",
    "softplus",
    "softsign",
    "sparse_categorical_crossentropy",
    "spatial_2d_padding",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "standardize_dtype",
    "std",
    "stop_gradient",
    "sum",
    "switch",
    "tanh",
    "temporal_padding",
    "tile",
    "transpose",
    "truncated_normal",
    "update",
    "update_add",
    "update_sub",
    "var",
    "variable",
    "zeros",
    "zeros_like",
]

shape, dot, pow, permute_dimensions = ops.shape, ops.dot, ops.power, ops.transpose
constant, variable = ops.convert_to_tensor, Variable


def int_shape(x: Any) -> tuple[int | None, ...]:
    """Returns the shape, with None for unknown sizes.

    Example:
        >>> int_shape(Input((3,)))
        (None, 3)
    """
    return tuple(x.shape)


def ndim(x: Any) -> int:
    """Returns the number of axes of `x`."""
    return len(x.shape)


def argmax(x: Any, axis: int = -1) -> Tensor:
    """Returns the index of the largest value along `axis`, by default the last axis."""
    return ops.argmax(x, axis)


def concatenate(tensors: Sequence[Any], axis: int = -1) -> Tensor:
    """Concatenates tensors along `axis`, by default the last axis."""
    return ops.concatenate(tensors, axis)


def expand_dims(x: Any, axis: int = -1) -> Tensor:
    """Adds an axis of size 1, by default as the last one."""
    return ops.expand_dims(x, axis)


def repeat_elements(x: Any, rep: int, axis: int) -> Tensor:
    """Repeats each element along `axis` `rep` times."""
    return ops.repeat(x, rep, axis)


def flatten(x: Any) -> Tensor:
    """Returns the flattened tensor."""
    return ops.reshape(x, (-1,))


def batch_flatten(x: Any) -> Tensor:
    """Flattens all axes but the first: (batch, ...) to (batch, values)."""
    sizes = [size for size in x.shape[1:] if size is not None]
    known = is_symbolic(x) and len(sizes) == len(x.shape) - 1
    return ops.reshape(x, (-1, int(np.prod(sizes))) if known else (ops.shape(x)[0], -1))


def random_normal(
    shape: Sequence[int], mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, seed: Any = None
) -> Tensor:
    """Returns normal numbers; see `random.normal`."""
    return random.normal(shape, mean, stddev, dtype, seed)


def random_uniform(
    shape: Sequence[int], minval: float = 0.0, maxval: float = 1.0, dtype: Any = None, seed: Any = None
) -> Tensor:
    """Returns uniform numbers; see `random.uniform`."""
    return random.uniform(shape, minval, maxval, dtype, seed)


def set_value(x: Any, value: Any) -> None:
    """Sets a variable, such as `model.optimizer.learning_rate`.

    Raises: TypeError: if `x` is not a variable.
    """
    if isinstance(x, Tensor) and not hasattr(x, "assign"):
        with torch.no_grad():
            x.copy_(torch.as_tensor(value))
    elif hasattr(x, "assign"):
        x.assign(value)
    else:
        raise TypeError(f"set_value() needs a variable or a tensor; got {x!r}. Assign the attribute itself instead.")
