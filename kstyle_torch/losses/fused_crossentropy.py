"""Crossentropy and its gradient with respect to the logits, computed together and without autograd.

If a sigmoid or softmax is the last operation of a model, its derivative and that of the crossentropy simplify to the
difference of prediction and target, zero where Keras clips the probability. Training starts the backward pass there.
`hardtanh_backward` masks the gradient in one kernel, with bounds that reproduce the gradient of the installed torch's
`clamp`.
Source: Bridle 1990.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kstyle_torch import config
from kstyle_torch.losses.base import Loss, same_shape
from kstyle_torch.losses.probabilistic import (
    LOG_TOP,
    BinaryCrossentropy,
    CategoricalCrossentropy,
    SparseCategoricalCrossentropy,
)
from kstyle_torch.ops.safe_binary_crossentropy import crossentropy_of

Head = Callable[[Tensor, Any], tuple[Tensor, Tensor, Tensor] | None]  # y_true, y_pred -> loss, logits, gradient there


def head_of(loss: Loss) -> Head | None:
    """Returns the function that computes `loss` and the gradient of the logits; None if the loss needs autograd.

    The function returns None for predictions that it does not support, such as those of another activation.
    """
    if loss.reduction not in ("sum_over_batch_size", "mean") or loss.dtype != "float32":
        return None
    if getattr(loss, "axis", None) != -1:
        return None
    if (
        getattr(loss, "from_logits", True)
        or getattr(loss, "ignore_class", None) is not None
        or config.epsilon() != 1e-7
    ):
        return None
    if not (BOUNDS and LOG_BOUNDS):
        return None
    if type(loss) is BinaryCrossentropy:
        return functools.partial(binary, smoothing=loss.label_smoothing)
    if type(loss) is CategoricalCrossentropy:
        return functools.partial(categorical, smoothing=loss.label_smoothing)
    return sparse if type(loss) is SparseCategoricalCrossentropy else None


def binary(y_true: Tensor, y_pred: Any, smoothing: float = 0.0) -> tuple[Tensor, Tensor, Tensor] | None:
    """Computes binary crossentropy of the outputs of a sigmoid.

    Args:
        y_true: 0, 1 or between, (batch, ..., values).
        y_pred: Outputs of the sigmoid, of the same shape.
        smoothing: Share by which targets are moved towards 0.5.
    Returns: The mean loss, the logits, and their gradient.
    """
    logits = _source(y_pred, "_sigmoid_of")
    if logits is None:
        return None
    y_pred = y_pred.detach()
    y_true, shaped = same_shape(y_true, y_pred, "binary_crossentropy")
    if shaped is not y_pred:
        return None
    if smoothing:
        y_true = y_true * (1 - smoothing) + 0.5 * smoothing
    clipped = y_pred.clamp(1e-7, 1 - 1e-7)
    loss = crossentropy_of(clipped, y_true, "mean")
    gradient = clipped.sub_(y_true).mul_(1 / clipped.numel())
    return loss, logits, torch.ops.aten.hardtanh_backward(gradient, y_pred, *BOUNDS)


def sparse(y_true: Tensor, y_pred: Any) -> tuple[Tensor, Tensor, Tensor] | None:
    """Computes crossentropy of the outputs of a softmax, with class numbers as targets.

    Args:
        y_true: Class numbers, (batch, ...) or (batch, ..., 1).
        y_pred: Outputs of the softmax, (batch, ..., classes).
    Returns: The mean loss, the logits, and their gradient.
    """
    logits = _source(y_pred, "_keras_logits")
    if logits is None or y_true.dtype is not torch.int64:
        return None
    y_true = y_true.unsqueeze(-1) if y_true.ndim == y_pred.ndim - 1 else y_true
    if y_true.shape != (*y_pred.shape[:-1], 1):
        return None  # the regular loss raises the error
    chosen = logits.detach().log_softmax(-1).gather(-1, y_true)
    clipped = chosen.clamp(LOG_BOTTOM, LOG_TOP)
    inside = torch.ops.aten.hardtanh_backward(torch.full_like(chosen, 1 / chosen.numel()), chosen, *LOG_BOUNDS)
    gradient = (y_pred.detach() * inside).scatter_add_(-1, y_true, -inside)
    return -clipped.mean(), logits, gradient


def categorical(y_true: Tensor, y_pred: Any, smoothing: float = 0.0) -> tuple[Tensor, Tensor, Tensor] | None:
    """Computes crossentropy of the outputs of a softmax, with a target probability for each class.

    Args:
        y_true: Probabilities, (batch, ..., classes).
        y_pred: Outputs of the softmax, of the same shape.
        smoothing: Share by which targets are moved towards the uniform distribution.
    Returns: The mean loss, the logits, and their gradient.
    """
    logits = _source(y_pred, "_keras_logits")
    if logits is None or y_true.shape != y_pred.shape or y_pred.shape[-1] == 1:  # the regular loss warns of one class
        return None
    y_true = y_true.detach().to(y_pred.dtype)
    if smoothing:
        y_true = y_true * (1 - smoothing) + smoothing / y_true.shape[-1]
    log_p = logits.detach().log_softmax(-1)
    clipped = log_p.clamp(LOG_BOTTOM, LOG_TOP)
    rows = log_p.numel() // log_p.shape[-1]
    loss = (y_true * clipped).sum().mul_(-1 / rows)
    weight = torch.ops.aten.hardtanh_backward(y_true, log_p, *LOG_BOUNDS).mul_(1 / rows)
    return loss, logits, (y_pred.detach() * weight.sum(-1, keepdim=True)).sub_(weight)


def _source(y_pred: Any, tag: str) -> Tensor | None:
    """Returns the logits from which an activation was computed; None if the gradient cannot start there."""
    logits = getattr(y_pred, tag, None)
    usable = logits is not None and logits.requires_grad and y_pred.dtype is torch.float32
    return logits if usable and not hasattr(y_pred, "_keras_mask") else None


def clamp_bounds(low: float, high: float) -> tuple[float, ...]:
    """Returns the bounds for which `hardtanh_backward`, which excludes them, equals the backward pass of torch's `clamp`.

    At a bound itself torch 2.13 passes the gradient on and torch 2.14 does not; empty where neither holds. The node of
    `clamp` is called without the autograd engine, whose threads would prevent training in forked processes.
    """
    with torch.inference_mode(False), torch.enable_grad():
        at = torch.tensor([low, high], dtype=torch.float32, device="cpu", requires_grad=True)
        passed = at.clamp(low, high).grad_fn(torch.ones_like(at)).tolist()  # type: ignore[operator, misc]
    outwards = torch.tensor([-math.inf, math.inf], dtype=torch.float32, device="cpu")
    choices = zip(passed, at.tolist(), torch.nextafter(at.detach(), outwards).tolist())
    return tuple(beyond if share else bound for share, bound, beyond in choices) if {*passed} <= {0, 1} else ()


LOG_BOTTOM = math.log(1e-7)
BOUNDS = clamp_bounds(1e-7, 1 - 1e-7)
LOG_BOUNDS = clamp_bounds(LOG_BOTTOM, LOG_TOP)
