"""The optimizer: Keras' interface and numbers, computed with torch's multi-tensor kernels.

The trainer calls `track` with the variables at each epoch, and `step` with their gradients; all else is built on these.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from kstyle_torch import config, serialization
from kstyle_torch._torch import foreach_add_, foreach_copy_, foreach_div, foreach_lerp_, foreach_zero_, set_grad_enabled
from kstyle_torch.compat import keras2
from kstyle_torch.layer.layout import Layout
from kstyle_torch.optimizers import clipping
from kstyle_torch.optimizers.config_form import in_keras_order
from kstyle_torch.optimizers.fused import descend
from kstyle_torch.optimizers.own_variables import OwnVariables
from kstyle_torch.optimizers.parameter_group import MANY, Part, carried, is_shared
from kstyle_torch.optimizers.rate import current_rate, learning_rate_of, replaced_rate
from kstyle_torch.optimizers.schedules import LearningRateSchedule
from kstyle_torch.optimizers.state_by_parameter import StateByParameter
from kstyle_torch.optimizers.subclasses import UPDATE_STEPS, Forgotten, goes_by_variable, has_users_update
from kstyle_torch.optimizers.variables import HostNumber, SlotView, in_keras, layout_of, parameter_of, path_of
from kstyle_torch.registry import snake_case, unique_name
from kstyle_torch.serialization import Configurable, reject_unknown
from kstyle_torch.variables import Variable, assign_all

registry = serialization.registry("optimizer", "keras.optimizers")


class Optimizer(StateByParameter, OwnVariables, Configurable):
    """Base class of optimizers.

    A subclass names its `slots` and defines `update`; or, as in Keras, it makes its variables in `build` and defines
    `update_step`.

    Args:
        learning_rate: Number, `LearningRateSchedule`, or function without arguments.
        weight_decay: Each step subtracts this share of the weights, times the learning rate; none if None.
        clipnorm: Largest norm of a single variable's gradient.
        clipvalue: Largest absolute value in a gradient.
        global_clipnorm: Largest norm of all gradients together.
        use_ema: Whether to keep a running mean of the weights, which replaces them when `fit` ends.
        ema_momentum: Share of the mean that is kept at each step.
        ema_overwrite_frequency: Number of steps after which the mean replaces the weights; only at the end if None.
        loss_scale_factor: Factor of the loss (`scale_loss`), by which gradients are divided.
        gradient_accumulation_steps: Number of steps whose gradients are averaged for one update.
        name: Name of the optimizer.
    Raises: ValueError: if more than one kind of clipping is requested, or a number is out of range.

    Example:
        >>> class SignDescent(Optimizer):
        ...     def update(self, parameters, gradients, state, learning_rate):
        ...         for parameter, gradient in zip(parameters, gradients):
        ...             parameter.sub_(gradient.sign(), alpha=learning_rate)
        >>> weight = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
        >>> SignDescent(0.5).apply([torch.tensor([3.0, -2.0])], [weight])
        >>> weight.tolist()
        [0.5, 1.5]
    """

    slots: tuple[Any, ...] = ()  # names of state tensors; those in a tuple alternate in `variables`
    shares: tuple[str, ...] = ("beta_1", "beta_2", "rho")  # arguments that are decay rates, in [0, 1)
    built: Any = Forgotten()
    # Set by subclasses with an elementwise `update`, so that small parameters can be packed on a CPU: "steps" if `update`
    # only adds to parameters, "weights" if it reads them.
    packs: str | None = None

    def __init__(
        self,
        learning_rate: Any,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
        **kwargs: Any,
    ):
        kwargs = keras2.renamed(type(self).__name__, keras2.OF_OPTIMIZERS, kwargs)
        learning_rate = self._legacy(kwargs, learning_rate)
        reject_unknown(self, kwargs)
        self.name = name or unique_name(snake_case(type(self).__name__))
        self.weight_decay = weight_decay
        self.clipnorm, self.clipvalue, self.global_clipnorm = clipnorm, clipvalue, global_clipnorm
        self.use_ema, self.ema_momentum = use_ema, ema_momentum
        self.ema_overwrite_frequency = ema_overwrite_frequency
        self.loss_scale_factor = loss_scale_factor
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self._check()
        self._iterations = HostNumber(0, "int32", "iteration", f"{self.name}/iteration")
        self._learning_rate = learning_rate_of(learning_rate, self.name)
        self.built = False
        self._variables: list[Any] = []  # all variables ever tracked, in the order of their state
        self._parameters: list[Tensor] = []
        self._left: list[Any] = []  # weak references to replaced parameters, with their state
        self._undecayed: tuple[list[Any], str] = ([], "")
        self._added: list[Variable] = []
        self._part: Part | None = None
        self._given: list[Any] = []  # the variables as passed last, which determine the layout of gradients
        self._parts: dict[tuple[int, ...], Part] = {}  # by places
        self._packed: dict[int, set[int]] = {}  # place -> places that its state is packed with
        self.state: dict[str, list[Any]] = {slot: [] for group in self._groups() for slot in group}
        self._taken_back: Tensor | None = None  # counted steps that a `LossScaleOptimizer` reverted on the device
        self._by_variable = False
        self._choose_update()

    def _choose_update(self) -> None:
        """Takes `update_step` or `update` for the next steps, whichever a user has defined; users may replace them."""
        before, self._by_variable = self._by_variable, goes_by_variable(self, Optimizer)
        if before is not self._by_variable:
            self._part = None
            self._parts.clear()
        self._is_unpacked = self._by_variable or (bool(self.packs) and has_users_update(type(self)))

    def _legacy(self, kwargs: dict[str, Any], learning_rate: Any) -> Any:
        if "learning_rate" in kwargs:  # from `lr`, since the argument itself is not in `kwargs`
            learning_rate = self._arguments["learning_rate"] = kwargs.pop("learning_rate")
        if kwargs.pop("decay", None):
            warnings.warn(
                f"{type(self).__name__}: decay is ignored, as in Keras; pass "
                "learning_rate=schedules.InverseTimeDecay(rate, 1, decay) for what it used to do.",
                stacklevel=4,
            )
        if self._arguments.get("epsilon", 0) is None:
            self._arguments["epsilon"] = config.epsilon()
        for gone in ("lr", "decay"):
            self._arguments.pop(gone, None)
        return learning_rate

    def _check(self) -> None:
        bounds = {key: getattr(self, key) for key in ("clipnorm", "clipvalue", "global_clipnorm")}
        bounds = {key: bound for key, bound in bounds.items() if bound is not None}
        if len(bounds) > 1:
            raise ValueError(f"Only one of clipnorm, clipvalue and global_clipnorm can be set; got {bounds}.")
        for key, bound in {**bounds, "weight_decay": self.weight_decay or 0}.items():
            if isinstance(bound, bool) or not isinstance(bound, (int, float)) or not bound >= 0:
                raise ValueError(f"{key} must be a number of at least 0, or None; got {bound!r}.")
        for key in self.shares:
            share = self._arguments.get(key, 0)
            if isinstance(share, (str, bool)) or share is None or not 0 <= share < 1:
                raise ValueError(f"{type(self).__name__}: {key} must be at least 0 and below 1; got {share!r}.")
        steps, frequency = self.gradient_accumulation_steps, self.ema_overwrite_frequency
        if steps and (not isinstance(steps, int) or steps < 2):
            raise ValueError(f"gradient_accumulation_steps must be an integer of at least 2, or None; got {steps!r}.")
        if self.use_ema and not 0 <= self.ema_momentum <= 1:
            raise ValueError(f"ema_momentum must be between 0 and 1; got {self.ema_momentum!r}.")
        if self.use_ema and frequency and (not isinstance(frequency, int) or frequency < 1):
            raise ValueError(f"ema_overwrite_frequency must be a positive integer, or None; got {frequency!r}.")

    # ------------------------------------------------------------------------------------------------ learning rate

    @property
    def learning_rate(self) -> Any:
        """The learning rate: a variable that reads as a number and may be set at any time; the current value of a schedule."""
        rate = self._learning_rate
        if isinstance(rate, HostNumber):
            return rate
        return rate(self._iterations.value) if isinstance(rate, LearningRateSchedule) else rate()

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self._learning_rate = replaced_rate(self._learning_rate, value, self.name)

    @property
    def lr(self) -> Any:
        """The older name of `learning_rate`."""
        return self.learning_rate

    @lr.setter
    def lr(self, value: Any) -> None:
        self.learning_rate = value

    @property
    def epsilon(self) -> float:
        """The number added to a divisor; `config.epsilon()` if set to None, as in older programs."""
        return self._epsilon

    @epsilon.setter
    def epsilon(self, value: float | None) -> None:
        value = config.epsilon() if value is None else value
        if isinstance(value, (str, bool)) or not value >= 0:
            raise ValueError(f"{type(self).__name__}: epsilon must be a number of at least 0, or None; got {value!r}.")
        self._epsilon = value

    @property
    def iterations(self) -> Any:
        """Number of steps so far; with `gradient_accumulation_steps`, the number of updates."""
        steps = self.gradient_accumulation_steps
        return torch.tensor(self._iterations.number // steps, dtype=torch.int32) if steps else self._iterations

    @property
    def local_step(self) -> int:
        """The number, from 1, of the next or current update."""
        return self._iterations.number // (self.gradient_accumulation_steps or 1) + 1

    # -------------------------------------------------------------------------------------------------------- state

    def _groups(self) -> list[tuple[str, ...]]:
        own = (*(["average"] if self.use_ema else []),)
        own += (*(["gradient_accumulator"] if self.gradient_accumulation_steps else []),)
        return [group if isinstance(group, tuple) else (group,) for group in (*own, *self.slots)]

    def build(self, variables: Iterable[Any]) -> None:
        """Makes state for the variables; later calls add state for new ones.

        Args:
            variables: A model's `trainable_variables`, or parameters.
        """
        if not self.built:
            self._begin()
        self._select(self._places(list(variables)))

    def _begin(self) -> None:
        """Makes state that does not belong to a variable."""

    @property
    def zero_grad(self) -> Any:
        """Not an attribute, as in Keras: the error says what to call instead, and `hasattr` is False."""
        raise AttributeError(
            f"{type(self).__name__} has no zero_grad(), as in Keras: call model.zero_grad(), then loss.backward() and "
            "optimizer.apply(gradients, model.trainable_variables)."
        )

    def track(self, variables: Iterable[Any]) -> None:
        """Sets the variables of the next steps. Keeps all state, which follows the variables to their device.

        Raises: ValueError: if the optimizer makes its own variables in `build`, and one of the variables is new.
        """
        variables = list(variables)
        self._choose_update()
        if not self.built:
            self.build(variables)
        elif self._part is not None and self._part.holds(variables) and self._part.is_named():
            self._given = variables
            self._part.look()
            return
        elif type(self).build not in BUILDS and (new := self._unknown(variables)):
            raise ValueError(
                f"{type(self).__name__} was built without the variable(s) {', '.join(map(path_of, new))}; make a new "
                "optimizer, and compile again, after changing what is trainable."
            )
        self._select(self._places(variables))

    def _select(self, places: list[int]) -> None:
        device = self._parameters[places[0]].device if places else None
        for tensors in self.state.values():
            for place in places:
                moved = carried(tensors[place], self._parameters[place])
                if moved is not tensors[place]:
                    tensors[place] = moved
                    self._parts.clear()
        for variable in self._added:
            if device is not None and not isinstance(variable, HostNumber) and variable.value.device != device:
                variable.assign(variable.value.to(device))
        self._part = self._parts.get(tuple(places))
        if self._part is None or not self._part.holds([self._parameters[place] for place in places]):
            if len(self._parts) >= MANY:
                self._parts.clear()
            self._part = Part(self, places)
            self._parts[tuple(places)] = self._part
        self._part.look()
        self.built = True

    def is_fused(self, parameter: Tensor) -> bool:
        """Returns whether `update` is one kernel for parameters like this one, all of one device and dtype."""
        return False

    def decays(self, variable: Any) -> bool:
        """Returns whether weight decay applies to a variable."""
        excluded, pattern = self._undecayed
        parameter = parameter_of(variable)
        if any(parameter is parameter_of(other) for other in excluded):
            return False
        return not (pattern and re.search(pattern, getattr(variable, "name", None) or ""))

    def exclude_from_weight_decay(self, var_list: Any = None, var_names: Sequence[str] | None = None) -> None:
        """Excludes variables from weight decay.

        Args:
            var_list: The variables.
            var_names: Patterns of their names, such as `["bias"]`.
        Raises: ValueError: if the optimizer is built already.
        """
        if self.built:
            raise ValueError("exclude_from_weight_decay() must be called before the first step.")
        self._undecayed = ([*(var_list or ())], "|".join(var_names or ()))

    @property
    def variables(self) -> list[Any]:
        """Step count, learning rate and state, in Keras' order and layout."""
        numbers = [self._iterations]
        if isinstance(self._learning_rate, HostNumber):
            numbers.append(self._learning_rate)
        return [*numbers, *self._slot_views(), *self._added]

    def _slot_views(self) -> list[SlotView]:
        return [
            self._slot_view(slot, place)
            for group in self._groups()
            for place in range(len(self._variables))
            for slot in group
            if slot in self.state and self.state[slot][place] is not None
        ]

    def _slot_view(self, slot: str, place: int) -> SlotView:
        variable = self._variables[place]
        name = f"{path_of(variable).replace('/', '_')}_{slot}"
        return SlotView(self.state[slot], place, self._slot_layout(slot, variable), name, f"{self.name}/{name}")

    def _slot_layout(self, slot: str, variable: Any) -> Layout:
        return layout_of(variable)

    @property
    def _model_variables_moving_average(self) -> list[SlotView]:
        return [
            self._slot_view("average", place)
            for place in range(len(self.state.get("average", ())) if self.use_ema else 0)
        ]

    @property
    def _trainable_variables(self) -> list[Any]:
        return self._variables

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Sets all `variables`.

        Raises: ValueError: if the optimizer is not built, or the values do not fit.
        """
        if not self.built:
            raise ValueError(
                f"{self.name} is not built yet: call build(model.trainable_variables) before set_weights()."
            )
        variables = self.variables
        if len(weights) != len(variables):
            raise ValueError(f"set_weights() got {len(weights)} values for {len(variables)} variables of {self.name}.")
        for variable, weight in zip(variables, weights, strict=True):
            if tuple(variable.shape) != tuple(getattr(weight, "shape", ())):
                raise ValueError(f"{variable.path} has shape {tuple(variable.shape)}; got {tuple(weight.shape)}.")
        for variable, weight in zip(variables, weights, strict=True):
            variable.assign(weight)

    def save_own_variables(self, store: Any) -> None:
        """Puts the state into `store`, as arrays under "0", "1", ..."""
        for number, variable in enumerate(self.variables):
            store[str(number)] = variable.numpy()

    def load_own_variables(self, store: Any) -> None:
        """Loads the state from `store`; warns and does nothing if the number of variables differs."""
        variables = self.variables
        if len(store.keys()) != len(variables):
            warnings.warn(
                f"The state of optimizer {self.name} was not loaded: it has {len(variables)} variables, the saved one "
                f"{len(store.keys())}.",
                stacklevel=2,
            )
            return
        assign_all(f"optimizer {self.name}", variables, store)

    # -------------------------------------------------------------------------------------------------------- steps

    def step(self, gradients: list[Tensor | None]) -> None:
        """Takes one step of the variables given to `track`.

        Args:
            gradients: One for each variable, in torch's layout; None if the loss does not depend on it.
        Raises: ValueError: if all are None.
        """
        if "apply" in self.__dict__ or self.__class__.apply is not APPLY:  # users may set it at any time
            variables = self._current().variables
            self.apply([*map(in_keras, gradients, variables)], variables)
        elif not torch.is_grad_enabled():
            self._step(gradients)
        else:
            set_grad_enabled(False)  # costs a sixth of `with torch.no_grad()`
            try:
                self._step(gradients)
            finally:
                set_grad_enabled(True)

    def _current(self) -> Part:
        if self._part is None:
            self._part = Part(self, list(range(len(self._variables))))
        return self._part

    def _step(self, gradients: Any) -> None:
        part = self._part or self._current()
        try:
            gradients = part.taken(gradients)
        except (AttributeError, RuntimeError, TypeError):  # None; or a sparse one
            part, gradients = part.used(gradients)
            gradients = part.taken(gradients)
        if self.loss_scale_factor is not None:
            gradients = foreach_div(gradients, self.loss_scale_factor)
        if self.gradient_accumulation_steps:
            self._accumulate(part, gradients)
        else:
            self._change(part, gradients)
        if self.use_ema:
            self._average()
        if part.constraints:
            for variable, constraint in part.constraints:
                variable.assign(constraint(variable.read()))
        self._iterations.number += 1

    def _change(self, part: Part, gradients: list[Tensor]) -> None:
        rate = current_rate(self._learning_rate, self._iterations)
        if self.clipnorm:
            gradients = part.clipped(gradients, self.clipnorm)
        elif self.global_clipnorm:
            gradients = clipping.clip_by_global_norm(gradients, self.global_clipnorm)
        elif self.clipvalue:
            gradients = clipping.clip_by_value(gradients, self.clipvalue)
        self._decay(part, rate)
        (self._update_each if self._by_variable else self._update_all)(part, gradients, rate)

    def _decay(self, part: Part, rate: float) -> None:
        if self.weight_decay and part.decayed:
            if part.descends:
                descend(part.decayed, part.decayed, rate * self.weight_decay)
            else:
                foreach_add_(part.decayed, part.decayed, alpha=-rate * self.weight_decay)

    def _update_each(self, part: Part, gradients: list[Tensor], rate: float) -> None:
        for variable, gradient in zip(part.variables, gradients, strict=True):
            self.update_step(layout_of(variable).to_keras(gradient), variable, rate)

    def _update_all(self, part: Part, gradients: list[Tensor], rate: float) -> None:
        if part.pack is None:
            self.update(part.parameters, gradients, part.state, rate)
        else:
            self.update(part.pack.begin(), gradients, part.pieces, rate)
            part.pack.finish()

    def _accumulate(self, part: Part, gradients: list[Tensor]) -> None:
        steps = self.gradient_accumulation_steps
        sums = (part.state if part.pack is None else part.pieces).get("gradient_accumulator")
        if sums is None or steps is None:
            raise self._set_too_late("gradient_accumulation_steps")
        foreach_add_(sums, gradients)
        if (self._iterations.number + 1) % steps == 0:
            self._change(part, list(foreach_div(sums, steps)))
            foreach_zero_(self.state["gradient_accumulator"])

    def _average(self) -> None:
        done = self.local_step - 1
        averages = self.state.get("average")
        if averages is None:
            raise self._set_too_late("use_ema")
        foreach_lerp_(averages, self._parameters, 1 - self.ema_momentum if done else 1.0)
        if self.ema_overwrite_frequency and (done + 1) % self.ema_overwrite_frequency == 0:
            foreach_copy_(self._parameters, averages)

    @torch.no_grad()
    def finalize_variable_values(self, var_list: Sequence[Any]) -> None:
        """Sets the variables to their running means if `use_ema` is on; called at the end of `fit`."""
        if self.use_ema and self.built and "average" in self.state:
            known = self._known()
            places = [known.get(id(parameter_of(variable))) for variable in var_list]
            for variable, place in zip(var_list, places, strict=True):
                if place is not None:
                    parameter_of(variable).copy_(self.state["average"][place])

    def update(
        self, parameters: list[Tensor], gradients: list[Tensor], state: dict[str, list[Any]], learning_rate: float
    ) -> None:
        """Updates parameters and state in place. `self.local_step` is the number of the step, from 1.

        Args:
            parameters: The weights, in torch's layout.
            gradients: Gradient of each weight; must not be changed.
            state: For each slot, a tensor for each weight.
            learning_rate: Learning rate of this step.
        """
        raise NotImplementedError(f"{type(self).__name__} must define update(), or update_step() as in Keras.")

    def update_step(self, gradient: Tensor, variable: Any, learning_rate: Any) -> None:
        """Updates one variable; overridden by subclasses in Keras' style.

        Args:
            gradient: Gradient in Keras' layout, like the variable.
            variable: The variable; `self.assign`, `self.assign_add` and `self.assign_sub` change it.
            learning_rate: Learning rate of this step.
        """
        place = self._get_variable_index(variable)
        gradient = layout_of(variable).to_torch(gradient)
        if type(self)._update_all is not Optimizer._update_all:
            return self._update_all(Part(self, [place]), [gradient], learning_rate)
        state = {slot: [tensors[place]] for slot, tensors in self.state.items()}
        return self.update([parameter_of(variable)], [gradient], state, learning_rate)

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """Takes one step from gradients computed by hand, as in an overridden `train_step`.

        Args:
            grads: Gradient of each variable, in its layout: Keras' for a model's variables (`variable.value.grad`), torch's for
                torch parameters (`parameter.grad`).
            trainable_variables: The variables or parameters; those of the last call if None.
        Raises: ValueError: if there are not as many gradients as variables, all are None, or a shape differs.
        """
        grads = list(grads)
        if not grads:
            return
        if trainable_variables is not None:
            variables = list(trainable_variables)
            if not self.built or not self._current().holds(variables):
                self.track(variables)
        elif not self.built:
            raise ValueError(f"{self.name} is not built yet: pass the variables to apply(), or call build() first.")
        else:
            variables = self._given or self._current().variables
        part = self._current()
        if not len(grads) == len(variables) == len(part.parameters):
            raise ValueError(f"apply() got {len(grads)} gradients for {len(variables)} variables.")
        self._given = variables
        with torch.no_grad():
            self._step(part.fitted(grads, variables))

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, Any]]) -> Any:
        """Calls `apply` with pairs `(gradient, variable)`. Returns: The step count."""
        pairs = list(grads_and_vars)
        self.apply([gradient for gradient, _ in pairs], [variable for _, variable in pairs])
        return self._iterations

    def scale_loss(self, loss: Tensor) -> Tensor:
        """Returns the loss times `loss_scale_factor`, for `backward`."""
        return loss if self.loss_scale_factor is None else loss * self.loss_scale_factor

    @property
    def scales_loss(self) -> bool:
        """True if `scale_loss` changes the loss."""
        replaced = "scale_loss" in self.__dict__ or self.__class__.scale_loss is not SCALE_LOSS
        return replaced or self.loss_scale_factor is not None

    @property
    def reversible(self) -> bool:
        """True if a step changes only `changing` and the count, and does not depend on the count of steps."""
        return not (self.gradient_accumulation_steps or self.ema_overwrite_frequency)

    def changing(self) -> list[Tensor]:
        """Returns the tensors that a step changes in place: weights and state."""
        return [*self._parameters, *(t for tensors in self.state.values() for t in tensors if t is not None)]

    def note_taken_back(self, steps: Tensor | None) -> None:
        """Sets the number of counted steps that were reverted on the device, before `back` is called with it."""
        self._taken_back = steps

    def back(self, steps: int) -> None:
        """Subtracts steps from the count that were reverted on the device."""
        self._iterations.number -= steps
        self._taken_back = None

    # -------------------------------------------------------------------------------------------------------- config

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, with the current learning rate."""
        rate = self._learning_rate
        rate = float(rate) if isinstance(rate, HostNumber) else serialization.serialize_keras_object(rate)
        return in_keras_order({**super().get_config(), "name": self.name, "learning_rate": rate})

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Any:
        """Returns an optimizer made from a `get_config` dict."""
        with serialization.custom_object_scope(custom_objects):
            return super().from_config(config)

    def __getstate__(self) -> dict[str, Any]:
        state = {  # a view of a pack would be pickled with the whole pack
            slot: [tensor.clone() if tensor is not None and is_shared(tensor) else tensor for tensor in tensors]
            for slot, tensors in self.state.items()
        }
        return {**self.__dict__, "_part": None, "_given": [], "_left": [], "_parts": {}, "_packed": {}, "state": state}


APPLY, SCALE_LOSS = Optimizer.apply, Optimizer.scale_loss  # as they are made; users may replace them
UPDATE_STEPS.add(Optimizer.update_step)


class VarListOptimizer(Optimizer):
    """Base of the optimizers that call the argument of `build` `var_list`, as in Keras."""

    def build(self, var_list: Iterable[Any]) -> None:
        """Makes state for the variables; see `Optimizer.build`."""
        super().build(var_list)


BUILDS = (Optimizer.build, VarListOptimizer.build)  # those that add variables at any time
