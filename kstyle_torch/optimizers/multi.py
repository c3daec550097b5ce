"""Several optimizers for one model, selected by the paths of its variables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from typing import Any

from kstyle_torch.optimizers.base import Optimizer, registry
from kstyle_torch.optimizers.loss_scale import LossScaleOptimizer
from kstyle_torch.optimizers.variables import path_of
from kstyle_torch.serialization import Configurable, custom_object_scope


@registry.register()
class OptimizerMap(Configurable, MutableMapping[str, Optimizer]):
    """Assignment of optimizers to variables, by patterns that match whole paths.

    Args:
        default_optimizer: Optimizer of variables that match no pattern.
        optimizer_map: `{pattern: optimizer}`.
    Raises: TypeError: if a value is not an optimizer.

    Example:
        >>> optimizers = OptimizerMap(Adam(), {".*bias": SGD(0.1)})
        >>> type(optimizers["sequential/dense/bias"]).__name__
        'SGD'
    """

    def __init__(self, default_optimizer: Any, optimizer_map: dict[str, Any] | None = None):
        if not isinstance(default_optimizer, Optimizer):
            raise TypeError(f"OptimizerMap: default_optimizer must be an optimizer; got {default_optimizer!r}.")
        if optimizer_map is not None and not isinstance(optimizer_map, dict):
            raise TypeError(
                f"OptimizerMap: optimizer_map must be a dict of pattern and optimizer; got {optimizer_map!r}."
            )
        self.default_optimizer = default_optimizer
        self._optimizers: dict[str, Optimizer] = {}
        for pattern, optimizer in (optimizer_map or {}).items():
            self[pattern] = optimizer

    def __getitem__(self, key: str) -> Any:
        if key in self._optimizers:
            return self._optimizers[key]
        matching = [pattern for pattern in self._optimizers if re.fullmatch(pattern, key)]
        if len(matching) > 1:
            raise ValueError(f"Several patterns of the OptimizerMap match {key!r}: {', '.join(map(repr, matching))}.")
        return self._optimizers[matching[0]] if matching else self.default_optimizer

    def __setitem__(self, key: str, optimizer: Any) -> None:
        if not isinstance(key, str):
            raise ValueError(f"OptimizerMap: a pattern must be a string; got {key!r}.")
        if key in self._optimizers:
            raise ValueError(f"The OptimizerMap already has an optimizer for {key!r}.")
        _check_inner(optimizer)
        self._optimizers[key] = optimizer
        self._arguments["optimizer_map"] = self._optimizers

    def __delitem__(self, key: str) -> None:
        del self._optimizers[key]

    def __len__(self) -> int:
        return len(self._optimizers)

    def __iter__(self) -> Iterator[str]:
        return iter(self._optimizers)

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Any:
        """Returns the map that `get_config` described."""
        with custom_object_scope(custom_objects):
            return super().from_config(config)

    def __call__(self, variable: Any) -> Any:
        """Returns the optimizer of a variable."""
        return self[path_of(variable)]


@registry.register()
class MultiOptimizer(Optimizer):
    """Optimizer that updates each variable with the optimizer `optimizer_map(variable)`.

    Args:
        optimizer_map: An `OptimizerMap`, or a function of a variable.
        loss_scale_factor: See `Optimizer`; set on all of them.
        name: Name of the optimizer.
    Raises: ValueError: if the map returns an object that is not a plain optimizer.

    Example:
        >>> model = Sequential([Input((2,)), layers.Dense(1)])
        >>> optimizers = OptimizerMap(Adam(), {".*kernel": Muon()})
        >>> model.compile(MultiOptimizer(optimizers), "mse")
    """

    _factor: float | None = None

    def __init__(self, optimizer_map: Any, loss_scale_factor: float | None = None, name: str | None = None):
        if not callable(optimizer_map):
            raise TypeError(f"MultiOptimizer needs an OptimizerMap or a function of a variable; got {optimizer_map!r}.")
        super().__init__(0.0, name=name)
        self._optimizer_map = optimizer_map
        self._inner: list[Optimizer] = []
        self._shares: list[tuple[Optimizer, list[int]]] = []
        given = [*optimizer_map.values(), optimizer_map.default_optimizer] if hasattr(optimizer_map, "values") else []
        self.loss_scale_factor = loss_scale_factor
        for optimizer in given:
            self._include(optimizer)

    def _include(self, optimizer: Any) -> None:
        _check_inner(optimizer)
        if not any(optimizer is other for other in self._inner):
            optimizer.loss_scale_factor = self.loss_scale_factor
            self._inner.append(optimizer)

    @property
    def optimizers(self) -> list[Optimizer]:
        """All optimizers."""
        return self._inner

    @property
    def loss_scale_factor(self) -> float | None:
        """The loss scale factor of all optimizers."""
        return self._factor

    @loss_scale_factor.setter
    def loss_scale_factor(self, value: float | None) -> None:
        self._factor = value
        for optimizer in getattr(self, "_inner", ()):
            optimizer.loss_scale_factor = value

    def build(self, var_list: Iterable[Any]) -> None:
        """Builds each optimizer for its variables."""
        self.track(var_list)

    def track(self, variables: Iterable[Any]) -> None:
        variables = list(variables)
        chosen = [self._optimizer_map(variable) for variable in variables]
        for optimizer in chosen:
            self._include(optimizer)
        self._shares = []
        for optimizer in self._inner:
            share = [index for index, other in enumerate(chosen) if other is optimizer]
            if share:
                optimizer.track([variables[index] for index in share])
                self._shares.append((optimizer, share))
        self._select(self._places(variables))

    @property
    def variables(self) -> list[Any]:
        """Its own variables, followed by those of each optimizer."""
        return [*super().variables, *(variable for optimizer in self._inner for variable in optimizer.variables)]

    @property
    def learning_rate(self) -> Any:
        """Not available, since each optimizer has its own."""
        raise AttributeError("A MultiOptimizer has no learning rate; use those of its .optimizers.")

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        raise AttributeError("A MultiOptimizer has no learning rate; set those in its .optimizers.")

    @property
    def reversible(self) -> bool:
        """True if all optimizers are reversible."""
        return all(optimizer.reversible for optimizer in self._inner)

    def changing(self) -> list[Any]:
        return [tensor for optimizer, _ in self._shares for tensor in optimizer.changing()]

    def note_taken_back(self, steps: Any) -> None:
        for optimizer, _ in self._shares:
            optimizer.note_taken_back(steps)

    def back(self, steps: int) -> None:
        super().back(steps)
        for optimizer, _ in self._shares:
            optimizer.back(steps)

    def _step(self, gradients: Any) -> None:
        for optimizer, share in self._shares:
            own = [gradients[index] for index in share]
            if any(gradient is not None for gradient in own):
                optimizer.step(own)
        self._iterations.number += 1

    def finalize_variable_values(self, var_list: Sequence[Any]) -> None:
        """Does what each optimizer does for its variables."""
        for optimizer in self._inner:
            optimizer.finalize_variable_values(var_list)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        config = super().get_config()
        del config["learning_rate"]
        return config


def _check_inner(optimizer: Any) -> None:
    if not isinstance(optimizer, Optimizer) or isinstance(optimizer, (LossScaleOptimizer, MultiOptimizer)):
        raise ValueError(f"A MultiOptimizer needs plain optimizers inside; got {optimizer!r}.")
