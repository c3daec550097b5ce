"""One eager step of training, testing or prediction. Nothing in it makes the host wait for the device."""

from __future__ import annotations

import contextlib
import functools
import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn

from kstyle_torch import tree
from kstyle_torch._torch import run_backward
from kstyle_torch.layer import added_losses
from kstyle_torch.layer.base import Layer
from kstyle_torch.layer.changes import changes
from kstyle_torch.layer.module_walk import modules_of
from kstyle_torch.layer.users_calls import call_by_users, has_users_call
from kstyle_torch.losses.base import is_as_made
from kstyle_torch.losses.fused_crossentropy import Head, head_of
from kstyle_torch.mode import running
from kstyle_torch.ownership import is_of_package
from kstyle_torch.training.fit_state import UNKNOWN, StepFunction
from kstyle_torch.training.freed_memory import keep_for_the_next_step
from kstyle_torch.training.protocols import Trainable
from kstyle_torch.training.run import Run, innermost


def run_model(model: Trainable, x: Any, training: bool, batch: Any = None) -> Any:
    """Returns the model's output in a mode.

    Args:
        batch: `(x, y, weight)` of a step, for the pending check of the first batch.
    """
    call, run = running, innermost.run
    if batch is not None and run is not None and run.first_check is not None and run.model is model:
        first, run.first_check = run.first_check, None
        if not first.is_done:
            return first(model, batch[0], batch[1], batch[2], training)
    before = call.mode, call.inside
    call.mode, call.inside = training, True
    try:
        if run is not None and run.model is model and run.forward is not None:
            return run.forward(model, x)
        return called(model, x)
    finally:
        call.mode, call.inside = before


def called(model: Trainable, x: Any) -> Any:
    """Returns the output of the model, in the mode that is set; skips the `__call__` of layers where that is all it does."""
    if has_users_call(type(model)):
        return call_by_users(model, x)
    return nn.Module.__call__(model, x) if type(x) is Tensor else model(x)


@contextlib.contextmanager
def straight(run: Run, hooks: Iterable[Any]) -> Iterator[None]:
    """Runs the model without module calls inside the block, unless a hook or callback could observe them.

    Args:
        hooks: Callbacks between the steps. One that is not part of the package may add hooks to modules at any time.
    """
    keep_for_the_next_step()
    before, run.forward = run.forward, _straight_run(run, hooks)
    try:
        yield
    finally:
        run.forward = before


def _straight_run(run: Run, hooks: Iterable[Any]) -> Callable[[Any, Any], Any] | None:
    model = run.model
    shares_all = model is run.origin or [*model._modules.values()] == [*run.origin._modules.values()]
    plain = shares_all and are_ours(hooks)
    return model.straight_run(bool(getattr(model, "run_eagerly", False))) if plain else None


def watched_batches(run: Run, batches: Iterable[Any], hooks: Iterable[Any]) -> Iterator[Any]:
    """Yields batches produced by user code, which may hook or replace modules meanwhile; used within `straight`.

    Checks before every step whether module calls may still be skipped. That takes a few microseconds, so batches of arrays
    are not wrapped in it. Compiled forward passes have their own check.
    """
    for batch in batches:
        if run.forward is None or isinstance(run.forward, FunctionType):
            run.forward = _straight_run(run, hooks)
        yield batch


@contextlib.contextmanager
def gradients(method: str) -> Iterator[None]:
    """Enables gradients in the block, also inside `torch.no_grad()`.

    Raises: RuntimeError: inside `torch.inference_mode()`, whose tensors cannot have gradients.
    """
    if torch.is_inference_mode_enabled():
        raise RuntimeError(
            f"{method}() was called inside torch.inference_mode(), where there are no gradients; call it outside."
        )
    with torch.enable_grad():
        yield


def are_ours(hooks: Iterable[Any]) -> bool:
    """Returns whether all hooks of callbacks that run between steps are methods of the package's own callbacks."""
    return all(type(hook) is MethodType and is_of_package(hook) for hook in hooks)


def train_step(model: Trainable, x: Any, y: Any, weight: Any) -> tuple[Tensor, Any]:
    """Runs the forward pass, the loss, the backward pass and the optimizer.

    Returns: The loss and the output.
    """
    if (
        not model._compiled.parameters
    ):  # nothing to train: the optimizer's iterations do not count the step either, as in Keras
        clear_losses(model)
        y_pred = run_model(model, x, True, (x, y, weight))
        return model.compute_loss(x, y, y_pred, weight), y_pred
    loss, y_pred, gradients = forward_backward(model, x, y, weight)
    model._compiled.optimizer.step(gradients)
    return loss, y_pred


def forward_backward(
    model: Trainable, x: Any, y: Any, weight: Any, captured: bool = False
) -> tuple[Tensor, Any, list[Tensor | None]]:
    """Runs the forward pass, the loss and the backward pass.

    Args:
        model: Compiled, and prepared for an epoch.
        x: Inputs.
        y: Targets.
        weight: Sample weights.
        captured: Whether to bypass `parameter.grad`, so that a recording does not copy the gradients there.
    Returns: The loss, the output, and the gradients; no parameter keeps its `grad`.
    """
    clear_losses(model)
    y_pred = run_model(model, x, True, (x, y, weight))
    loss, root, gradient = loss_and_start(model, x, y, y_pred, weight)
    call = running
    before, call.mode = call.mode, True  # activation checkpoints run layers again in the backward pass
    try:
        if captured:
            return loss, y_pred, capture(model, root, gradient)
        if root.is_cpu:
            backward(root, gradient)
        else:
            with torch.autograd.set_multithreading_enabled(False):  # the mode is thread-local
                backward(root, gradient)
    finally:
        call.mode = before
    return loss, y_pred, take_gradients(model)


def capture(model: Trainable, root: Tensor, gradient: Tensor | None) -> list[Tensor | None]:
    """Returns the gradients of the parameters from a backward pass that starts at `root`."""
    start = one(root.dtype, root.device) if gradient is None else gradient
    parameters = tuple(model._compiled.parameters)
    return [*run_backward(
        (root,), (start,), False, False, parameters, allow_unreachable=True, accumulate_grad=False
    )]  # fmt: skip


def loss_and_start(model: Trainable, x: Any, y: Any, y_pred: Any, weight: Any) -> tuple[Tensor, Tensor, Tensor | None]:
    """Returns the loss, the tensor where the backward pass starts, and the gradient at that tensor (1 if None)."""
    head, optimizer = model._compiled.head, model._compiled.optimizer
    if head is not None and weight is None and not optimizer.scales_loss and not has_losses(model):
        started: tuple[Tensor, Tensor, Tensor | None] | None = head(y, y_pred)
        if started is not None:
            return started
    loss = model.compute_loss(x, y, y_pred, weight)
    return loss, optimizer.scale_loss(loss) if optimizer.scales_loss else loss, None


def backward(root: Tensor, gradient: Tensor | None = None) -> None:
    """Runs `root.backward(gradient)` without its Python checks, which cost as much as the backward pass of a small layer."""
    if gradient is None:
        if type(root) is not Tensor or root.dim() or not root.requires_grad or not root.is_floating_point():
            root.backward()
            return
        gradient = one(root.dtype, root.device)
    run_backward((root,), (gradient,), False, False, (), allow_unreachable=True, accumulate_grad=True)


@functools.cache
def one(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Returns the gradient of a loss with respect to itself."""
    return torch.ones((), dtype=dtype, device=device)


def take_gradients(model: Trainable) -> list[Tensor | None]:
    """Returns the gradients of the parameters and sets their `grad` to None."""
    gradients = []
    for parameter in model._compiled.parameters:
        gradients.append(parameter.grad)
        parameter.grad = None
    return gradients


def test_step(model: Trainable, x: Any, y: Any, weight: Any) -> tuple[Tensor, Any]:
    """Runs the forward pass and the loss.

    Returns: The loss and the output.
    """
    y_pred = forward(model, x, y, weight)
    return test_loss(model, x, y, y_pred, weight), y_pred


def forward(model: Trainable, x: Any, y: Any, weight: Any) -> Any:
    """Returns the output of a test step, with the losses of the step before cleared."""
    clear_losses(model)
    return run_model(model, x, False, (x, y, weight))


def test_loss(model: Trainable, x: Any, y: Any, y_pred: Any, weight: Any) -> Tensor:
    """Returns the loss in a test."""
    return told_loss(model, x, y, y_pred, weight, training=False)


def told_loss(model: Trainable, x: Any, y: Any, y_pred: Any, weight: Any, training: bool) -> Tensor:
    """Returns the loss from `compute_loss`, which gets the mode if it has a `training` argument."""
    set_here = vars(model).get("compute_loss")  # such a function may hold the model, so nothing is cached of it
    takes = takes_training(type(model).compute_loss) if set_here is None else takes_training.__wrapped__(set_here)
    loss: Tensor = model.compute_loss(x, y, y_pred, weight, **({"training": training} if takes else {}))
    return loss


@functools.cache
def takes_training(compute_loss: Any) -> bool:
    """Returns whether `compute_loss` has a `training` argument; overrides written for early Keras 3 do not."""
    parameters = inspect.signature(compute_loss).parameters
    return "training" in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())


def compute_loss(model: Trainable, y: Any, y_pred: Any, weight: Any) -> Tensor:
    """Returns the sum of the compiled loss, the penalties on weights and the losses that layers added.

    Raises: ValueError: if there are none of these.
    """
    compiled = model._compiled
    if model._fit.weights_key is UNKNOWN:  # called from a custom training loop
        note_losses(model)
    if compiled is not None and compiled.outputs is None:
        compiled.build(model.output_names, y, y_pred)
    given = None if compiled is None else compiled.compute_loss(y, y_pred, weight)
    total: Tensor | None = _with_penalties(model, given)
    for layer in model._fit.loss_layers(model) if has_losses(model) else ():
        for loss in layer._losses:
            total = loss if total is None else total + loss
    if total is None:
        raise ValueError("No loss to compute: pass loss=... to compile(), or call add_loss() in a layer.")
    return total


def late_loss(model: Trainable) -> Callable[[list[Any], list[Tensor], list[Any]], Tensor] | None:
    """Returns a function that computes the test loss of several concatenated batches at once.

    Returns: The function of targets, outputs and weights by output; None if `compute_loss` is overridden, or if the
        loss of the concatenation may differ from the mean over the batches.
    """
    compiled = model._compiled
    losses = [entry.loss for entry in compiled.loss.entries]
    if not losses or model.overrides("compute_loss"):
        return None
    if not all(loss.rowwise and is_as_made(loss) for loss in losses):
        return None
    if not all(loss.reduction in ("sum_over_batch_size", "mean") for loss in losses):
        return None
    # Steps in which a layer adds a loss do not wait, and theirs is none of those that do.
    return lambda *by_output: _with_penalties(model, compiled.loss(*by_output))


def _with_penalties(model: Trainable, total: Any) -> Any:
    for view in model._fit.penalised:
        regularizer = view.regularizer
        if regularizer is not None:
            penalty = regularizer(view.read())
            total = penalty if total is None else total + penalty
    return total


def has_losses(model: Trainable) -> bool:
    """Returns whether a layer has called `add_loss` in this step."""
    held = added_losses.pending if running.losses is None else running.losses
    return bool(held) and any(layer._losses for layer in model._fit.loss_layers(model))


def find_head(model: Trainable) -> Head | None:
    """Returns the fused loss and start of the backward pass, if a single crossentropy is all that is minimised."""
    entries = model._compiled.loss.entries
    if len(entries) != 1 or entries[0].weight is not None or model._fit.penalised or model.overrides("compute_loss"):
        return None
    return head_of(entries[0].loss) if is_as_made(entries[0].loss) else None


def clear_losses(model: Trainable) -> None:
    """Clears the losses that `add_loss` collected in the last step."""
    by_layer = running.losses
    if by_layer is None:
        for layer in model._fit.loss_layers(model) if added_losses.pending else ():
            layer._losses.clear()
    elif by_layer:
        by_layer.clear()


def prepare(model: Trainable) -> None:
    """Updates the trained weights and their penalties for an epoch; a callback may have changed them."""
    compiled = model._compiled
    _track(model)
    if not compiled.views:
        warnings.warn("The model does not have any trainable weights.", stacklevel=5)
    compiled.head = find_head(model)


def _track(model: Trainable) -> None:
    """Updates the trained weights and the optimizer's state, and drops gradients that users' code has left."""
    note_losses(model)
    compiled, views = model._compiled, model._fit.trained
    if compiled.views is not views:
        compiled.views, compiled.parameters = views, [view.parameter for view in views]
    if views:
        compiled.optimizer.track(views)
    for parameter in compiled.parameters:
        parameter.grad = None


def what_is_trained(model: Trainable) -> tuple[Any, ...]:
    """Returns a cheap key that changes when weights join the model, are cast, or get another optimizer."""
    compiled = model._compiled
    return changes.count, compiled.optimizer, [parameter.dtype for parameter in compiled.parameters]


def follow(model: Trainable, changed: bool) -> None:
    """Updates what `prepare` has set for an epoch, after users' code ran between two steps.

    Args:
        changed: Whether `what_is_trained` has changed.
    """
    compiled = model._compiled
    if torch.is_autocast_enabled(compiled.parameters[0].device.type if compiled.parameters else "cpu"):
        torch.clear_autocast_cache()  # which holds the weights of the step before
    if compiled.head is not None:
        compiled.head = find_head(model)
    if changed:
        _track(model)
    else:
        for (
            parameter
        ) in compiled.parameters:  # else gradients of a user's `backward` would be added to those of the step
            parameter.grad = None


def what_counts(modules: list[nn.Module]) -> Any:
    """Returns a cache key that changes when the set of weights, or which of them are trained, may have changed."""
    weights = [  # with names: pruning moves a parameter to another one
        (name, id(tensor), tensor.requires_grad) for module in modules for name, tensor in module._parameters.items()
        if tensor is not None
    ]  # fmt: skip
    return changes.count, [*map(id, modules)], weights


def note_losses(model: Trainable) -> None:
    """Updates the cached lists of trained weights, penalties and layers that may add losses, if their key has changed."""
    modules = modules_of(model)
    now = what_counts(modules)
    fit = model._fit
    if fit.weights_key is UNKNOWN or fit.weights_key != now:
        fit.weights_key, fit.trained = now, model.trainable_weights
        fit.penalised = [view for view in model.weights if view.trainable and view.regularizer is not None]
        fit.layers_below = [module for module in modules if module is not model and isinstance(module, Layer)]


def owns_step(model: Trainable, kind: str, *more: str) -> bool:
    """Returns whether a user has overridden or set a step, or has made or set a function for it.

    Args:
        kind: "train", "test" or "predict".
        more: Other methods.
    """
    if model.overrides(f"{kind}_step", f"make_{kind}_function", *more):
        return True
    function = getattr(model._fit, f"{kind}_function")
    return function is not None and type(function) is not StepFunction


def make_function(model: Trainable, kind: str) -> None:
    """Calls an overridden `make_train_function`, or its like."""
    if model.overrides(f"make_{kind}_function"):
        getattr(model, f"make_{kind}_function")()


def user_step(run: Run, kind: str, batch: Any) -> Any:
    """Runs a step of the user's on the batch in Keras' form, without trailing None."""
    clear_losses(run.model)
    return called_step(run, kind, packed(*batch))


def called_step(run: Run, kind: str, data: Any) -> Any:
    """Returns the result of the step's function, or of the step itself if it has none."""
    function = getattr(run.origin._fit, f"{kind}_function")
    if function is None or type(function) is StepFunction:
        return getattr(run.model, f"{kind}_step")(data)
    return function([data])


def noted(model: Trainable, loss: Tensor, y_pred: Any, x: Any, y: Any, weight: Any) -> dict[str, Any]:
    """Takes a step into loss tracker and metrics. Returns: The logs."""
    rows = next(leaf.shape[0] for leaf in tree.flatten(x if y_pred is None else y_pred) if leaf is not None)
    model._compiled.loss_tracker.update_state(loss.detach(), rows)
    logs: dict[str, Any] = model.compute_metrics(x, y, y_pred, weight)
    return logs


def packed(x: Any, y: Any = None, weight: Any = None) -> Any:
    """Returns `(x, y, weight)`, `(x, y)`, or x; a nest of inputs alone is `(x,)`, as in Keras."""
    if weight is not None:
        return x, y, weight
    if y is not None:
        return x, y
    return (x,) if isinstance(x, (tuple, list)) else x


@torch.no_grad()
def predict_step(model: Trainable, x: Any) -> Any:
    """Returns the output, detached from the autograd graph."""
    y_pred = run_model(model, x, training=False)
    return y_pred.detach() if isinstance(y_pred, Tensor) else y_pred
