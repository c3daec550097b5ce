"""Validation of data against the model and the loss, before the first step. An error leaves all state unchanged."""

from __future__ import annotations

import contextlib
import copy
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from kstyle_torch import tree
from kstyle_torch.callbacks.snapshot import cells_of, read_cell, write_cell
from kstyle_torch.data.batches import Batch
from kstyle_torch.data.checks import warn_of_nan
from kstyle_torch.draws import random_state, set_random_state
from kstyle_torch.layer.base import Layer, regularize_activity
from kstyle_torch.layer.hooks import anybody_listens
from kstyle_torch.layer.module_walk import modules_of
from kstyle_torch.losses import BinaryCrossentropy, BinaryFocalCrossentropy
from kstyle_torch.symbolic.infer import is_separable, isolated, untouched
from kstyle_torch.training import step as steps
from kstyle_torch.training.engines.invalidation import Standing, user_code
from kstyle_torch.training.objective import Objective, needs_targets
from kstyle_torch.training.protocols import Trainable
from kstyle_torch.training.run import innermost, others_run

SAMPLE_ROWS = 32
FEW = 16  # outputs; with fewer, a check for probabilities is inconclusive
_warned: weakref.WeakSet[Any] = weakref.WeakSet()  # losses that were warned about


def first_rows(structure: Any, device: torch.device, rows: int | None = SAMPLE_ROWS) -> Any:
    """Returns the first rows of every array (all if None), on the device."""
    return tree.map_structure(lambda leaf: None if leaf is None else leaf[:rows].to(device), structure)


def check_data(
    model: Trainable, batch: Batch, device: torch.device, batch_size: int | None = None, needs_loss: bool = True
) -> FirstBatch | None:
    """Builds the model, losses and metrics for the data, validates the data, and tries the loss on a few rows.

    A built model with user code or hooks is not called for this, since users may rely on one call per batch. The check is
    then deferred to the first step, whose output it uses.

    Args:
        batch_size: Rows of a training step; all of the batch if None. Stateful layers accept no other number of rows.
    Returns: The deferred check; None if everything has been checked.
    Raises: ValueError: if the data does not fit the model or the loss.
    """
    layout, fit = _layout(model, batch, device, needs_loss), model._fit
    if model.graph is None and not (fit.checked is not None and fit.checked.holds()):  # its output may have changed
        fit.tried.clear()
        fit.checked = Standing(model, training=False)
        fit.checked.note()
    disturbs = model._compiled.outputs is not None and others_run(model)  # a trial would change their state
    if layout in fit.tried or disturbs:
        _look_through(model._compiled, batch)
        return None
    is_stateful = any(getattr(module, "stateful", False) for module in model.modules())
    first = FirstBatch(model, batch, layout, needs_loss)
    if _is_called_once_per_batch(model):
        return first
    first.try_now(*first_rows(batch, device, batch_size if is_stateful else SAMPLE_ROWS))
    return None


def _is_called_once_per_batch(model: Trainable) -> bool:
    """Returns whether the model is built, and user code or hooks could observe an additional call."""
    modules = modules_of(model)
    if not all(module.built for module in modules if isinstance(module, Layer)):
        return False
    if any(map(is_lazy, model.parameters())) or model.steps_per_execution == "epoch":
        return False
    return model.graph is None or anybody_listens(modules, (regularize_activity,)) or bool(user_code(modules[1:]))


class FirstBatch:
    """Check of data and loss against the output of a model.

    Args:
        model: Compiled.
        batch: All of the data, or the first batch of a stream.
        layout: See `_layout`.
        needs_loss: Whether losses must have targets.
    """

    def __init__(self, model: Trainable, batch: Batch, layout: Any, needs_loss: bool):
        self.model, self.batch, self.layout, self.needs_loss = model, batch, layout, needs_loss
        self.random = random_state()
        self.is_done = False

    def try_now(self, x: Any, y: Any, weight: Any) -> None:
        """Runs the model on a few rows for the check alone, which also builds it."""
        model, begun = self.model, self.model._fit.begun
        # weights that are still to be made are made in the model itself
        apart = is_separable(model)
        trial = isolated(model) if apart else untouched(model, lambda: model._fit.begun != begun or others_run(model))
        with trial as held, torch.no_grad():
            try:
                y_pred = held(x)
            except NotImplementedError:  # a model without `call`, trained by its own train_step
                if not steps.owns_step(self.model, "train"):
                    raise
                return
            self._check(self.model, y, y_pred, weight)

    def try_rows(self) -> None:
        """Makes the check on the first rows of the data, for callers that need losses and metrics before the first step."""
        self.try_now(*first_rows(self.batch, self.model._where()))

    def __call__(self, model: Trainable, x: Any, y: Any, weight: Any, training: bool) -> Any:
        """Runs the model for a step, and checks the output before it is used.

        Returns: The output.
        Raises: ValueError: if the data does not fit the loss; weights, buffers and random state are then restored.
        """
        buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
        cells = [(cell, read_cell(cell)) for cell in cells_of(model).values()]
        try:
            y_pred = steps.run_model(model, x, training)
            with torch.no_grad():
                self._check(model, y, y_pred, weight)
                if model is not self.model:  # a copy, since another thread uses the model
                    self.model._compiled.build(model.output_names, y, y_pred)
        except Exception:
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)
            for cell, state in cells:
                write_cell(cell, state)
            set_random_state(self.random)
            raise
        return y_pred

    def _check(self, model: Trainable, y: Any, y_pred: Any, weight: Any) -> None:
        compiled = model._compiled
        if y_pred is None and model.overrides("compute_loss"):
            self.is_done = True
            return
        with _undone(compiled):
            is_new = compiled.outputs is None
            compiled.build(model.output_names, y, y_pred)
            if any(output is None for output in compiled.outputs.flat(y_pred)):
                raise ValueError(
                    f"call() of {self.model.name} returned None, of which there is no loss; return tensors."
                )
            compiled.output_shapes = [output.shape for output in compiled.outputs.flat(y_pred)]
            _look_through(compiled, self.batch)
            targets, outputs, weights = compiled.by_output(y, y_pred, weight)
            _try_losses(compiled, targets, outputs, weights)
            _try_metrics(compiled, targets, outputs)
        model._fit.tried.add(self.layout)
        if is_new:  # the epoch began before losses and metrics were built
            _catch_up(model)
        self.is_done = True


def _catch_up(model: Trainable) -> None:
    """Prepares new losses and metrics for the running epoch, as those that exist when it begins are."""
    compiled, run = model._compiled, innermost.run
    compiled.head = steps.find_head(model)
    for metric in (compiled.metrics, *compiled.trackers):
        metric.to(model._where())
    if run is not None and run.meter is not None:
        run.meter.begin()


def check_given(compiled: Objective, x: Any, y: Any) -> None:
    """Raises a ValueError for a loss without targets."""
    losses = [spec for spec in tree.flatten(compiled.loss.spec) if spec is not None]
    if y is not None or not losses:
        return
    named = isinstance(x, dict)
    hint = f" x holds {', '.join(map(repr, x))}; targets in it must be named 'labels' or 'label'." if named else ""
    raise ValueError(f"Loss {getattr(losses[0], 'name', losses[0])!r} needs targets, but there is no y.{hint}")


def _layout(model: Trainable, batch: Batch, device: torch.device, needs_loss: bool) -> Any:
    """Returns a cache key of everything, except the values of the batch, that decides whether a model accepts it."""
    leaves = [leaf if leaf is None else (leaf.shape[1:], leaf.dtype) for leaf in tree.flatten(batch)]
    structure = tree.map_structure(lambda leaf: None, batch)
    return model._emitted, model._compiled, device, needs_loss, repr(structure), *leaves


def _look_through(compiled: Objective, batch: Batch) -> None:
    warn_of_nan(batch[0], "x")
    warn_of_nan(batch[1], "y")
    if batch[1] is not None:
        _check_labels(compiled, batch[1])


@contextlib.contextmanager
def _undone(compiled: Objective) -> Iterator[None]:
    """Discards losses and metrics built for data that is then rejected: the next data may have other shapes."""
    was_built = compiled.outputs is not None
    try:
        yield
    except Exception:
        if not was_built:
            compiled.outputs, compiled.metrics.built = None, False
        raise


def _try_losses(compiled: Objective, targets: list[Any], outputs: list[Tensor], weights: list[Any]) -> None:
    for place, loss, _, _ in compiled.loss.entries:
        if targets[place] is None:
            raise ValueError(needs_targets(loss.name))
        try:
            value = loss(targets[place], outputs[place], weights[place])
        except ValueError as error:
            name = compiled.outputs.names[place]
            raise ValueError(f"{error} This is output {name!r}." if name else str(error)) from error
        if value.ndim:
            raise ValueError(
                f"Loss {loss.name!r} gives {tuple(value.shape)} values; training needs one number: leave reduction at "
                "'sum_over_batch_size', or reduce it in a compute_loss() of the model."
            )
        _warn_of_probabilities(loss, outputs[place])


def _warn_of_probabilities(loss: Any, output: Tensor) -> None:
    """Warns once if a loss with `from_logits=True` gets the output of a sigmoid or softmax."""
    if not getattr(loss, "from_logits", False) or output.numel() < FEW or loss in _warned:
        return
    looks_so = bool((output.min() >= 0) & (output.max() <= 1))
    if looks_so and output.shape[-1] > 1 and not isinstance(loss, (BinaryCrossentropy, BinaryFocalCrossentropy)):
        looks_so = bool(((output.sum(loss.axis) - 1).abs() < 1e-3).all())
    if looks_so:
        _warned.add(loss)
        warnings.warn(
            f"Loss {loss.name!r} has from_logits=True, but the output looks like probabilities (from "
            f"{float(output.min()):.3g} to {float(output.max()):.3g}): leave out the sigmoid or softmax of the last "
            "layer, or from_logits=True.",
            stacklevel=2,
        )


def _try_metrics(compiled: Objective, targets: list[Any], outputs: list[Tensor]) -> None:
    """Tries metrics that are updated only after many steps, so that their errors come before training."""
    for entry in compiled.metrics.entries:
        if entry.metric.rowwise and targets[entry.output] is not None:
            metric = copy.deepcopy(entry.metric)  # another thread may be using it
            metric.to(outputs[entry.output].device)
            metric.update_state(targets[entry.output], outputs[entry.output])


def _check_labels(compiled: Objective, y: Any) -> None:
    targets = compiled.targets(y)
    for place, loss, _, _ in compiled.loss.entries:
        if isinstance(targets[place], Tensor):
            loss.check_targets(targets[place], compiled.output_shapes[place])


def targets_as_needed(model: Trainable, y: Any) -> Any:
    """Returns targets in the dtype and shape that the losses use, so that steps need not convert them.

    User-written losses, metrics and steps get the targets as they were given.
    """
    compiled: Objective = model._compiled
    if y is None or compiled.outputs is None or len(compiled.outputs) != 1:
        return y
    if not isinstance(y, Tensor) or model.overrides("train_step", "test_step", "compute_loss"):
        return y  # nests, and rows that are read when they are needed
    if not compiled.loss.entries or not all(entry.metric.rowwise for entry in compiled.metrics.entries):
        return y
    if any(type(entry.loss).__module__.split(".")[0] != __name__.split(".")[0] for entry in compiled.loss.entries):
        return y
    if any(entry.loss.sparse for entry in compiled.loss.entries):
        return y if y.is_floating_point() else y.long()
    y = y.to(torch.float32) if not y.is_floating_point() else y
    is_column = y.ndim == 1 and tuple(compiled.output_shapes[0][1:]) == (1,)
    return y.unsqueeze(-1) if is_column else y
