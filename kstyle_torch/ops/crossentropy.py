"""Crossentropies without reduction, and encodings of class numbers."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kstyle_torch import config
from kstyle_torch.initializers import DType, as_dtype
from kstyle_torch.ops.operation import TensorLike, operation
from kstyle_torch.ops.safe_binary_crossentropy import crossentropy_of

__all__ = [
    "binary_crossentropy",
    "categorical_crossentropy",
    "multi_hot",
    "one_hot",
    "sparse_categorical_crossentropy",
]


@operation
def binary_crossentropy(target: TensorLike, output: TensorLike, from_logits: bool = False) -> Tensor:
    """Returns `-(y log p + (1 - y) log(1 - p))` of every value.

    Args:
        target: 0, 1 or between.
        output: Probabilities (clipped at `config.epsilon()`), or logits, of the same shape.
        from_logits: Whether `output` are logits.
    Raises: ValueError: if the shapes differ.

    Example:
        >>> ops.binary_crossentropy(torch.tensor([1.0, 0.0]), torch.tensor([0.9, 0.1]))
        tensor([0.1054, 0.1054])
    """
    _check_equal(target, output, "binary_crossentropy")
    target = target.to(output.dtype)
    if from_logits:
        return F.binary_cross_entropy_with_logits(output, target, reduction="none")
    return crossentropy_of(_clipped(output), target, "none")


@operation
def categorical_crossentropy(
    target: TensorLike, output: TensorLike, from_logits: bool = False, axis: int = -1
) -> Tensor:
    """Returns `-sum(y log p)` over the classes.

    Args:
        target: A probability for every class, such as one-hot rows.
        output: Probabilities (rescaled to sum 1, clipped at `config.epsilon()`), or logits, of the same shape.
        from_logits: Whether `output` are logits.
        axis: Axis of the classes.
    Raises: ValueError: if the shapes differ or are empty.
    """
    _check_equal(target, output, "categorical_crossentropy")
    _check_classes(output, "categorical_crossentropy")
    return -(target * _log_probabilities(output, from_logits, axis)).sum(axis)


@operation
def sparse_categorical_crossentropy(
    target: TensorLike, output: TensorLike, from_logits: bool = False, axis: int = -1
) -> Tensor:
    """Returns `-log p` of the true class.

    Args:
        target: Class numbers, with or without an axis of size 1 in place of the classes.
        output: Probabilities (rescaled to sum 1, clipped at `config.epsilon()`), or logits.
        from_logits: Whether `output` are logits.
        axis: Axis of the classes.
    Raises: ValueError: if the shapes do not fit.
    """
    target = target.long()
    _check_classes(output, "sparse_categorical_crossentropy")
    log_p = _log_probabilities(output, from_logits, axis).movedim(axis, -1)
    if target.ndim == output.ndim and target.shape[axis] == 1:
        target = target.squeeze(axis)
    if target.shape != log_p.shape[:-1]:
        raise ValueError(
            f"sparse_categorical_crossentropy: target must have the shape of output without its classes; got "
            f"{tuple(target.shape)} and {tuple(output.shape)}."
        )
    # the backward pass of torch's kernel for images fails for channels_last views
    rows = log_p.reshape(-1, log_p.shape[-1])
    return F.nll_loss(rows, target.flatten(), reduction="none").reshape(target.shape)


@operation
def one_hot(x: TensorLike, num_classes: int, axis: int = -1, dtype: DType = None, sparse: bool = False) -> Tensor:
    """Returns one-hot encodings; all 0 for values that are not valid class numbers.

    Args:
        x: Class numbers.
        num_classes: Size of the new axis.
        axis: Position of the new axis.
        dtype: `config.floatx()` if None.
        sparse: Not supported here.
    Raises: ValueError: if `sparse`.

    Example:
        >>> ops.one_hot(torch.tensor([0, 2]), 3)
        tensor([[1., 0., 0.],
                [0., 0., 1.]])
    """
    _check_dense(sparse, "one_hot")
    x = x.long()
    classes = torch.arange(num_classes, device=x.device)
    return (x.unsqueeze(-1) == classes).to(as_dtype(dtype)).movedim(-1, axis)


@operation
def multi_hot(
    inputs: TensorLike,
    num_classes: int | None = None,
    axis: int = -1,
    dtype: DType = None,
    sparse: bool = False,
    **kwargs: Any,
) -> Tensor:
    """Returns multi-hot encodings: 1 at each class number in a row, else 0.

    Args:
        inputs: Class numbers, (classes,) or (batch, classes, ...).
        num_classes: Size of the new axis.
        axis: Position of the new axis before rows are combined.
        dtype: `config.floatx()` if None.
        sparse: Not supported here.
        kwargs: `num_tokens`, an old name of `num_classes`.
    Raises: ValueError: if `num_classes` is missing, or `sparse`.

    Example:
        >>> ops.multi_hot(torch.tensor([[0, 2]]), 4)
        tensor([[1., 0., 1., 0.]])
    """
    num_classes = kwargs.pop("num_tokens", None) if num_classes is None else num_classes
    if num_classes is None or kwargs:
        raise ValueError(f"multi_hot needs num_classes, and no other keywords; got {num_classes} and {kwargs}.")
    _check_dense(sparse, "multi_hot")
    return one_hot(inputs, num_classes, axis, dtype).amax(1 if inputs.ndim > 1 else 0)


def _clipped(probabilities: Tensor) -> Tensor:
    return probabilities.clamp(config.epsilon(), 1 - config.epsilon())


def _log_probabilities(output: Tensor, from_logits: bool, axis: int) -> Tensor:
    if from_logits:
        return output.log_softmax(axis)
    return _clipped(output / output.sum(axis, keepdim=True)).log()


def _check_equal(target: Tensor, output: Tensor, name: str) -> None:
    if target.shape != output.shape:
        raise ValueError(
            f"{name}: target and output must have the same shape; got {tuple(target.shape)} and {tuple(output.shape)}."
        )


def _check_classes(output: Tensor, name: str) -> None:
    if not output.ndim:
        raise ValueError(f"{name}: output must have an axis of classes; got a scalar.")


def _check_dense(sparse: bool, name: str) -> None:
    if sparse:
        raise ValueError(f"{name}: sparse=True is not supported; the result is a dense tensor.")
