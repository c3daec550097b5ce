"""The base of metrics: state on the device, updated by batches and read on demand."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from kstyle_torch import config, dtype_policies, serialization
from kstyle_torch.compat import keras2
from kstyle_torch.initializers import DType
from kstyle_torch.layer.containers import attribute_role, metrics_in
from kstyle_torch.registry import snake_case, unique_name
from kstyle_torch.scopes import opened
from kstyle_torch.serialization import Configurable
from kstyle_torch.variables import Variable

registry = serialization.registry("metric", "keras.metrics")


class State(Variable):
    """Variable of a metric's state."""

    can_be_weight = False

    def assign_add(self, value: Any) -> Variable:
        """Adds to the value. The sum is a new tensor, so values read before do not change."""
        old = self._tensor
        simple = type(value) is Tensor and not value.requires_grad and opened.stateless is None
        if not simple or value.dtype is not old.dtype or value.shape != old.shape:
            return super().assign_add(value)
        self._tensor = (old if old.device == value.device else old.to(value.device)) + value
        return self


class Metric(keras2.OlderMetricMethods, Configurable):
    """Base class of metrics. Subclasses define `update_state` and `result` on variables of `add_variable`.

    Args:
        dtype: Dtype or policy of computations; `config.floatx()` if None. Variables have dtypes of their own.
        name: The key in logs and history; made from the class if None.

    Example:
        >>> class Largest(Metric):
        ...     def __init__(self, name="largest", **kwargs):
        ...         super().__init__(name=name, **kwargs)
        ...         self.largest = self.add_weight(name="largest")
        ...     def update_state(self, y_true, y_pred, sample_weight=None):
        ...         self.largest.assign(torch.maximum(self.largest, y_pred.max()))
        ...     def result(self):
        ...         return self.largest.value
        >>> metric = Largest()
        >>> float(metric(torch.zeros(2), torch.tensor([1.0, 3.0])))
        3.0
    """

    _variables: list[Variable]
    direction: str | None = None  # of improvement: "up" or "down"
    rowwise = False  # whether several batches may be joined into one before update_state
    is_metric = True  # for lower packages, which cannot import Metric
    _update_as_made: Any  # original `update_state` of the class; users may replace it
    _only_added = True  # whether all state comes from `add_variable`

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        self = super().__new__(cls, *args, **kwargs)
        object.__setattr__(self, "_variables", [])
        return self

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "update_state" in vars(cls) and "rowwise" not in vars(cls):
            cls.rowwise = False  # a user's method may combine samples
        cls._update_as_made = cls.update_state

    def __init__(self, dtype: Any = None, name: str | None = None):
        self.name = name or unique_name(snake_case(type(self).__name__))
        self._dtype = _dtype_name(dtype)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        kind: Any = type(value)
        if attribute_role(kind) != "other" or (isinstance(value, Variable) and not _is_in(value, self._variables)):
            object.__setattr__(self, "_only_added", False)

    @property
    def dtype(self) -> str:
        """Name of the compute dtype."""
        return self._dtype

    def add_variable(
        self,
        shape: Any,
        initializer: Any,
        dtype: DType = None,
        aggregation: Any = "sum",
        name: str | None = None,
    ) -> Variable:
        """Adds a variable to the state.

        Args:
            shape: Its shape.
            initializer: Initializer of its value; "zeros" if None.
            dtype: `config.floatx()` if None.
            aggregation: Accepted for compatibility with Keras.
            name: Any string.
        Raises: RuntimeError: before `super().__init__()`.
        """
        if "name" not in vars(self):
            raise RuntimeError(f"{type(self).__name__}.__init__() must call super().__init__() before it makes state.")
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        variable = State(initializer or "zeros", shape, dtype, trainable=False, name=name or unique_name("variable"))
        variable.path = f"{self.name.replace('/', '>')}/{variable.name}"
        self._variables.append(variable)
        return variable

    def add_weight(
        self, shape: Any = (), initializer: Any = None, dtype: DType = None, name: str | None = None
    ) -> Variable:
        """Returns the same as `add_variable`."""
        return self.add_variable(shape, initializer, dtype, name=name)

    @property
    def variables(self) -> list[Variable]:
        """State variables: the metric's own, then those of metrics in attributes."""
        own = list(self._variables)
        if self._only_added:
            return own
        own += [value for value in vars(self).values() if isinstance(value, Variable) and not _is_in(value, own)]
        return own + [variable for metric in metrics_in(self) for variable in metric.variables]

    @property
    def takes_joined(self) -> bool:
        """True if several batches may be joined into one before `update_state`, and users have not replaced that."""
        classes: Any = [cls for cls in type(self).__mro__ if "_update_as_made" in vars(cls)]
        as_made = all(cls.update_state is cls._update_as_made for cls in classes)
        return self.rowwise and as_made and "update_state" not in vars(self)

    def update_state(self, *args: Any, **kwargs: Any) -> Any:
        """Updates the state with a batch."""
        raise NotImplementedError(f"{type(self).__name__} must define update_state().")

    def result(self) -> Any:
        """Returns the value so far: a scalar tensor, or a dict of them."""
        raise NotImplementedError(f"{type(self).__name__} must define result().")

    def reset_state(self) -> None:
        """Sets the state to zeros, as Keras does, regardless of its initializers."""
        for variable in self.variables:
            zeros = torch.zeros_like(variable.value)
            if type(variable) is State:
                variable._tensor = zeros
            else:
                variable.assign(zeros)

    def stateless_update_state(self, metric_variables: Any, *args: Any, **kwargs: Any) -> list[Tensor]:
        """Returns the state after a batch from the state before it; the metric's own does not change.

        Args:
            metric_variables: A value for each of `variables`.
            args: As for `update_state`.
            kwargs: Likewise.
        Raises: ValueError: if there are not as many values as variables.
        """
        with self._holding(metric_variables):
            self.update_state(*args, **kwargs)
            return [variable.value for variable in self.variables]

    def stateless_result(self, metric_variables: Any) -> Any:
        """Returns the `result` for a state; see `stateless_update_state`."""
        with self._holding(metric_variables):
            return self.result()

    def stateless_reset_state(self) -> list[Tensor]:
        """Returns the state after `reset_state`; the metric's own does not change."""
        with self._holding([variable.value for variable in self.variables]):
            self.reset_state()
            return [variable.value for variable in self.variables]

    @contextlib.contextmanager
    def _holding(self, values: Any) -> Iterator[None]:
        """Swaps in other values of the variables for a block; variables made in the block start at zero."""
        variables = self.variables
        if len(values) != len(variables):
            raise ValueError(
                f"{type(self).__name__}: got {len(values)} values for metric_variables, expected {len(variables)}, one "
                "for each of .variables."
            )
        kept = {id(variable): variable.value for variable in variables}
        try:
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
            yield
        finally:
            for variable in self.variables:
                before = kept.get(id(variable))
                variable.assign(torch.zeros_like(variable.value) if before is None else before)

    def to(self, device: Any) -> None:
        """Moves the state to a device."""
        for variable in self.variables:
            moved = variable.value.to(device)
            if moved is not variable.value:
                variable.assign(moved)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments as plain data, with name and dtype."""
        own = {"name": self.name, "dtype": self.dtype}
        return own | super().get_config() | own

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Returns a metric of this class for a `get_config` dict; the name is set even if the constructor takes none."""
        parameters = inspect.signature(cls.__init__).parameters
        arguments = {key: value for key, value in config.items() if key in parameters or key not in ("name", "dtype")}
        if "dtype" not in parameters and _differs(config.get("dtype")) and _takes_any(parameters):
            arguments["dtype"] = config["dtype"]
        metric = super().from_config(arguments)
        if config.get("name") is not None:
            metric.name = config["name"]
        return metric

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Updates the state with a batch. Returns: The value so far."""
        self.update_state(*args, **kwargs)
        return self.result()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"


registry.register()(Metric)


def _is_in(value: Any, others: list[Any]) -> bool:
    return any(value is other for other in others)


def _dtype_name(dtype: Any) -> str:
    if dtype is None:
        return config.floatx()
    return dtype_policies.get("int32" if dtype == "int" else dtype).compute_dtype


def _differs(dtype: Any) -> bool:
    return dtype is not None and dtype != config.floatx()


def _takes_any(parameters: Any) -> bool:
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
