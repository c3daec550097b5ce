"""The base of losses: values for each sample, weighted and reduced to a scalar."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from kstyle_torch import serialization, tree
from kstyle_torch.arrays import tensor_of
from kstyle_torch.initializers import as_dtype
from kstyle_torch.ownership import is_of_package
from kstyle_torch.registry import snake_case, unique_name
from kstyle_torch.serialization import Configurable

MEANS = ("sum_over_batch_size", "mean", "mean_with_sample_weight")  # equal without weights
REDUCTIONS = (*MEANS, "sum", "none", None)
F = TypeVar("F", bound=Callable[..., Any])
registry = serialization.registry("loss", "keras.losses")


@registry.register()
class Loss(Configurable):
    """Base class of losses. Subclasses define `call(y_true, y_pred)`, which returns a value for each sample.

    Args:
        name: Name of the loss; the numbered class name if None.
        reduction: `"sum_over_batch_size"` (the same as `"mean"`: over all values), `"mean_with_sample_weight"` (over the
            sum of the weights), `"sum"`, or None (`"none"`): no reduction.
        dtype: Dtype of the loss, to which targets and predictions are cast; `config.floatx()` if None.
    Raises: ValueError: for another reduction.

    Example:
        >>> class Cubic(Loss):
        ...     def call(self, y_true, y_pred):
        ...         return (y_true - y_pred).abs() ** 3
        >>> Cubic()([0.0, 0.0], [1.0, 2.0])
        tensor(4.5000)
    """

    sparse = False  # whether the targets are class numbers, which are not cast
    makes_mask = False  # whether its values may have a mask
    rowwise = False  # whether each sample's value is independent of the rest of the batch
    _calls_as_made: tuple[Any, Any]  # original `call` and `__call__` of the class; users may replace them

    def __init__(self, name: str | None = None, reduction: str | None = "sum_over_batch_size", dtype: Any = None):
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction must be one of {', '.join(map(repr, REDUCTIONS))}; got {reduction!r}.")
        self.name = name or unique_name(snake_case(type(self).__name__))
        self.reduction = reduction
        self._dtype = as_dtype(getattr(dtype, "compute_dtype", dtype))

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if {"call", "__call__"} & vars(cls).keys():
            cls.rowwise = False  # a user's method may combine samples
        cls._calls_as_made = cls.call, cls.__call__

    @property
    def dtype(self) -> str:
        """The dtype of the loss."""
        return str(self._dtype).removeprefix("torch.")

    def call(self, y_true: Any, y_pred: Any) -> Tensor:
        """Returns the loss of each sample, before reduction."""
        raise NotImplementedError(f"{type(self).__name__} must define call(y_true, y_pred).")

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Tensor:
        """Returns the loss of a batch.

        Args:
            y_true: Targets.
            y_pred: Predictions; values that are masked (`_keras_mask`) do not count.
            sample_weight: Weight of each sample, (batch,), or of each value.
        Returns: A scalar, or the values if `reduction` is None.
        """
        mask = getattr(y_pred, "_keras_mask", None)
        if isinstance(y_pred, Tensor) and isinstance(y_true, Tensor):
            y_pred = self._prediction(y_pred)
            y_true = self._target(y_true, y_pred)
        else:
            y_pred = _each_tensor(self._prediction, y_pred)
            like = tree.flatten(y_pred)[0]
            y_true = _each_tensor(lambda leaf: self._target(leaf, like), y_true)
        values = self.call(y_true, y_pred)
        mask = _both(mask, getattr(values, "_keras_mask", None))
        if values is None:
            raise TypeError(f"Loss {self.name!r} returned None; it must return the loss of each sample.")
        values = torch.as_tensor(values).to(self._dtype)
        return reduce_weighted(values, sample_weight, mask, self.reduction)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments as plain data, without a dtype of None."""
        config = super().get_config()
        first = {name: getattr(self, name) for name in ("name", "reduction") if name in config}
        return {name: value for name, value in (first | config | first).items() if (name, value) != ("dtype", None)}

    def check_targets(self, y_true: Tensor, output: torch.Size) -> None:
        """Checks targets on the host before training, since a check in every step would be too slow.

        Args:
            y_true: All targets, or those of a batch.
            output: The shape of the output for some samples.
        Raises: ValueError: for invalid targets, such as class numbers out of range.
        """

    def _prediction(self, y_pred: Any) -> Tensor:
        given = torch.as_tensor(tensor_of(y_pred))
        if given.dtype is self._dtype:
            return given
        converted = given.to(self._dtype)
        logits = getattr(given, "_keras_logits", None)
        if logits is not None:
            converted._keras_logits = logits.to(self._dtype)  # type: ignore[attr-defined]
        return converted

    def _target(self, y_true: Any, like: Tensor) -> Tensor:
        if not isinstance(y_true, Tensor):
            y_true = torch.as_tensor(tensor_of(y_true))
        if y_true.device != like.device:
            y_true = y_true.to(like.device)
        return y_true if self.sparse or y_true.dtype is self._dtype else y_true.to(self._dtype)


CALL_LOSS = Loss.__call__
Loss._calls_as_made = Loss.call, CALL_LOSS


def is_as_made(loss: Any) -> bool:
    """Returns whether `call` and `__call__` of a loss and its class are unchanged since the class was created."""
    cls = type(loss)
    return "call" not in vars(loss) and (cls.call, cls.__call__) == cls._calls_as_made and Loss.__call__ is CALL_LOSS


@registry.register("LossFunctionWrapper")
class FunctionLoss(Loss):
    """A function `(y_true, y_pred) -> values` as a loss.

    Args:
        fn: The function; it gets further keyword arguments of the loss.
        reduction: As for every loss.
        name: That of the function if None.
        dtype: As for every loss.
    """

    def __init__(
        self,
        fn: Callable[..., Tensor],
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ):
        super().__init__(name or object_name(fn), reduction, dtype)
        self.fn, self._kwargs = fn, kwargs

    def call(self, y_true: Any, y_pred: Any) -> Tensor:
        if isinstance(y_true, Tensor) and isinstance(y_pred, Tensor):
            y_true, y_pred = same_rank(y_true, y_pred)
        return self.fn(y_true, y_pred, **self._kwargs)


class _Values:
    """A function bound to a loss's own arguments.

    Args:
        function: The function.
        arguments: The loss's own arguments, which are passed to it.
    """

    def __init__(self, function: Callable[..., Tensor], arguments: dict[str, Any]):
        self.function, self.arguments = function, arguments

    def __call__(self, y_true: Any, y_pred: Any) -> Tensor:
        if isinstance(y_true, Tensor) and isinstance(y_pred, Tensor):
            y_true, y_pred = same_rank(y_true, y_pred)
        return self.function(y_true, y_pred, **self.arguments)


class PlainLoss(Loss):
    """Base of the built-in losses, with a fast path for calls without weights and masks."""

    @property
    def fn(self) -> Callable[..., Tensor]:
        """The function of targets, predictions and the loss's arguments that returns the values; it may be replaced."""
        found = (function for function, cls in CLASS_OF.items() if isinstance(self, cls))
        function: Any = vars(self).get("fn") or next(found, None)
        if function is None:
            raise AttributeError(
                f"{type(self).__name__} has no fn, since it does not wrap a function; override call instead."
            )
        return function

    @fn.setter
    def fn(self, function: Callable[..., Tensor]) -> None:
        vars(self)["fn"] = function
        if is_of_package(type(self).call):  # a user-defined `call` may not use it
            given = {key: value for key, value in self._arguments.items() if key not in ("name", "reduction", "dtype")}
            self.call = _Values(function, given)  # type: ignore[method-assign]

    def mean(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Returns the mean over all values."""
        return self.call(y_true, y_pred).mean()

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Tensor:
        """Returns the loss of a batch; see `Loss.__call__`."""
        if (
            sample_weight is None
            and self.reduction in MEANS
            and isinstance(y_pred, Tensor)
            and y_pred.dtype is self._dtype
            and not self.makes_mask
            and not hasattr(y_pred, "_keras_mask")
            and "call" not in self.__dict__  # like `is_as_made`, inlined for speed
            and self.__class__.call is self.__class__._calls_as_made[0]
            and Loss.__call__ is CALL_LOSS
        ):
            return self.mean(self._target(y_true, y_pred), y_pred)
        return super().__call__(y_true, y_pred, sample_weight)


class KernelLoss(PlainLoss):
    """Base of the losses for which a torch kernel returns the values, or directly their mean."""

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if "call" in vars(cls):  # overridden by a user
            cls.mean = PlainLoss.mean  # type: ignore[method-assign]

    def values(self, y_true: Tensor, y_pred: Tensor, reduction: str) -> Tensor:
        """Returns one value for each sample (`reduction="none"`), or their mean (`"mean"`)."""
        raise NotImplementedError

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return self.values(y_true, y_pred, "none")

    def mean(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return self.values(y_true, y_pred, "mean")


CLASS_OF: dict[Any, type[Loss]] = {}  # function -> class that computes the same values


def same_values_as(function: Callable[..., Tensor]) -> Callable[[type], type]:
    """Returns a decorator that registers the loss class for `function`."""

    def enter(cls: type) -> type:
        CLASS_OF[function] = cls
        cls.rowwise = getattr(function, "rowwise", False)  # type: ignore[attr-defined]
        return cls

    return enter


def rowwise(function: F) -> F:
    """Marks a function whose value for each sample is independent of the rest of the batch."""
    function.rowwise = True  # type: ignore[attr-defined]
    return function


def object_name(obj: Any) -> str:
    """Returns Keras' name for an object: its `name`, or its own or its class's `__name__` in snake case."""
    name = getattr(obj, "name", None)
    return name if isinstance(name, str) else snake_case(getattr(obj, "__name__", type(obj).__name__))


def same_rank(y_true: Tensor, y_pred: Tensor) -> tuple[Tensor, Tensor]:
    """Equalizes the number of axes if one tensor has an additional last axis of size 1."""
    if y_true.ndim == y_pred.ndim + 1 and y_true.shape[-1] == 1:
        return (y_true, y_pred.unsqueeze(-1)) if y_pred.ndim == 1 else (y_true.squeeze(-1), y_pred)
    if y_pred.ndim == y_true.ndim + 1 and y_pred.shape[-1] == 1:
        return (y_true.unsqueeze(-1), y_pred) if y_true.ndim == 1 else (y_true, y_pred.squeeze(-1))
    return y_true, y_pred


def same_shape(y_true: Tensor, y_pred: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Returns both with the same shape and dtype.

    Raises: ValueError: if the shapes differ by more than a last axis of size 1.
    """
    if y_true.dtype is not y_pred.dtype:
        y_true = y_true.to(y_pred.dtype)
    if y_true.shape != y_pred.shape:
        y_true, y_pred = same_rank(y_true, y_pred)
        if y_true.shape != y_pred.shape:
            raise ValueError(mismatch(name, y_true.shape, y_pred.shape))
    return y_true, y_pred


def broadcast(y_true: Tensor, y_pred: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Returns both with the same shape and dtype, for an elementwise loss.

    Axes of size 1 are broadcast, as in Keras, with one warning for each pair of shapes, since it is nearly always a mistake.

    Raises: ValueError: if the shapes do not broadcast, or differ in the number of axes by more than a last one of size 1.
    """
    if y_true.shape != y_pred.shape:
        y_true, y_pred = same_rank(y_true, y_pred)
        sizes = zip(y_true.shape, y_pred.shape)
        if y_true.ndim == y_pred.ndim and all(1 in pair or pair[0] == pair[1] for pair in sizes):
            _warn_of_broadcast(name, y_true.shape, y_pred.shape)
            y_true, y_pred = torch.broadcast_tensors(y_true, y_pred)
    return same_shape(y_true, y_pred, name)


_told: set[tuple[Any, ...]] = set()  # losses, and shapes without the batch axis, for which the warning was given


def _warn_of_broadcast(name: str, target: torch.Size, output: torch.Size) -> None:
    if target == output:
        return
    key = name, target[1:], output[1:]
    if key not in _told:
        _told.add(key)
        warnings.warn(f"{mismatch(name, target, output)} They are broadcast.", stacklevel=2)


def mismatch(name: str, target: Any, output: Any) -> str:
    """Returns the message for a target that does not fit the output."""
    classes, hint = output[-1] if output else 1, ""
    if len(output) > 2 and tuple(target) in (tuple(output[:-1]), (*output[:-1], 1)):
        hint = f" If the targets are class numbers, pass utils.to_categorical(y, {classes})."
    elif len(output) > len(target) + 1 or (len(output) == len(target) + 1 and len(output) > 2):
        hint = " Is a Flatten() missing before the last layer?"
    elif len(output) == 2 and classes > 1 and (len(target) == 1 or target[-1] == 1):
        hint = f" Either the last layer needs 1 unit instead of {classes}, or the targets {classes} columns."
    return f"Loss {name!r}: targets of shape {tuple(target)} do not fit an output of shape {tuple(output)}.{hint}"


def reduce_weighted(values: Tensor, sample_weight: Any, mask: Tensor | None, reduction: str | None) -> Tensor:
    """Applies weights and mask to the values, and reduces them."""
    weight = None
    if sample_weight is not None:
        weight = sample_weight if isinstance(sample_weight, Tensor) else tensor_of(sample_weight)
        weight = weight.to(values.device, values.dtype)
    weight = apply_mask(weight, mask, values.dtype, rescale=reduction in ("mean", "sum_over_batch_size"))
    if weight is not None:
        values, weight = same_rank(values, weight)
        if values.ndim and weight.shape != values.shape[: weight.ndim]:
            _check_broadcast(weight.shape, values.shape)
        values = values * weight.reshape(weight.shape + (1,) * (values.ndim - weight.ndim))
    if reduction in (None, "none") or values.ndim == 0:
        return values
    if reduction == "sum":
        return values.sum()
    if reduction == "mean_with_sample_weight" and weight is not None:
        total = weight.sum()
        return torch.where(total == 0, torch.zeros_like(total), values.sum() / total.where(total != 0, 1))
    return values.mean() if values.numel() else values.sum()


def _check_broadcast(weight: torch.Size, values: torch.Size) -> None:
    if len(weight) > len(values) or any(size not in (1, wanted) for size, wanted in zip(weight, values)):
        raise ValueError(
            f"sample_weight of shape {tuple(weight)} does not fit losses of shape {tuple(values)}: pass a weight for each "
            "sample, or for each value."
        )


def apply_mask(weight: Tensor | None, mask: Any, dtype: torch.dtype, rescale: bool) -> Tensor | None:
    """Returns weights that are 0 for masked values; `rescale` multiplies the others by `all / unmasked`, for a mean."""
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
    """Returns both as tensors on one device, the predictions as floats."""
    y_pred = y_pred if isinstance(y_pred, Tensor) else tensor_of(y_pred)
    y_true = y_true if isinstance(y_true, Tensor) else tensor_of(y_true)
    y_pred = y_pred if y_pred.is_floating_point() else y_pred.to(torch.float32)
    return y_true.to(y_pred.device), y_pred


def _each_tensor(function: Callable[[Any], Tensor], nest: Any) -> Any:
    """Applies a function to every tensor of a nest; a list of numbers counts as one tensor."""
    is_nest = tree.is_nested(nest) and isinstance(tree.flatten(nest)[0], (Tensor, np.ndarray))
    return tree.map_structure(function, nest) if is_nest else function(nest)


def _both(mask: Tensor | None, other: Tensor | None) -> Tensor | None:
    if mask is None or other is None:
        return other if mask is None else mask
    mask, other = same_rank(mask, other)
    return mask & other
