"""Sums and means of values, and means of functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kstyle_torch import losses
from kstyle_torch.initializers import as_dtype
from kstyle_torch.losses.base import apply_mask, same_rank
from kstyle_torch.metrics.base import Metric, registry
from kstyle_torch.ops.operation import as_tensor
from kstyle_torch.serialization import deserialize_keras_object

Reduce = Callable[..., Tensor]
FUNCTIONS: dict[str, Callable[..., Tensor]] = {}  # functions of this package, by their names in configs


@registry.register()
class Sum(Metric):
    """The weighted sum of all values.

    Args:
        name: The key in logs and history.
        dtype: Dtype of the state.

    Example:
        >>> total = Sum()
        >>> total.update_state([1.0, 3.0, 5.0], sample_weight=[1, 1, 0])
        >>> float(total.result())
        4.0
    """

    rowwise = True

    def __init__(self, name: str | None = "sum", dtype: Any = None):
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_variable((), "zeros", self.dtype, name="total")

    @torch.no_grad()
    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Adds values; see `Mean.update_state`."""
        values, _ = of_samples(values, sample_weight, torch.sum, as_dtype(self.dtype))
        self.total.assign_add(values.sum())

    def result(self) -> Tensor:
        """Returns the sum so far."""
        return self.total.value


@registry.register()
class Mean(Metric):
    """The weighted mean of all values.

    Args:
        name: The key in logs and history.
        dtype: Dtype of the state.

    Example:
        >>> mean = Mean()
        >>> mean.update_state([1.0, 3.0, 5.0])
        >>> float(mean.result())
        3.0
    """

    rowwise = True

    def __init__(self, name: str | None = "mean", dtype: Any = None):
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_variable((), "zeros", self.dtype, name="total")
        self.count = self.add_variable((), "zeros", self.dtype, name="count")

    @torch.no_grad()
    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Adds values.

        Args:
            values: (batch, ...), or a scalar.
            sample_weight: Weights of the samples, (batch,), of more of the leading axes, or one for all.
        Raises: ValueError: if the weights do not fit the values.
        """
        values, weight = of_samples(values, sample_weight, torch.mean, as_dtype(self.dtype))
        self.total.assign_add(values.sum() if values.ndim else values)  # scalars need no sum
        if weight is None:  # filled on the device, since a number would have to be copied there
            self.count.assign_add(values.new_full((), values.shape[0] if values.ndim else 1))
        else:
            self.count.assign_add(weight.sum() if weight.ndim else weight)

    def result(self) -> Tensor:
        """Returns the mean so far; 0 before the first value."""
        total, count = self.total.value, self.count.value
        total = total if total.device == count.device else total.to(count.device)
        return (total / count).masked_fill_(count == 0, 0.0)


@registry.register()
class MeanMetricWrapper(Mean):
    """The mean of a function `(y_true, y_pred) -> values`.

    Args:
        fn: The function; further keyword arguments are passed to it.
        name: The key in logs and history.
        dtype: Dtype of the state.

    Example:
        >>> metric = MeanMetricWrapper(lambda y_true, y_pred: (y_true - y_pred).abs(), name="gap")
        >>> float(metric(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0])))
        1.0
    """

    rowwise = True
    _fn: Callable[..., Tensor]
    _fn_kwargs: dict[str, Any]

    def __init__(self, fn: Callable[..., Tensor], name: str | None = None, dtype: Any = None, **kwargs: Any):
        super().__init__(name=name, dtype=dtype)
        object.__setattr__(self, "_fn", fn)  # bypasses the search of attributes for state, since a function holds none
        object.__setattr__(self, "_fn_kwargs", kwargs)
        by_row = getattr(fn, "rowwise", False) and not _joins_rows(kwargs.get("axis", -1))
        self.rowwise = type(self).rowwise and by_row

    @torch.no_grad()
    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:  # type: ignore[override]
        """Updates the state with a batch.

        Args:
            y_true: Targets.
            y_pred: Predictions; values that are masked (`_keras_mask`) do not count.
            sample_weight: As for `Mean`.
        """
        mask = getattr(y_pred, "_keras_mask", None)
        y_true, y_pred = pair(y_true, y_pred)
        values = self._fn(y_true, y_pred, **self._fn_kwargs)
        if mask is not None:
            weight = None if sample_weight is None else as_tensor(sample_weight).to(y_pred.device)
            sample_weight = apply_mask(weight, mask, torch.float32, rescale=False)
        super().update_state(values, sample_weight)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments as plain data."""
        config = super().get_config()
        if isinstance(config.get("fn"), str):
            config["fn"] = {
                "module": "builtins",
                "class_name": "function",
                "config": config["fn"],
                "registered_name": "function",
            }
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Returns a metric for a `get_config` dict."""
        return super().from_config({**config, "fn": _function(config["fn"])} if "fn" in config else config)


def _function(config: Any) -> Any:
    name = config.get("config") if isinstance(config, dict) else config
    if isinstance(name, str) and name in FUNCTIONS:
        return FUNCTIONS[name]
    return losses.get(name) if isinstance(config, str) else deserialize_keras_object(config)


def _joins_rows(axis: Any) -> bool:
    """Returns whether a function's axis may be that of the samples."""
    return any(number != -1 and number < 1 for number in (axis if isinstance(axis, (list, tuple)) else [axis]))


def pair(y_true: Any, y_pred: Any) -> tuple[Tensor, Tensor]:
    """Returns both as tensors on the predictions' device."""
    y_pred = as_tensor(y_pred).detach()
    return as_tensor(y_true, device=y_pred.device).to(y_pred.device), y_pred


def aligned(y_true: Any, y_pred: Any, name: str) -> tuple[Tensor, Tensor]:
    """Returns both as tensors of the same shape on one device; one may have an additional last axis of size 1.

    Raises: ValueError: if the shapes differ by more; torch would broadcast.
    """
    y_true, y_pred = same_rank(*pair(y_true, y_pred))
    if y_true.shape != y_pred.shape:
        shapes = f"targets of shape {tuple(y_true.shape)} do not fit predictions of shape {tuple(y_pred.shape)}"
        raise ValueError(f"Metric {name!r}: {shapes}.")
    return y_true, y_pred


def largest(values: Tensor, axis: int = -1) -> Tensor:
    """Returns the index of the largest value along an axis."""
    return (values.to(torch.uint8) if values.dtype is torch.bool else values).argmax(axis)


def of_samples(values: Any, weight: Any, reduce: Reduce, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """Returns the weighted values and the weights, reduced to the axes that the weights have.

    Args:
        values: (batch, ...), or a scalar.
        weight: Weights of some leading axes; None for no weights.
        reduce: `torch.mean` or `torch.sum`, for the axes after the first.
        dtype: Dtype of both results.
    Raises: ValueError: if the weights do not fit the values.
    """
    mask = getattr(values, "_keras_mask", None)
    values = as_tensor(values).detach().to(dtype)
    if weight is not None:
        weight = as_tensor(weight, device=values.device).to(values.device, dtype)
        weight = apply_mask(weight, mask, dtype, rescale=False)
        values, weight = same_rank(values, weight)
        num_axes = weight.ndim
        if values.ndim > num_axes:
            values = reduce(values, tuple(range(num_axes, values.ndim)))
        weight = fitting(weight, values)
        values = values * weight
        if num_axes > 1:
            weight = reduce(weight, tuple(range(1, num_axes)))
    if values.ndim > 1:
        values = reduce(values, tuple(range(1, values.ndim)))
    return values, weight


def fitting(weight: Tensor, values: Tensor) -> Tensor:
    """Broadcasts the weights to the shape of the values.

    Raises: ValueError: if they do not fit.
    """
    try:
        return weight.broadcast_to(values.shape)
    except RuntimeError:
        raise ValueError(
            f"sample_weight of shape {tuple(weight.shape)} does not fit values of shape {tuple(values.shape)}; pass one "
            "weight for each sample."
        ) from None
