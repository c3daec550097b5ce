"""The optimizer: own state, torch's multi-tensor kernels, Keras' numbers.

The trainer calls `build` with the variables at each epoch and `step` with their gradients; everything else is built on these.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kstyle_torch import config, serialization
from kstyle_torch.registry import snake_case
from kstyle_torch.serialization import Configurable, reject_unknown
from kstyle_torch.variables import Variable

# in Keras' configs; accepted while they are switched off
KERAS_ONLY = ("ema_overwrite_frequency", "gradient_accumulation_steps", "jit_compile", "loss_scale_factor", "use_ema")
registry = serialization.registry("optimizer", "keras.optimizers")


class Counter(Variable):
    """The number of steps taken: a plain int underneath, so that counting costs nothing."""

    def __init__(self) -> None:
        self.count = 0
        self._trainable, self.name, self.path = False, "iterations", "iterations"

    @property
    def value(self) -> Tensor:
        """The count as an int64 tensor on the CPU."""
        return torch.tensor(self.count)

    def read(self) -> Tensor:
        return self.value

    def assign(self, value: Any) -> Counter:
        """Sets the count."""
        self.count = int(value)
        return self


class Optimizer(Configurable):
    """Base class of optimizers. A subclass names its `slots` and defines `update`.

    Args:
        learning_rate: Size of a step.
        weight_decay: Share of each weight that a step takes away, times the learning rate; none if None.
        clipnorm: Largest norm of a single variable's gradient.
        clipvalue: Largest absolute value in a gradient.
        global_clipnorm: Largest norm of all gradients together.
        name: What it is called.
    Raises: ValueError: if more than one kind of clipping is asked for.
    Example:
        >>> class SignDescent(Optimizer):
        ...     def update(self, parameters, gradients, state, learning_rate):
        ...         torch._foreach_add_(parameters, torch._foreach_sign(gradients), alpha=-learning_rate)
        >>> weight = nn.Parameter(torch.tensor([1.0, 1.0]))
        >>> SignDescent(0.5).apply([torch.tensor([3.0, -2.0])], [weight])
        >>> weight.tolist()
        [0.5, 1.5]
    """

    slots: tuple[str, ...] = ()  # state tensors of each variable

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str | None = None,
        **kwargs: Any,
    ):
        learning_rate = self._legacy(kwargs, learning_rate)
        for key in KERAS_ONLY:
            if not kwargs.get(key):
                kwargs.pop(key, None)
        if "use_ema" not in kwargs:
            kwargs.pop("ema_momentum", None)
        reject_unknown(self, kwargs)
        if sum(value is not None for value in (clipnorm, clipvalue, global_clipnorm)) > 1:
            raise ValueError("Only one of clipnorm, clipvalue and global_clipnorm can be set.")
        self.name = name or snake_case(type(self).__name__)
        self.weight_decay = weight_decay
        self.clipnorm, self.clipvalue, self.global_clipnorm = clipnorm, clipvalue, global_clipnorm
        self.iterations: Any = Counter()
        with config.device_scope("cpu"):  # read at each step: never on the device
            self._learning_rate = Variable(_checked_rate(learning_rate), dtype="float32", name="learning_rate")
        self.built = False
        self._parameters: list[Tensor] = []
        self._variables: list[Any] = []
        self._constraints: list[tuple[Any, Any]] = []
        self._undecayed: tuple[list[Tensor], tuple[str, ...]] = ([], ())
        self._decayed: list[Tensor] = []
        self.state: dict[str, list[Tensor]] = {slot: [] for slot in self.slots}

    def _legacy(self, kwargs: dict[str, Any], learning_rate: Any) -> Any:
        if "lr" in kwargs:
            learning_rate = kwargs.pop("lr")
            self._arguments["learning_rate"] = learning_rate
            warnings.warn(f"{type(self).__name__}(lr=...) is the older spelling of learning_rate=...", stacklevel=4)
        if kwargs.pop("decay", None):
            warnings.warn(f"{type(self).__name__}: decay is ignored, as in Keras; use a schedule.", stacklevel=4)
        for gone in ("lr", "decay"):
            self._arguments.pop(gone, None)
        return learning_rate

    # ------------------------------------------------------------------------------------------------ learning rate

    @property
    def learning_rate(self) -> Any:
        """Size of a step: a variable that reads as a number; set it to a number at any time."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self._learning_rate.assign(torch.as_tensor(_checked_rate(value), dtype=torch.float32).cpu())

    lr = learning_rate

    # -------------------------------------------------------------------------------------------------------- state

    def build(self, variables: Iterable[Any]) -> None:
        """Makes state for the variables; what it has for one of them already is kept, and follows it to its device.

        Args:
            variables: Of a layer's `trainable_variables`, or parameters.
        """
        variables = list(variables)
        parameters = [_parameter(variable) for variable in variables]
        known = {id(parameter): index for index, parameter in enumerate(self._parameters)}
        known |= {
            id(variable): index for index, variable in enumerate(self._variables)
        }  # its parameter may be replaced
        places = [known.get(id(v), known.get(id(p))) for v, p in zip(variables, parameters, strict=True)]
        for slot, tensors in self.state.items():
            self.state[slot] = [
                self._initial(slot, p) if place is None else self._carried(tensors[place], p)
                for place, p in zip(places, parameters, strict=True)
            ]
        self._parameters, self._variables = parameters, variables
        constraints = [(variable, getattr(variable, "constraint", None)) for variable in variables]
        self._constraints = [(variable, constraint) for variable, constraint in constraints if constraint is not None]
        self._decayed = [p for p, variable in zip(parameters, variables, strict=True) if self._decays(p, variable)]
        self.built = True

    def _initial(self, slot: str, parameter: Tensor) -> Tensor:
        return torch.zeros_like(parameter, requires_grad=False)

    def _carried(self, tensor: Tensor, parameter: Tensor) -> Tensor:
        if tensor.shape != parameter.shape:
            return torch.zeros_like(parameter, requires_grad=False)
        return tensor if tensor.device == parameter.device else tensor.to(parameter.device)

    def _decays(self, parameter: Tensor, variable: Any) -> bool:
        excluded, names = self._undecayed
        path = getattr(variable, "path", "")
        return not any(parameter is other for other in excluded) and not any(name in path for name in names)

    def exclude_from_weight_decay(self, var_list: Any = None, var_names: Sequence[str] | None = None) -> None:
        """Leaves variables out of the weight decay.

        Args:
            var_list: The variables.
            var_names: Parts of their paths, such as `["bias"]`.
        Raises: ValueError: if the optimizer is built already.
        """
        if self.built:
            raise ValueError("exclude_from_weight_decay() must be called before the first step.")
        self._undecayed = ([_parameter(variable) for variable in var_list or ()], tuple(var_names or ()))

    @property
    def variables(self) -> list[Any]:
        """Step count, learning rate and state, as tensors and variables."""
        return [self.iterations, self._learning_rate, *(tensor for slot in self.state.values() for tensor in slot)]

    # -------------------------------------------------------------------------------------------------------- steps

    def step(self, gradients: list[Tensor | None]) -> None:
        """One step of the variables given to `build`.

        Args:
            gradients: One a variable; None for a variable that the loss does not depend on, which stays as it is.
        """
        if any(gradient is None for gradient in gradients):
            self._partial_step(gradients)
        else:
            self._full_step(self._parameters, gradients, self.state, self._decayed)  # type: ignore[arg-type]

    def _partial_step(self, gradients: list[Tensor | None]) -> None:
        used = [index for index, gradient in enumerate(gradients) if gradient is not None]
        if not used:
            raise ValueError(
                "No variable got a gradient: the loss does not depend on any trainable weight. Is the whole model "
                "frozen, or its output detached?"
            )
        if self.iterations.count == 0:
            warnings.warn(
                f"{len(gradients) - len(used)} trainable variable(s) got no gradient: the loss does not depend on them.",
                stacklevel=2,
            )
        parameters = [self._parameters[index] for index in used]
        ids = set(map(id, parameters))
        self._full_step(
            parameters,
            [gradients[index] for index in used],  # type: ignore[misc]
            {slot: [tensors[index] for index in used] for slot, tensors in self.state.items()},
            [parameter for parameter in self._decayed if id(parameter) in ids],
        )

    @torch.no_grad()
    def _full_step(
        self,
        parameters: list[Tensor],
        gradients: list[Tensor],
        state: dict[str, list[Tensor]],
        decayed: list[Tensor],
    ) -> None:
        self.iterations.count += 1
        rate = self._learning_rate._tensor.item()  # on the CPU
        if self.clipnorm or self.clipvalue or self.global_clipnorm:
            gradients = self._clipped(gradients)
        if self.weight_decay:
            torch._foreach_mul_(decayed, 1 - rate * self.weight_decay)
        self.update(parameters, gradients, state, rate)
        for variable, constraint in self._constraints:
            variable.assign(constraint(variable.read()))

    def update(
        self, parameters: list[Tensor], gradients: list[Tensor], state: dict[str, list[Tensor]], learning_rate: float
    ) -> None:
        """Changes parameters and state in place.

        Args:
            parameters: The weights.
            gradients: Of each of them.
            state: For each slot, a tensor for each weight.
            learning_rate: Of this step.
        """
        raise NotImplementedError(f"{type(self).__name__} must define update().")

    def _clipped(self, gradients: list[Tensor]) -> list[Tensor]:
        """Source: Pascanu et al. 2013. Nothing waits for the device."""
        if self.clipvalue:
            return [gradient.clamp(-self.clipvalue, self.clipvalue) for gradient in gradients]
        norms = list(torch._foreach_norm(gradients))
        if self.clipnorm:
            return [
                gradient * (self.clipnorm / norm.clamp(min=self.clipnorm))
                for gradient, norm in zip(gradients, norms, strict=True)
            ]
        assert self.global_clipnorm
        norm = torch.linalg.vector_norm(torch.stack(norms))
        return list(torch._foreach_mul(gradients, self.global_clipnorm / norm.clamp(min=self.global_clipnorm)))

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """One step from gradients computed by hand, as in an overridden `train_step`.

        Args:
            grads: Of each variable, in torch's layout (`variable.value.grad`).
            trainable_variables: The variables; those of the last call if None.
        Raises: ValueError: if there are not as many gradients as variables.
        """
        if trainable_variables is not None:
            parameters = [_parameter(variable) for variable in trainable_variables]
            if len(parameters) != len(self._parameters) or any(
                a is not b for a, b in zip(parameters, self._parameters, strict=True)
            ):
                self.build(trainable_variables)
        if len(grads) != len(self._parameters):
            raise ValueError(f"apply() got {len(grads)} gradients for {len(self._parameters)} variables.")
        self.step(list(grads))

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, Any]]) -> None:
        """The same as `apply`, from pairs `(gradient, variable)`."""
        pairs = list(grads_and_vars)
        self.apply([gradient for gradient, _ in pairs], [variable for _, variable in pairs])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, with the learning rate as it is now."""
        return {**super().get_config(), "learning_rate": float(self._learning_rate)}


def _parameter(variable: Any) -> Tensor:
    return variable if isinstance(variable, nn.Parameter) else getattr(variable, "value", variable)


def _checked_rate(value: Any) -> float:
    if isinstance(value, (str, dict)) or (callable(value) and not isinstance(value, (Tensor, Variable))):
        raise TypeError(f"learning_rate must be a number; got {value!r}.")
    return float(value)
