"""Functions of tensors and variables that programs for Keras 2 call through `keras.backend`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kstyle_torch import activations, config, ops, random, tree
from kstyle_torch.models import Model
from kstyle_torch.ops import (
    arange,
    categorical_crossentropy,
    cumprod,
    cumsum,
    elu,
    logsumexp,
    softsign,
    sparse_categorical_crossentropy,
    tile,
)
from kstyle_torch.ops import binary_crossentropy as binary_crossentropy
from kstyle_torch.ops import dtype as dtype
from kstyle_torch.ops import flip as reverse
from kstyle_torch.ops import is_tensor as is_tensor
from kstyle_torch.scopes import name_scope
from kstyle_torch.symbolic.tensor import KerasTensor, any_symbolic

__all__ = [
    "arange",
    "batch_get_value",
    "batch_normalization",
    "batch_set_value",
    "bias_add",
    "binary_crossentropy",
    "cast_to_floatx",
    "categorical_crossentropy",
    "conv1d",
    "conv2d",
    "conv3d",
    "count_params",
    "ctc_batch_cost",
    "ctc_decode",
    "cumprod",
    "cumsum",
    "dropout",
    "dtype",
    "elu",
    "eval",
    "foldl",
    "foldr",
    "function",
    "gather",
    "get_value",
    "gradients",
    "hard_sigmoid",
    "image_dim_ordering",
    "in_top_k",
    "is_tensor",
    "l2_normalize",
    "learning_phase",
    "logsumexp",
    "map_fn",
    "moving_average_update",
    "name_scope",
    "one_hot",
    "placeholder",
    "pool2d",
    "pool3d",
    "random_bernoulli",
    "relu",
    "repeat",
    "reverse",
    "softsign",
    "sparse_categorical_crossentropy",
    "spatial_2d_padding",
    "stop_gradient",
    "switch",
    "temporal_padding",
    "tile",
    "truncated_normal",
    "update",
    "update_add",
    "update_sub",
]


class LearningPhase:
    """An input of `function` whose value determines whether the model runs in training mode."""


LEARNING_PHASE = LearningPhase()


def learning_phase() -> LearningPhase:
    """Returns the input of `function` for the mode: 1 for training, 0 for inference."""
    return LEARNING_PHASE


def function(inputs: Any, outputs: Any, updates: Any = None, name: str | None = None) -> Callable[[Any], Any]:
    """Returns a function of arrays that computes tensors of a graph.

    Args:
        inputs: Symbolic tensors, such as `model.input`, and `learning_phase()`.
        outputs: Symbolic tensors that depend on these only, such as `model.layers[1].output`.
        updates: Must be empty, since graphs have no assignments.
        name: Name of the model behind it.
    Returns: A function of a list of arrays, one for each input, that returns arrays in the form of `outputs`; in inference
        mode unless a learning phase of 1 is among the inputs.
    Raises: ValueError: if there are updates.
    """
    if updates:
        raise ValueError("function() cannot assign to variables; assign to them after it was called.")
    listed = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
    model = Model([each for each in listed if each is not LEARNING_PHASE], outputs, name=name)

    def run(values: Any) -> Any:
        given = list(values) if isinstance(inputs, (list, tuple)) else [values]
        if len(given) != len(listed):
            raise ValueError(f"The function takes {len(listed)} values; got {len(given)}.")
        pairs = list(zip(listed, given, strict=True))
        training = any(bool(value) for each, value in pairs if each is LEARNING_PHASE)
        arrays = [np.asarray(value) for each, value in pairs if each is not LEARNING_PHASE]
        with torch.no_grad():
            results = model(arrays, training=training)
        return tree.map_structure(ops.convert_to_numpy, results)

    return run


def gradients(loss: Any, variables: Any) -> list[Tensor | None]:
    """Returns the gradients of a tensor with respect to some variables or tensors.

    Raises: TypeError: for symbolic tensors, which have no values yet.
    """
    listed = list(variables) if isinstance(variables, (list, tuple)) else [variables]
    if any_symbolic(loss, listed):
        raise TypeError(
            "gradients() needs tensors with values, not symbolic ones. Call the model on a tensor with requires_grad=True, and "
            "pass its output and that tensor."
        )
    tensors = [each.value if hasattr(each, "assign") else each for each in listed]
    return list(torch.autograd.grad(ops.sum(loss), tensors, allow_unused=True, retain_graph=True))


def placeholder(
    shape: Sequence[int | None] | None = None,
    ndim: int | None = None,
    dtype: Any = None,
    sparse: bool = False,
    name: str | None = None,
) -> KerasTensor:
    """Returns a symbolic tensor with a shape or a number of axes.

    It cannot be an input of a model; use `Input` for that.
    """
    if shape is None and ndim is None:
        raise ValueError("placeholder() needs a shape or a number of axes (ndim).")
    sizes = (None,) * int(ndim or 0) if shape is None else tuple(shape)
    return KerasTensor(sizes, config.floatx() if dtype is None else dtype, sparse=sparse, name=name)


def image_dim_ordering() -> str:
    """Returns `"tf"` for channels_last, else `"th"`: the names of Keras 1 for `image_data_format`."""
    return "tf" if config.image_data_format() == "channels_last" else "th"


# -------------------------------------------------------------------------------------------------------- variables


def get_value(x: Any) -> Any:
    """Returns the value of a variable or tensor as an array; a number is returned unchanged."""
    return x if isinstance(x, (int, float)) else np.asarray(ops.convert_to_numpy(x))


eval = get_value  # even older name


def batch_get_value(tensors: Sequence[Any]) -> list[Any]:
    """Returns the values of several variables as arrays."""
    return [get_value(each) for each in tensors]


def batch_set_value(tuples: Sequence[tuple[Any, Any]]) -> None:
    """Sets several variables, given as pairs of a variable and a value."""
    for variable, value in tuples:
        variable.assign(value)


def update(x: Any, new_x: Any) -> Any:
    """Sets a variable."""
    return x.assign(new_x)


def update_add(x: Any, increment: Any) -> Any:
    """Adds to a variable."""
    return x.assign_add(increment)


def update_sub(x: Any, decrement: Any) -> Any:
    """Subtracts from a variable."""
    return x.assign_sub(decrement)


def moving_average_update(x: Any, value: Any, momentum: float) -> Any:
    """Updates a moving average: `momentum * variable + (1 - momentum) * value`."""
    return x.assign(x * momentum + ops.convert_to_tensor(value) * (1.0 - momentum))


def count_params(x: Any) -> int:
    """Returns the number of elements of a variable or tensor."""
    return int(np.prod(x.shape))


# ---------------------------------------------------------------------------------------------------------- tensors


def cast_to_floatx(x: Any) -> Any:
    """Casts a tensor or array to `floatx()`."""
    if isinstance(x, Tensor) or any_symbolic(x) or hasattr(x, "assign"):
        return ops.cast(x, config.floatx())
    return np.asarray(x, dtype=config.floatx())


def gather(reference: Any, indices: Any) -> Tensor:
    """Returns the rows of `reference` at some indices."""
    return ops.take(reference, indices, axis=0)


def one_hot(indices: Any, num_classes: int) -> Tensor:
    """Returns one-hot vectors along a new last axis."""
    return ops.one_hot(indices, num_classes)


def repeat(x: Any, n: int) -> Tensor:
    """Repeats each row of a matrix `n` times: (batch, values) to (batch, n, values)."""
    return ops.repeat(ops.expand_dims(x, 1), n, axis=1)


def stop_gradient(variables: Any) -> Any:
    """Returns tensors, or a list of them, without gradients."""
    return tree.map_structure(ops.stop_gradient, variables)


def l2_normalize(x: Any, axis: int | None = None) -> Tensor:
    """Returns vectors of length 1: along an axis, or of all elements."""
    x = ops.convert_to_tensor(x)
    length = ops.sum(ops.square(x), axis=axis, keepdims=True)
    return x * ops.rsqrt(ops.maximum(length, 1e-12))


def relu(x: Any, alpha: float = 0.0, max_value: float | None = None, threshold: float = 0.0) -> Tensor:
    """Returns `max(x, 0)`, or a leaky, capped or shifted one; see `activations.relu`."""
    return activations.relu(x, alpha, max_value, threshold)


def hard_sigmoid(x: Any) -> Tensor:
    """Returns `clip(0.2 * x + 0.5, 0, 1)`, Keras 2's definition, which differs from that of `activations`."""
    return ops.clip(0.2 * x + 0.5, 0.0, 1.0)


def in_top_k(predictions: Any, targets: Any, k: int) -> Tensor:
    """Returns whether each target is among the `k` largest predictions."""
    return ops.in_top_k(targets, predictions, k)


def switch(condition: Any, then_expression: Any, else_expression: Any) -> Any:
    """Selects one of two tensors, or of their elements; functions that return tensors are called."""
    then, other = (each() if callable(each) else each for each in (then_expression, else_expression))
    if len(condition.shape) and len(then.shape) > len(condition.shape):
        more = len(then.shape) - len(condition.shape)
        condition = ops.reshape(condition, (*ops.shape(condition), *[1] * more))
    return ops.where(ops.cast(condition, "bool"), then, other)


def map_fn(fn: Callable[..., Any], elems: Any, name: str | None = None, dtype: Any = None) -> Any:  # noqa: ARG001
    """Returns the stacked results of a function for each row."""
    results = ops.map(fn, elems)
    return results if dtype is None else ops.cast(results, dtype)


def foldl(fn: Callable[..., Any], elems: Any, initializer: Any = None, name: str | None = None) -> Any:  # noqa: ARG001
    """Combines the rows from the first to the last: `fn(so_far, row)`."""
    rows = list(ops.unstack(elems))
    result = rows.pop(0) if initializer is None else initializer
    for row in rows:
        result = fn(result, row)
    return result


def foldr(fn: Callable[..., Any], elems: Any, initializer: Any = None, name: str | None = None) -> Any:  # noqa: ARG001
    """Combines the rows from the last to the first: `fn(so_far, row)`."""
    return foldl(fn, ops.flip(elems, 0), initializer)


def dropout(x: Any, level: float, noise_shape: Any = None, seed: Any = None) -> Tensor:
    """Sets a random share of the elements to 0, and scales up the others."""
    return random.dropout(x, level, noise_shape, seed)


def random_bernoulli(shape: Sequence[int], p: float = 0.0, dtype: Any = None, seed: Any = None) -> Tensor:
    """Returns ones with the probability `p`, else zeros."""
    return ops.cast(random.uniform(shape, seed=seed) <= p, dtype or config.floatx())


def truncated_normal(
    shape: Sequence[int], mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, seed: Any = None
) -> Tensor:
    """Returns normal numbers within two standard deviations; see `random.truncated_normal`."""
    return random.truncated_normal(shape, mean, stddev, dtype, seed)


# ------------------------------------------------------------------------------------------------------------ layers


def batch_normalization(
    x: Any, mean: Any, var: Any, beta: Any, gamma: Any, axis: int = -1, epsilon: float = 1e-3
) -> Tensor:
    """Returns `gamma * (x - mean) / sqrt(var + epsilon) + beta`."""
    return ops.batch_normalization(x, mean, var, axis, offset=beta, scale=gamma, epsilon=epsilon)


def bias_add(x: Any, bias: Any, data_format: str | None = None) -> Tensor:
    """Adds a bias to the channels."""
    if (data_format or config.image_data_format()) == "channels_first" and len(x.shape) > 2:
        bias = ops.reshape(bias, (-1, *[1] * (len(x.shape) - 2)))
    return ops.add(x, bias)


def conv1d(
    x: Any,
    kernel: Any,
    strides: int = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: int = 1,
) -> Tensor:
    """Returns a convolution over steps; see `ops.conv`, as for the next two."""
    return ops.conv(x, kernel, strides, padding, data_format, dilation_rate)


def conv2d(
    x: Any,
    kernel: Any,
    strides: Any = (1, 1),
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = (1, 1),
) -> Tensor:
    """Returns a convolution over images."""
    return ops.conv(x, kernel, strides, padding, data_format, dilation_rate)


def conv3d(
    x: Any,
    kernel: Any,
    strides: Any = (1, 1, 1),
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = (1, 1, 1),
) -> Tensor:
    """Returns a convolution over volumes."""
    return ops.conv(x, kernel, strides, padding, data_format, dilation_rate)


def pool2d(
    x: Any,
    pool_size: Any,
    strides: Any = (1, 1),
    padding: str = "valid",
    data_format: str | None = None,
    pool_mode: str = "max",
) -> Tensor:
    """Returns the largest values of windows, or with `pool_mode="avg"` their means."""
    if pool_mode not in ("max", "avg"):
        raise ValueError(f"pool_mode must be 'max' or 'avg'; got {pool_mode!r}.")
    pool = ops.max_pool if pool_mode == "max" else ops.average_pool
    return pool(x, pool_size, strides, padding, data_format)


def pool3d(
    x: Any,
    pool_size: Any,
    strides: Any = (1, 1, 1),
    padding: str = "valid",
    data_format: str | None = None,
    pool_mode: str = "max",
) -> Tensor:
    """Returns the same as `pool2d`, for volumes."""
    return pool2d(x, pool_size, strides, padding, data_format, pool_mode)


def temporal_padding(x: Any, padding: Sequence[int] = (1, 1)) -> Tensor:
    """Pads steps with zeros."""
    return ops.pad(x, ((0, 0), tuple(padding), (0, 0)))


def spatial_2d_padding(x: Any, padding: Any = ((1, 1), (1, 1)), data_format: str | None = None) -> Tensor:
    """Pads images with zeros."""
    sides = [tuple(side) for side in padding]
    first = (data_format or config.image_data_format()) == "channels_first"
    return ops.pad(x, ((0, 0), (0, 0), *sides) if first else ((0, 0), *sides, (0, 0)))


# --------------------------------------------------------------------------------------------------------------- CTC


def ctc_batch_cost(y_true: Any, y_pred: Any, input_length: Any, label_length: Any) -> Tensor:
    """Returns the CTC loss of each sequence, (batch, 1). The last class is the blank.

    Args:
        y_true: Labels, (batch, length).
        y_pred: Probabilities, (batch, time, classes).
        input_length: Length of each prediction, (batch, 1).
        label_length: Length of each label, (batch, 1).
    """
    targets, times = (ops.reshape(ops.cast(each, "int32"), (-1,)) for each in (label_length, input_length))
    logits = ops.log(ops.convert_to_tensor(y_pred) + config.epsilon())
    loss = ops.ctc_loss(ops.cast(y_true, "int32"), logits, targets, times, int(logits.shape[-1]) - 1)
    return ops.expand_dims(loss, 1)


def ctc_decode(
    y_pred: Any, input_length: Any, greedy: bool = True, beam_width: int = 100, top_paths: int = 1
) -> tuple[list[Tensor], Tensor]:
    """Returns the most probable labels, and their log probabilities. The last class is the blank.

    Args:
        y_pred: Probabilities, (batch, time, classes).
        input_length: Length of each prediction, (batch,).
        greedy: Whether to take the most probable class of each step instead of a beam search.
        beam_width: Number of sequences that the search keeps.
        top_paths: Number of sequences that it returns.
    Returns: A list of labels, (batch, time), filled with -1; and (batch, top_paths).
    """
    logits = ops.log(ops.convert_to_tensor(y_pred) + config.epsilon())
    labels, scores = ops.ctc_decode(
        logits,
        ops.cast(input_length, "int32"),
        "greedy" if greedy else "beam_search",
        beam_width,
        top_paths,
        mask_index=int(logits.shape[-1]) - 1,
    )
    return list(ops.unstack(labels)), scores
