"""The metric: state on the device, updated by batches, read when somebody looks."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kstyle_torch import serialization
from kstyle_torch.initializers import DType
from kstyle_torch.losses.base import apply_mask, same_rank
from kstyle_torch.registry import did_you_mean, snake_case, unique_name
from kstyle_torch.serialization import Configurable
from kstyle_torch.variables import Variable

registry = serialization.registry("metric", "keras.metrics")


class Metric(Configurable):
    """Base class of metrics. Subclass it with `update_state` and `result`, over variables of `add_variable`.

    Args:
        name: The key in logs and history; made from the class if None.
        dtype: Of the state; `config.floatx()` if None.
    Example:
        >>> class Largest(Metric):
        ...     def __init__(self, name="largest"):
        ...         super().__init__(name)
        ...         self.largest = self.add_variable(name="largest")
        ...     def update_state(self, y_true, y_pred, sample_weight=None):
        ...         self.largest.assign(torch.maximum(self.largest, y_pred.max()))
        ...     def result(self):
        ...         return self.largest.value
        >>> metric = Largest()
        >>> float(metric(torch.zeros(2), torch.tensor([1.0, 3.0])))
        3.0
    """

    _variables: list[tuple[Variable, Any]]
    direction: str | None = None  # "up" or "down": where better is
    rowwise = False  # whether several batches may be joined to one before update_state

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        self = super().__new__(cls, *args, **kwargs)
        self.__dict__["_variables"] = []
        return self

    def __init__(self, name: str | None = None, dtype: DType = None):
        self.name = name or unique_name(snake_case(type(self).__name__))
        self._dtype = dtype

    @property
    def dtype(self) -> DType:
        """The dtype given, or None."""
        return self._dtype

    def add_variable(
        self,
        shape: tuple[int, ...] = (),
        initializer: Any = "zeros",
        dtype: DType = None,
        aggregation: Any = None,
        name: str | None = None,
    ) -> Variable:
        """Makes a piece of state, which `reset_state` sets back to what the initializer gives."""
        variable = Variable(initializer, tuple(shape), dtype or self._dtype, trainable=False, name=name)
        self._variables.append((variable, initializer))
        return variable

    def add_weight(
        self, shape: tuple[int, ...] = (), initializer: Any = None, dtype: DType = None, name: str | None = None
    ) -> Variable:
        """The same as `add_variable`."""
        return self.add_variable(shape, initializer or "zeros", dtype, name=name)

    @property
    def variables(self) -> list[Variable]:
        """The state."""
        return [variable for variable, _ in self._variables]

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Takes a batch in."""
        raise NotImplementedError(f"{type(self).__name__} must define update_state().")

    def result(self) -> Any:
        """The value so far: a scalar tensor, or a dict of them."""
        raise NotImplementedError(f"{type(self).__name__} must define result().")

    def reset_state(self) -> None:
        """Forgets all batches."""
        for variable, initializer in self._variables:
            fresh = Variable(initializer, tuple(variable.shape), variable.dtype)
            variable.assign(fresh.value.to(variable.device))

    def to(self, device: Any) -> None:
        """Moves the state to a device."""
        for variable in self.variables:
            variable.assign(variable.value.to(device))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Takes a batch in and gives the value so far."""
        self.update_state(*args, **kwargs)
        return self.result()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"


class Mean(Metric):
    """The weighted mean of all values.

    Args:
        name: The key in logs and history.
        dtype: Of the state.
    Example:
        >>> mean = Mean()
        >>> mean.update_state([1.0, 3.0, 5.0])
        >>> float(mean.result())
        3.0
    """

    rowwise = True

    def __init__(self, name: str = "mean", dtype: DType = None):
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_variable(name="total")
        self.count = self.add_variable(name="count")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Takes values in.

        Args:
            values: (batch, ...), or a scalar.
            sample_weight: Weights, of as many leading axes as there are weights for.
        """
        with torch.no_grad():
            values = torch.as_tensor(values).detach()
            values = values if values.is_floating_point() else values.to(torch.float32)
            values, count = weighted(values, sample_weight)
            self.total.assign_add(values.sum())
            self.count.assign_add(count)

    def result(self) -> Tensor:
        """The mean so far; 0 before the first value."""
        count = self.count.value
        return torch.where(count == 0, 0, self.total.value.to(count.device) / count)

    def reset_state(self) -> None:
        """Forgets all values."""
        self.total.assign(torch.zeros_like(self.total.value))
        self.count.assign(torch.zeros_like(self.count.value))


registry.register()(Mean)


@registry.register()
class MeanMetricWrapper(Mean):
    """The mean of a function `(y_true, y_pred) -> values`.

    Args:
        fn: The function; further keyword arguments are passed to it.
        name: That of the function if None.
        dtype: Of the state.
    Example:
        >>> metric = MeanMetricWrapper(lambda y_true, y_pred: (y_true - y_pred).abs(), name="gap")
        >>> float(metric(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0])))
        1.0
    """

    def __init__(self, fn: Callable[..., Tensor], name: str | None = None, dtype: DType = None, **kwargs: Any):
        super().__init__(name=name or str(getattr(fn, "__name__", "metric")), dtype=dtype)
        self._fn, self._fn_kwargs = fn, kwargs
        self.rowwise = getattr(fn, "rowwise", False)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:  # type: ignore[override]
        """Takes a batch of targets, predictions and weights in."""
        with torch.no_grad():
            mask = getattr(y_pred, "_keras_mask", None)
            y_pred = torch.as_tensor(y_pred).detach()
            y_true = torch.as_tensor(y_true).to(y_pred.device)
            values = self._fn(y_true, y_pred, **self._fn_kwargs)
            if mask is not None:
                weight = None if sample_weight is None else torch.as_tensor(sample_weight).to(y_pred.device)
                sample_weight = apply_mask(weight, mask, torch.float32, rescale=False)
            super().update_state(values, sample_weight)


def weighted(values: Tensor, sample_weight: Any) -> tuple[Tensor, Any]:
    """The values of the samples times their weights, and the sum of the weights."""
    if sample_weight is None:
        if values.ndim > 1:
            values = values.mean(tuple(range(1, values.ndim)))
        return values, values.shape[0] if values.ndim else 1
    weight = torch.as_tensor(sample_weight, device=values.device).to(values.dtype)
    values, weight = same_rank(values, weight)
    if values.ndim > weight.ndim:
        values = values.mean(tuple(range(weight.ndim, values.ndim)))
    weight = weight.expand_as(values) if weight.ndim <= values.ndim else weight
    values = values * weight
    if weight.ndim > 1:
        weight = weight.mean(tuple(range(1, weight.ndim)))
        values = values.mean(tuple(range(1, values.ndim)))
    return values, weight.sum()


def is_accuracy(identifier: Any) -> bool:
    """Whether it is the name that means another metric for each kind of target."""
    return isinstance(identifier, str) and identifier.lower() in ("accuracy", "acc")


def to_metric(identifier: Any) -> Any:
    """The metric object that `compile(metrics=[...])` means. One of another library, with `update` and `compute`, too.

    Raises: ValueError: for an unknown name. TypeError: for what is no metric.
    """
    if hasattr(identifier, "update") and hasattr(identifier, "compute") and not inspect.isclass(identifier):
        return TorchMetric(identifier)
    found = serialization.get(identifier, registry)
    if not isinstance(found, Metric):
        found = MeanMetricWrapper(found)
    if isinstance(identifier, str):
        found.name = identifier
    return found


class TorchMetric(Metric):
    """A metric object of torchmetrics' kind: `update(prediction, target)`, `compute()`, `reset()`.

    Args:
        metric: The object.
    """

    def __init__(self, metric: Any):
        super().__init__(name=snake_case(type(metric).__name__))
        self.metric = metric

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Any = None) -> None:
        """Takes a batch in; weights are not known to such metrics."""
        if hasattr(self.metric, "to"):
            self.metric.to(y_pred.device)
        if y_true.ndim == y_pred.ndim - 1 and y_pred.shape[-1] == 1:
            y_pred = y_pred.squeeze(-1)
        self.metric.update(y_pred.detach(), y_true)

    def result(self) -> Any:
        """What `compute()` gives."""
        return self.metric.compute()

    def reset_state(self) -> None:
        """Forgets all batches."""
        self.metric.reset()


def unknown_metric(name: str) -> str:
    """What to say of a name that is no metric."""
    return f"Unknown metric {name!r}.{did_you_mean(name, [*registry, 'accuracy', 'acc'])}"
