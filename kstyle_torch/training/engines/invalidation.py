"""Change detection for all tiers: the only place that decides whether recorded or compiled code is still valid.

It compares identities, versions and owners, never the names of attributes, which users choose freely. State that the
package itself changes during training lives in objects that keep their identity: `model._fit`, and the containers of
layers whose types are `OwnList` and `OwnDict`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import has_torch_function
from torch.utils.hooks import RemovableHandle

from kstyle_torch import config, tree
from kstyle_torch._torch import (
    KERNEL_SETTINGS,
    after_hooks,
    gradient_hooks,
    has_global_hook,
    num_dispatch_modes,
    saved_tensors_hooks,
    why_missing,
)
from kstyle_torch.layer.added_weights import TrainableWeight
from kstyle_torch.layer.base import Layer, regularize_activity
from kstyle_torch.layer.changes import changes
from kstyle_torch.layer.hooks import anybody_listens
from kstyle_torch.layer.module_walk import modules_of
from kstyle_torch.layer.users_calls import users_call
from kstyle_torch.losses.base import Loss
from kstyle_torch.ownership import is_ours
from kstyle_torch.symbolic.graph import graph_of
from kstyle_torch.training.engines.collectives import all_modules, exchanging_module
from kstyle_torch.training.engines.torch_functions import torch_functions, users_function
from kstyle_torch.training.engines.user_reads import is_same, reads_of
from kstyle_torch.training.fit_state import FitState, OfModel
from kstyle_torch.training.protocols import Trainable

SETTINGS: tuple[Callable[[], Any], ...] = (  # of the process; they affect which operators a step calls
    config.epsilon,
    config.floatx,
    config.matmul,
    torch.get_default_dtype,
    torch.are_deterministic_algorithms_enabled,
    *KERNEL_SETTINGS,
)
NOTHING = (None,)  # arguments without __torch_function__
ORDINARY: tuple[type, ...] = (nn.Parameter, TrainableWeight)
ON_REQUEST = {"cpu", "cuda"}
HOW_READ = operator.attrgetter("requires_grad", "dtype")  # with the next three: all that calls read of a weight
ADDRESS, STRIDES, SIZE = Tensor.data_ptr, Tensor.stride, Tensor.numel


def why_not(model: Trainable, asked: bool) -> str | None:
    """Returns why steps of the model cannot be recorded at all; None if they may be."""
    compiled = model._compiled
    missing = why_missing("recording")
    if missing is not None:
        return missing
    if model.overrides("train_step"):
        return "it has a train_step() of its own"
    replaced = users_function()
    if replaced is not None:
        return f"{replaced}() is the user's"
    if any(type(parameter) not in ORDINARY for parameter in compiled.parameters):
        return "a weight is not an ordinary parameter"
    devices = {tensor.device.type for tensor in (*model.parameters(), *model.buffers())}
    if len(devices) > 1 or not devices <= (ON_REQUEST if asked else {"cpu"}):
        return f"recording is on by default only for the CPU, and the model is on {', '.join(sorted(devices))}"
    if watched():
        return "autocast, anomaly detection or another mode of torch is on"
    exchanging = exchanging_module(model)
    if exchanging is not None:
        return f"{type(exchanging).__name__} exchanges data with other processes"
    called = users_call(all_modules(model))
    if called is not None:
        return f"{called}() is the user's"
    if anybody_listens(all_modules(model), besides=(regularize_activity,)):
        return "there are hooks"
    if any(gradient_hooks(weight) or after_hooks(weight) for weight in model.parameters()):
        return "there are hooks on weights"
    return None if asked else foreign(model)


def watched() -> bool:
    """Returns whether a global mode or hook changes or observes torch calls: autocast, anomaly detection and the like."""
    return bool(
        torch.is_anomaly_enabled()
        or num_dispatch_modes()
        or has_torch_function(NOTHING)  # is a function mode on?
        or torch.is_autocast_enabled("cpu")
        or torch.is_autocast_enabled("cuda")
        or has_global_hook()
        or saved_tensors_hooks(True) is not None
        or not torch.is_grad_enabled()
    )


def foreign(model: Trainable) -> str | None:
    """Returns a message about user code in a step, whose branches a recording would freeze; None if there is none."""
    compiled = model._compiled
    if model.overrides("compute_loss"):
        return "it has a compute_loss() of its own"
    if not is_ours(compiled.optimizer.scale_loss):
        return "scale_loss() of its optimizer is the user's"
    for part in (*model.modules(), *_losses(model), *penalties(model)):
        if not is_ours(type(part)):
            return f"{type(part).__name__} is the user's"
        if not all(map(is_ours, calls_of(type(part)))):
            return f"{type(part).__name__}.call is the user's"
        graph = graph_of(part)
        targets = [call.target for call in graph.calls] if graph is not None else []
        values = [value for name, value in vars(part).items() if not name.endswith(("_initializer", "_constraint"))]
        for value in (*values, *targets):
            if callable(value) and not is_ours(value):
                return f"{getattr(value, '__name__', value)!r} is the user's"
    return None


def calls_of(cls: Any) -> tuple[Any, ...]:
    """Returns the functions that a class runs in a call; users may set others, of losses and regularizers too."""
    return cls.__call__, getattr(cls, "call", None), getattr(cls, "forward", None)


def _losses(model: Trainable) -> list[Any]:
    return [entry.loss for entry in model._compiled.loss.entries]


def penalties(model: Trainable) -> list[Any]:
    """Returns the regularizers of trained weights and of outputs."""
    of_outputs = (layer.activity_regularizer for layer in model._fit.loss_layers(model))
    return [view.regularizer for view in model._fit.penalised] + [each for each in of_outputs if each is not None]


def marks() -> tuple[int, int]:
    """Returns two counters: of attributes set on our layers, and of hooks registered in the process."""
    return changes.count, RemovableHandle.next_id


class Snapshot(OfModel):
    """All assumptions that recorded and compiled steps or forward passes make about a model.

    It keeps references to objects that it compares by identity, so that no new object can get the same id.

    Args:
        model: Compiled in Keras' sense.
        training: Whether to include losses, penalties and optimizer.
        users: Whether the step may contain user code, so that the values it reads must be compared too.
        parts: Further objects whose code is part of a step, such as metrics.
    """

    def __init__(self, model: Trainable, training: bool = True, users: bool = True, parts: Iterable[Any] = ()):
        super().__init__(model)
        self.training, self.compiled = training, model._compiled
        modules = modules_of(model)
        self.modules = modules[1:]
        self.below = [vars(module) for module in self.modules]
        self.held = [held for each in modules for held in (each._modules, each._parameters, each._buffers)]
        self.parts = [*parts]  # beside the modules
        others = [module for module in modules if not isinstance(module, Layer)]
        others += [*_losses(model), *penalties(model)] if training else []
        self.others = [vars(other) for other in others if hasattr(other, "__dict__")]
        self.filled = self.others + [held for held in self.held if held]  # `_numbers` sees when others are filled
        self.weights = [each for module in modules for each in module._parameters.values() if each is not None]
        self.placed = [weight for weight in self.weights if type(weight) in ORDINARY]  # others may lack an address
        roots = _roots(model, modules, training, self.parts) if users else []
        self.roots = [root for root in roots if root is not model]
        self.looks_into_model = len(self.roots) < len(roots)
        self.objects, self.numbers, self.functions = self._objects(), self._numbers(), torch_functions()
        self.attributes, self.reads = self._attributes(), self._reads() if self.has_reads else []

    @property
    def has_reads(self) -> bool:
        """True if the step contains user code."""
        return bool(self.roots) or self.looks_into_model

    def _fields(self) -> list[dict[str, Any]]:
        """Returns the attributes of the model and of all modules below."""
        return [vars(self._model()), *self.below]

    def _objects(self) -> list[Any]:
        """Returns the objects compared by identity: classes, their functions, children, weights, attributes of others."""
        model = self.model
        # users may change the class of one, or the functions of a class
        parts = [model, *self.modules, *self.parts]
        if self.training:
            parts += [*_losses(model), *penalties(model)]
        found: list[Any] = [*map(type, parts)]
        for cls in dict.fromkeys(found):
            found += calls_of(cls)
        for each in self.filled:  # includes `training` of plain torch modules; the mode of our layers is per call
            found += each.values()
        if self.training:
            found += penalties(model)
            found += _losses(model)
            optimizer = self.compiled.optimizer
            found += [optimizer, type(optimizer).scale_loss, vars(optimizer).get("scale_loss")]
            found += [type(model).compute_loss, nn.Module.__call__, Layer.__call__, Loss.__call__]
        return found

    def _numbers(self) -> list[Any]:
        """Returns the memory layout of the weights, the sizes of the modules' tables, and settings of the process."""
        numbers: list[Any] = [*map(len, self.held), *map(HOW_READ, self.weights)]
        numbers += (*map(ADDRESS, self.placed), *map(STRIDES, self.placed), *map(SIZE, self.placed))
        numbers += [setting() for setting in SETTINGS]
        return [*numbers, self.compiled.optimizer.loss_scale_factor] if self.training else numbers

    def _attributes(self) -> list[Any]:
        """Returns the attributes of all modules except `FitState`; needed only if the change counters moved, see `marks`."""
        values = [value for fields in self._fields() for value in fields.values()]
        return [value for value in values if type(value) is not FitState]

    def _reads(self) -> list[Any]:
        """Returns the values that user code in the step reads."""
        model = self.model
        known = [self.compiled.optimizer, model._compile_arguments, *modules_of(model)]
        for held in self.held:
            known += held.values()
        found = reads_of([model, *self.roots] if self.looks_into_model else self.roots, {*map(id, known)})
        found = [value for value in found if type(value) is not FitState]
        return [self._model if value is model else value for value in found]

    def still_holds(self, attributes: bool = True, functions: bool = True) -> bool:
        """Returns whether everything is as it was.

        Args:
            attributes: Whether to compare attributes of our layers too; not needed while `marks` is unchanged.
            functions: Whether to compare those of torch.
        """
        return (
            self.model._compiled is self.compiled
            and is_same(self.objects, self._objects())
            and self.numbers == self._numbers()
            and (not functions or self.functions == torch_functions())
            and not (self.training and watched())
            and (not attributes or is_same(self.attributes, self._attributes()))
            and (not self.has_reads or is_same(self.reads, self._reads()))
        )


def _roots(model: Trainable, modules: list[nn.Module], training: bool, parts: Iterable[Any]) -> list[Any]:
    """Returns the objects defined by the user whose code runs in a step."""
    owners = [*modules, *parts]
    if training:
        owners += [*_losses(model), *penalties(model), *(view.constraint for view in model._fit.trained)]
    return user_code(owners)


def user_code(owners: Iterable[Any]) -> list[Any]:
    """Returns those of some objects that users have defined, and the user-defined functions that they hold."""
    owners = [*owners]
    found = [*owners]
    for owner in owners:
        graph = graph_of(owner)
        found += [call.target for call in graph.calls] if graph is not None else []
        found += [value for value in getattr(owner, "__dict__", {}).values() if callable(value)]
        found += calls_of(type(owner))
    return [root for root in {id(each): each for each in found}.values() if not is_ours(root)]


def acts_between_steps(model: Trainable) -> bool:
    """Returns whether a step calls users' code beside the passes: a metric, a constraint, the optimizer or its schedule.

    Like a callback, it may change the model, set hooks or replace functions.
    """
    compiled = model._compiled
    optimizer, metrics = compiled.optimizer, [entry.metric for entry in compiled.metrics.entries]
    methods = [optimizer.apply, *(metric.update_state for metric in (compiled.loss_tracker, *metrics))]
    parts = [*methods, *metrics, optimizer, *tree.flatten([compiled.metrics.spec, compiled.metrics.weighted_spec])]
    return bool(user_code([*parts, *(view.constraint for view in model._fit.trained)]))


class Standing(OfModel):
    """Assumptions of recorded or compiled code about a model, and the check whether they still hold.

    Args:
        model: Compiled in Keras' sense.
        asked: Whether it may contain user code.
        training: See `Snapshot`.
    """

    def __init__(self, model: Trainable, asked: bool = True, training: bool = True):
        super().__init__(model)
        self.asked, self.training = asked, training
        self.snapshot: Snapshot | None = None
        self.facts: Any = None
        self.marks = (-1, -1)

    def note(self, facts: Any = None, parts: Iterable[Any] = ()) -> None:
        """Takes a snapshot of the model.

        Args:
            facts: Further assumptions, compared by value.
            parts: See `Snapshot`.
        """
        self.facts, self.marks = facts, marks()
        self.snapshot = Snapshot(self.model, self.training, self.asked, parts)

    @property
    def is_unmarked(self) -> bool:
        """True if no layer attribute was set and no hook added; sufficient if only steps have run since the last check."""
        return marks() == self.marks

    def holds(self, facts: Any = None, functions: bool = True) -> bool:
        """Returns whether nothing has changed since `note`.

        Args:
            facts: See `note`.
            functions: Whether to compare torch's functions too, which takes longer than all the rest; not needed between
                steps unless users' code runs there.
        """
        now = marks()
        if self.snapshot is None or facts != self.facts:
            return False
        if self.training and now[1] != self.marks[1] and why_not(self.model, self.asked) is not None:
            return False
        if not self.snapshot.still_holds(now != self.marks, functions):
            return False
        self.marks = now  # attributes were set, but to the same values
        return True
