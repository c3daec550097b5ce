"""Variables that user-written optimizers in Keras' style make and change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from kstyle_torch import config, initializers
from kstyle_torch.arrays import from_array
from kstyle_torch.optimizers.variables import parameter_of, path_of
from kstyle_torch.variables import Variable, holding_values


class OwnVariables:
    """Base of `Optimizer` with the methods that such subclasses call."""

    name: str
    built: bool
    _variables: list[Any]
    _parameters: list[Tensor]
    _added: list[Variable]

    if TYPE_CHECKING:

        @property
        def variables(self) -> list[Any]: ...

        @property
        def _trainable_variables(self) -> list[Any]: ...

        def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None: ...

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
        _assignable(variable).assign(value)

    def assign_add(self, variable: Any, value: Any) -> None:
        """Adds to a variable of the model's or the optimizer's."""
        _assignable(variable).assign_add(value)

    def assign_sub(self, variable: Any, value: Any) -> None:
        """Subtracts from a variable of the model's or the optimizer's."""
        _assignable(variable).assign_sub(value)

    def stateless_apply(
        self, optimizer_variables: Sequence[Any], grads: Sequence[Any], trainable_variables: Sequence[Any]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Returns weights and state after a step, from those before it; the optimizer and the model stay as they are.

        Args:
            optimizer_variables: A value for each of `variables`.
            grads: The gradients of the variables that the optimizer was built for, in Keras' layout.
            trainable_variables: Values of those.
        Returns: The new values of the trainable variables, then those of the optimizer's.
        Raises: ValueError: if the optimizer is not built, or there are not as many values as variables.
        """
        if not self.built:
            raise ValueError(f"{self.name} is not built yet: call build(model.trainable_variables) first.")
        weights = self._trainable_variables
        groups = {
            "trainable_variables": [_assignable(each) for each in weights],
            "optimizer_variables": self.variables,
        }
        with holding_values(groups, (trainable_variables, optimizer_variables)) as read:
            self.apply(grads, weights)
            new_weights, new_state = read()
        return new_weights, new_state


class _Assignable:
    """A bare parameter."""

    def __init__(self, parameter: Tensor):
        self.value = parameter

    def assign(self, value: Any) -> None:
        self.value.copy_(_tensor(value))

    def assign_add(self, value: Any) -> None:
        self.value.add_(_tensor(value))

    def assign_sub(self, value: Any) -> None:
        self.value.sub_(_tensor(value))


def _assignable(variable: Any) -> Any:
    return variable if hasattr(variable, "assign") else _Assignable(variable)


def _tensor(value: Any) -> Any:
    if isinstance(value, Variable):
        return value.read()
    return value if isinstance(value, (int, float)) else from_array(value)
