"""`keras.backend`: facts about the process, and the functions over tensors that older programs call by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kstyle_torch import ops, random
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
    relu,
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
from kstyle_torch.symbolic.tensor import is_symbolic
from kstyle_torch.symbolic.tensor import is_symbolic as is_keras_tensor
from kstyle_torch.utils import clear_session
from kstyle_torch.variables import Variable

__all__ = [
    "Variable",
    "abs",
    "all",
    "any",
    "argmax",
    "argmin",
    "backend",
    "batch_flatten",
    "cast",
    "clear_session",
    "clip",
    "concatenate",
    "constant",
    "cos",
    "dot",
    "epsilon",
    "equal",
    "exp",
    "expand_dims",
    "eye",
    "flatten",
    "floatx",
    "get_value",
    "greater",
    "greater_equal",
    "image_data_format",
    "int_shape",
    "is_keras_tensor",
    "less",
    "less_equal",
    "log",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "ndim",
    "not_equal",
    "ones",
    "ones_like",
    "permute_dimensions",
    "pow",
    "prod",
    "random_normal",
    "random_uniform",
    "relu",
    "repeat_elements",
    "reshape",
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
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "standardize_dtype",
    "std",
    "sum",
    "tanh",
    "transpose",
    "var",
    "variable",
    "zeros",
    "zeros_like",
]

shape, dot, pow, permute_dimensions = ops.shape, ops.dot, ops.power, ops.transpose
constant, variable = ops.convert_to_tensor, Variable


def int_shape(x: Any) -> tuple[int | None, ...]:
    """Returns the sizes of the axes, with None for those that are not known.

    Example:
        >>> int_shape(Input((3,)))
        (None, 3)
    """
    return tuple(x.shape)


def ndim(x: Any) -> int:
    """Returns how many axes `x` has."""
    return len(x.shape)


def argmax(x: Any, axis: int = -1) -> Tensor:
    """Returns where the largest value along `axis` is; here the last axis if none is named."""
    return ops.argmax(x, axis)


def concatenate(tensors: Sequence[Any], axis: int = -1) -> Tensor:
    """Returns the tensors joined along `axis`; here the last axis if none is named."""
    return ops.concatenate(tensors, axis)


def expand_dims(x: Any, axis: int = -1) -> Tensor:
    """Returns `x` with a new axis of size 1; here a last one if no place is named."""
    return ops.expand_dims(x, axis)


def repeat_elements(x: Any, rep: int, axis: int) -> Tensor:
    """Returns every element along `axis`, `rep` times."""
    return ops.repeat(x, rep, axis)


def flatten(x: Any) -> Tensor:
    """Returns all values in one axis."""
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


def get_value(x: Any) -> Any:
    """Returns the value of a variable or tensor as an array; a number stays one."""
    return x if isinstance(x, (int, float)) else np.asarray(ops.convert_to_numpy(x))


def set_value(x: Any, value: Any) -> None:
    """Sets a variable, such as `model.optimizer.learning_rate`.

    Raises: TypeError: if `x` is no variable.
    """
    if isinstance(x, Tensor) and not hasattr(x, "assign"):
        with torch.no_grad():
            x.copy_(torch.as_tensor(value))
    elif hasattr(x, "assign"):
        x.assign(value)
    else:
        raise TypeError(f"set_value() needs a variable or a tensor; got {x!r}. Assign the attribute itself instead.")
