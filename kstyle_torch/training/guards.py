"""What a recorded step takes for granted: when a step may be recorded at all, and how to see that something has changed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import _has_any_global_hook
from torch.utils.hooks import RemovableHandle

from kstyle_torch import config
from kstyle_torch.layers.base import Layer, changes, regularize_activity
from kstyle_torch.layers.listeners import anybody_listens
from kstyle_torch.layers.walk import modules_of
from kstyle_torch.layers.weights import TrainableWeight

SETTINGS: tuple[Callable[[], Any], ...] = (  # of the process; they decide which calls a step makes
    config.epsilon,
    config.floatx,
    torch.get_default_dtype,
    torch.are_deterministic_algorithms_enabled,
    torch._C._get_mkldnn_enabled,
    torch._C._get_cudnn_enabled,
    torch._C._get_flash_sdp_enabled,
    torch._C._get_mem_efficient_sdp_enabled,
    torch._C._get_math_sdp_enabled,
)
ORDINARY: tuple[type, ...] = (nn.Parameter, TrainableWeight)
ON_REQUEST = {"cpu", "cuda"}
OURS = ("kstyle_torch", "torch", "builtins", "_operator", "math")
# of a module, what training changes without changing what a step computes
FLEETING = frozenset(
    """
    _added_losses _mode _evals _follows
    _views _rows _calls _penalised _loss_layers _meter history _compiled stop_training stop_evaluating
    stop_predicting _fast_step _fast_epoch _parameters _buffers _modules _masked_runs _fingerprint _seen _trained _straight
    _run_straight _readers _tried _tables _fast_forward _known_weights
    """.split()
)


def why_not(model: Any, asked: bool) -> str | None:
    """Why steps of the model cannot be recorded at all; None if they may be."""
    compiled = model._compiled
    if model.overrides("train_step"):
        return "it has a train_step() of its own"
    if any(type(parameter) not in ORDINARY for parameter in compiled.parameters):
        return "a weight is no ordinary parameter"
    devices = {tensor.device.type for tensor in (*model.parameters(), *model.buffers())}
    if len(devices) > 1 or not devices <= (ON_REQUEST if asked else {"cpu"}):
        return "it is on a device where that has not been tried enough"
    if watched():
        return "autocast, anomaly detection or another mode of torch is on"
    if anybody_listens(model.modules(), besides=(regularize_activity,)):
        return "there are hooks"
    if any(weight._backward_hooks or weight._post_accumulate_grad_hooks for weight in model.parameters()):
        return "there are hooks on weights"
    return None if asked else foreign(model)


def watched() -> bool:
    """Whether something that is not in the model changes or watches the calls of torch."""
    return bool(
        torch.is_anomaly_enabled()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._len_torch_function_stack()
        or torch.is_autocast_enabled("cpu")
        or torch.is_autocast_enabled("cuda")
        or _has_any_global_hook()
        or not torch.is_grad_enabled()
    )


def foreign(model: Any) -> str | None:
    """Why code that is not ours would be recorded, with all decisions that it makes."""
    if model.overrides("compute_loss"):
        return "it has a compute_loss() of its own"
    parts = [*model.modules(), *(entry.loss for entry in model._compiled.loss.entries)]
    parts += penalties(model)
    for part in parts:
        if not _is_ours(type(part)):
            return f"{type(part).__name__} is the user's"
        graph = getattr(part, "graph", None)
        targets = [call.target for call in graph.calls] if graph is not None else []
        values = [value for name, value in vars(part).items() if not name.endswith(("_initializer", "_constraint"))]
        for value in (*values, *targets):
            if callable(value) and not _is_ours(value):
                return f"{getattr(value, '__name__', value)!r} is the user's"
    return None


def _is_ours(value: Any) -> bool:
    if isinstance(value, functools.partial):
        return all(_is_ours(part) for part in (value.func, *value.args, *value.keywords.values()) if callable(part))
    home = getattr(value, "__module__", None) or getattr(type(value), "__module__", None) or ""
    return str(home).split(".")[0] in OURS


def marks() -> tuple[int, int]:
    """Two counts that tell of attributes of our layers that were set, and of hooks."""
    return changes.count, RemovableHandle.next_id


def summary(model: Any) -> list[Any]:
    """The settings of the process, mode and weights of all modules, and the attributes of all that is no layer of ours (of
    layers, changes are counted).
    """
    losses = [entry.loss for entry in model._compiled.loss.entries]
    others = [*losses, *penalties(model)]
    optimizer = model._compiled.optimizer
    process = [setting() for setting in SETTINGS]
    attributes = [(id(other), [*_attributes(getattr(other, "__dict__", {}))]) for other in others]
    return [process, id(optimizer), optimizer.loss_scale_factor, attributes] + [
        (
            id(module),
            vars(module).get("training"),  # of modules that are not ours; the mode of ours belongs to the call
            [(id(tensor), tensor is not None and tensor.requires_grad) for tensor in module._parameters.values()],
            None if isinstance(module, Layer) else [*_attributes(vars(module))],
        )
        for module in modules_of(model)
    ]


def _facts(tensor: Any) -> Any:
    """Of a weight: what decides how calls read it."""
    return None if tensor is None else (id(tensor), tensor.requires_grad, tensor.dtype, tensor.shape, tensor.stride())


def penalties(model: Any) -> list[Any]:
    """What penalises weights and outputs."""
    of_outputs = (layer.__dict__.get("activity_regularizer") for layer in model._fit.loss_layers)
    return [view.regularizer for view in model._fit.penalised] + [each for each in of_outputs if each is not None]


def fingerprint(model: nn.Module) -> list[Any]:
    """All attributes of all modules, losses and penalties: numbers and texts by value, other things by what they are."""
    return [summary(model), [([*_attributes(vars(module))], [*_held(module)]) for module in model.modules()]]


def _attributes(fields: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if name not in FLEETING:
            yield name, value if type(value) in (int, float, bool, str, tuple, type(None)) else id(value)


def _held(module: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, tensor in (*module._parameters.items(), *module._buffers.items()):
        yield name, _facts(tensor)


class Standing:
    """What compiled code takes for granted of a model, and whether it still holds.

    Args:
        model: Compiled in Keras' sense.
    """

    def __init__(self, model: Any):
        self.model = model
        self.facts: Any = None
        self.fingerprint: Any = None
        self.marks = (-1, -1)

    def note(self, facts: Any) -> None:
        """Takes note of the model as it is, and of what can be told quickly."""
        self.facts, self.marks, self.fingerprint = facts, marks(), fingerprint(self.model)

    def holds(self, facts: Any) -> bool:
        """Whether all is as it was noted."""
        if facts != self.facts:
            return False
        if marks() == self.marks:
            return True
        if why_not(self.model, asked=True) is not None or fingerprint(self.model) != self.fingerprint:
            return False
        self.marks = marks()  # it was something else that changed, or nothing that counts
        return True
