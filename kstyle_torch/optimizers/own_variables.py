"""Variables that user-written optimizers in Keras' style make and change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from kstyle_torch import config, initializers
from kstyle_torch.arrays import from_array
from kstyle_torch.optimizers.variables import parameter_of, path_of
from kstyle_torch.variables import Variable


class OwnVariables:
    """Base of `Optimizer` with the methods that such subclasses call."""

    name: str
    _variables: list[Any]
    _parameters: list[Tensor]
    _added: list[Variable]

    def _known(self) -> dict[int, int]:
        """Returns the place of each variable's state, by the ids of variables and parameters."""
        raise NotImplementedError

    def add_variable(
        self,
        shape: Sequence[int],
        initializer: Any = "zeros",
        dtype: Any = None,
        aggregation: str = "none",
        layout: Any = None,
        name: str | None = None,
    ) -> Variable:
        """Returns a variable of the optimizer's own, saved with it."""
        with config.device_scope(self._parameters[0].device if self._parameters else config.device()):
            variable = Variable(initializers.get(initializer), tuple(shape), dtype, trainable=False, name=name)
        variable.path = f"{self.name}/{variable.name}"
        self._added.append(variable)
        return variable

    def add_variable_from_reference(
        self, reference_variable: Any, name: str | None = None, initializer: Any = "zeros"
    ) -> Variable:
        """Returns a variable of the optimizer's own with the shape and dtype of a model's, in Keras' layout."""
        name = f"{path_of(reference_variable).replace('/', '_')}_{name or 'var'}"
        dtype = parameter_of(reference_variable).dtype
        return self.add_variable(tuple(reference_variable.shape), initializer, dtype, name=name)

    def add_optimizer_variables(self, trainable_variables: Sequence[Any], name: Any, initializer: Any = "zeros") -> Any:
        """Adds a variable of the optimizer's own for each of the model's; for a list of names a tuple of lists.

        Raises: ValueError: if there are not as many initializers as names.
        """
        names = [name] if isinstance(name, str) else list(name)
        given = list(initializer) if isinstance(initializer, (list, tuple)) else [initializer] * len(names)
        if len(names) != len(given):
            raise ValueError(f"add_optimizer_variables() got {len(given)} initializers for {len(names)} names.")
        rows = [
            [self.add_variable_from_reference(variable, *pair) for pair in zip(names, given, strict=True)]
            for variable in trainable_variables
        ]
        columns = tuple([row[column] for row in rows] for column in range(len(names)))
        return columns[0] if isinstance(name, str) else columns

    def _get_variable_index(self, variable: Any) -> int:
        known = {id(each): place for place, each in enumerate(self._variables)}
        return known[id(variable)] if id(variable) in known else self._known()[id(parameter_of(variable))]

    def assign(self, variable: Any, value: Any) -> None:
        """Sets a variable of the model's or the optimizer's."""
        (variable if hasattr(variable, "assign") else _Assignable(variable)).assign(value)

    def assign_add(self, variable: Any, value: Any) -> None:
        """Adds to a variable of the model's or the optimizer's."""
        self.assign(variable, variable + value)

    def assign_sub(self, variable: Any, value: Any) -> None:
        """Subtracts from a variable of the model's or the optimizer's."""
        self.assign(variable, variable - value)


class _Assignable:
    """A bare parameter."""

    def __init__(self, parameter: Tensor):
        self.parameter = parameter

    def assign(self, value: Any) -> None:
        self.parameter.copy_(value.read() if isinstance(value, Variable) else from_array(value))
