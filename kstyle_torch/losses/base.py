"""The loss: values of each sample, weighted and reduced to the one number that training minimises."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from kstyle_torch import serialization
from kstyle_torch.registry import snake_case
from kstyle_torch.serialization import Configurable

REDUCTIONS = ("sum_over_batch_size", "mean", "mean_with_sample_weight", "sum", "none", None)
ELEMENTWISE = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, nn.BCELoss, nn.BCEWithLogitsLoss)
F = TypeVar("F", bound=Callable[..., Any])
registry = serialization.registry("loss", "keras.losses")


class Loss(Configurable):
    """Base class of losses. Subclass it with `call(y_true, y_pred)`, which gives a value for each sample.

    Args:
        name: What it is called.
        reduction: `"sum_over_batch_size"` (the same as `"mean"`: over all values), `"mean_with_sample_weight"` (over the
            sum of the weights), `"sum"`, or None (`"none"`): the values as they are.
        dtype: Accepted for Keras' sake; the loss has the dtype of the predictions.
    Raises: ValueError: for another reduction.
    """

    sparse = False  # whether the targets are class numbers

    def __init__(self, name: str | None = None, reduction: str | None = "sum_over_batch_size", dtype: Any = None):
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction must be one of {', '.join(map(repr, REDUCTIONS))}; got {reduction!r}.")
        self.name = name or snake_case(type(self).__name__)
        self.reduction = reduction

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The loss of each sample, not yet reduced."""
        raise NotImplementedError(f"{type(self).__name__} must define call(y_true, y_pred).")

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Tensor:
        """The loss of a batch.

        Args:
            y_true: Targets.
            y_pred: Predictions; a mask on them (`_keras_mask`) leaves out what it hides.
            sample_weight: Weight of each sample, (batch,), or of each value.
        Returns: A scalar, or the values where `reduction` is None.
        """
        y_pred = torch.as_tensor(y_pred)
        y_true = _as_target(y_true, y_pred, self.sparse)
        mask = getattr(y_pred, "_keras_mask", None)
        values = self.call(y_true, y_pred)
        mask = _both(mask, getattr(values, "_keras_mask", None))
        return reduce_weighted(values, sample_weight, mask, self.reduction)


class FunctionLoss(Loss):
    """A function `(y_true, y_pred) -> values` as a loss.

    Args:
        fn: The function; keyword arguments of the loss that it does not know itself are passed to it.
        name: That of the function if None.
        reduction: As for every loss.
    """

    def __init__(
        self,
        fn: Callable[..., Tensor],
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ):
        super().__init__(name=name or getattr(fn, "__name__", None), reduction=reduction)
        self.fn, self._kwargs = fn, kwargs

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        y_true, y_pred = same_rank(y_true, y_pred)
        return self.fn(y_true, y_pred, **self._kwargs)


class PlainLoss(Loss):
    """Base of the built-in losses: torch's kernel gives the values, or their mean at once where nothing is weighted."""

    def values(self, y_true: Tensor, y_pred: Tensor, reduction: str) -> Tensor:
        """One value for each sample (`reduction="none"`), or their mean (`"mean"`)."""
        raise NotImplementedError

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return self.values(y_true, y_pred, "none")

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Tensor:
        plain = sample_weight is None and self.reduction == "sum_over_batch_size" and isinstance(y_pred, Tensor)
        if plain and not hasattr(y_pred, "_keras_mask"):
            return self.values(_as_target(y_true, y_pred, self.sparse), y_pred, "mean")
        return super().__call__(y_true, y_pred, sample_weight)


class TorchLoss(Loss):
    """A loss module of torch, which is called `(prediction, target)` and may weight and reduce by itself.

    Args:
        module: `nn.BCELoss()`, `nn.CrossEntropyLoss(weight=...)` and so on.
        name: Its class's, in snake case, if None.
    """

    def __init__(self, module: nn.Module, name: str | None = None):
        super().__init__(name=name or snake_case(type(module).__name__))
        self.module = module
        self.sparse = isinstance(module, (nn.CrossEntropyLoss, nn.NLLLoss))

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Tensor:
        """The loss of a batch; see `Loss.__call__`."""
        target = self._target(torch.as_tensor(y_true), y_pred)
        if next(self.module.buffers(), y_pred).device != y_pred.device:
            self.module.to(y_pred.device)
        if sample_weight is None:
            value = self.module(y_pred, target)
            return value if value.ndim == 0 else value.mean()
        module: Any = copy.copy(self.module)
        module.reduction = "none"
        return reduce_weighted(module(y_pred, target), sample_weight, None, self.reduction)

    def _target(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        if self.sparse and y_true.shape != y_pred.shape:
            y_true = y_true.squeeze(-1) if y_true.ndim == y_pred.ndim else y_true
            return y_true.long()
        aligned, shaped = same_rank(y_true, y_pred)
        if aligned.shape == shaped.shape:
            return y_true.reshape(y_pred.shape).to(y_pred.dtype)
        if isinstance(self.module, ELEMENTWISE):  # torch would broadcast
            raise ValueError(mismatch(self.name, y_true.shape, y_pred.shape))
        return y_true


def to_loss(identifier: Any, name: str | None = None) -> Loss:
    """The loss object that `compile(loss=...)` means.

    Raises: ValueError: for an unknown name. TypeError: for what is no loss.
    """
    if isinstance(identifier, Loss):
        return identifier
    if isinstance(identifier, type) and issubclass(identifier, nn.Module):
        identifier = identifier()
    if isinstance(identifier, nn.Module):
        return TorchLoss(identifier)
    found = serialization.get(identifier, registry)
    if isinstance(found, Loss):
        return found
    name = identifier if isinstance(identifier, str) else name
    if found in CLASS_OF:
        return CLASS_OF[found](name=name or found.__name__)
    return FunctionLoss(found, name=name)


CLASS_OF: dict[Any, type[PlainLoss]] = {}  # function -> the class with the same values


def same_values_as(function: Callable[..., Tensor]) -> Callable[[type], type]:
    """Decorator: the loss class that computes what `function` does."""

    def enter(cls: type) -> type:
        CLASS_OF[function] = cls
        return cls

    return enter


def rowwise(function: F) -> F:
    """Decorator: says that a function gives each sample a value of its own, whatever else is in the batch."""
    function.rowwise = True  # type: ignore[attr-defined]
    return function


def same_rank(y_true: Tensor, y_pred: Tensor) -> tuple[Tensor, Tensor]:
    """Both with as many axes, where one has a last axis of size 1 that the other lacks."""
    if y_true.ndim == y_pred.ndim + 1 and y_true.shape[-1] == 1:
        return (y_true, y_pred.unsqueeze(-1)) if y_pred.ndim == 1 else (y_true.squeeze(-1), y_pred)
    if y_pred.ndim == y_true.ndim + 1 and y_pred.shape[-1] == 1:
        return (y_true.unsqueeze(-1), y_pred) if y_true.ndim == 1 else (y_true, y_pred.squeeze(-1))
    return y_true, y_pred


def same_shape(y_true: Tensor, y_pred: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Both with one shape and dtype.

    Raises: ValueError: if the shapes differ by more than a last axis of size 1.
    """
    if y_true.dtype is not y_pred.dtype:
        y_true = y_true.to(y_pred.dtype)
    if y_true.shape != y_pred.shape:
        y_true, y_pred = same_rank(y_true, y_pred)
        if y_true.shape != y_pred.shape:
            raise ValueError(mismatch(name, y_true.shape, y_pred.shape))
    return y_true, y_pred


def mismatch(name: str, target: Any, output: Any) -> str:
    """What to say of a target that does not fit the output."""
    hint = ""
    if len(output) > len(target) + 1 or (len(output) == len(target) + 1 and len(output) > 2):
        hint = " Is a Flatten() missing before the last layer?"
    elif len(output) == 2 and output[-1] > 1 and (len(target) == 1 or target[-1] == 1):
        hint = f" Either the last layer needs 1 unit instead of {output[-1]}, or the targets {output[-1]} columns."
    return f"Loss {name!r}: targets of shape {tuple(target)} do not fit an output of shape {tuple(output)}.{hint}"


def reduce_weighted(values: Tensor, sample_weight: Any, mask: Tensor | None, reduction: str | None) -> Tensor:
    """The values, times weights and mask, reduced."""
    weight = None if sample_weight is None else _as_target(sample_weight, values, False).to(values.dtype)
    weight = apply_mask(weight, mask, values.dtype, rescale=reduction in ("mean", "sum_over_batch_size"))
    if weight is not None:
        values, weight = same_rank(values, weight)
        values = values * weight.reshape(weight.shape + (1,) * (values.ndim - weight.ndim))
    if reduction in (None, "none") or values.ndim == 0:
        return values
    if reduction == "sum":
        return values.sum()
    if reduction == "mean_with_sample_weight" and weight is not None:
        total = weight.sum()
        return torch.where(total == 0, torch.zeros_like(total), values.sum() / total.where(total != 0, 1))
    return values.mean() if values.numel() else values.sum()


def apply_mask(weight: Tensor | None, mask: Any, dtype: torch.dtype, rescale: bool) -> Tensor | None:
    """Weights that are 0 where the mask is; the others grow by `all / unmasked` if a mean follows (`rescale`)."""
    if mask is None:
        return weight
    kept = mask.to(dtype)
    if rescale:
        valid = kept.sum()
        kept = kept * torch.where(valid > 0, mask.numel() / valid.clamp(min=1), 0)
    if weight is None:
        return kept
    kept, weight = same_rank(kept, weight)
    return weight.reshape(weight.shape + (1,) * (kept.ndim - weight.ndim)) * kept


def tensors(y_true: Any, y_pred: Any) -> tuple[Tensor, Tensor]:
    """Both as tensors on one device, the predictions of a float type."""
    y_pred = torch.as_tensor(y_pred)
    y_pred = y_pred if y_pred.is_floating_point() else y_pred.to(torch.float32)
    return torch.as_tensor(y_true).to(y_pred.device), y_pred


def _as_target(y_true: Any, like: Tensor, sparse: bool) -> Tensor:
    if not isinstance(y_true, Tensor):
        y_true = torch.as_tensor(y_true)
    if y_true.device != like.device:
        y_true = y_true.to(like.device)
    return y_true if sparse or y_true.dtype is like.dtype else y_true.to(like.dtype)


def _both(mask: Tensor | None, other: Tensor | None) -> Tensor | None:
    if mask is None or other is None:
        return other if mask is None else mask
    mask, other = same_rank(mask, other)
    return mask & other
