"""Before the first step: the data against the model and the loss. An error here leaves everything as it was."""

from __future__ import annotations

import contextlib
import copy
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from kstyle_torch import tree
from kstyle_torch.data.batches import Batch
from kstyle_torch.data.checks import warn_of_nan
from kstyle_torch.losses import BinaryCrossentropy, BinaryFocalCrossentropy
from kstyle_torch.symbolic.infer import untouched
from kstyle_torch.training.compiled import Compiled, needs_targets
from kstyle_torch.training.run import others_run

SAMPLE_ROWS = 32
FEW = 16  # outputs of which nothing can be said
_warned: weakref.WeakSet[Any] = weakref.WeakSet()  # losses of which it was said that they are behind a softmax


def first_rows(structure: Any, device: torch.device, rows: int | None = SAMPLE_ROWS) -> Any:
    """The first rows of every array (all if None), on the device."""
    return tree.map_structure(lambda leaf: None if leaf is None else leaf[:rows].to(device), structure)


def check_data(
    model: Any, batch: Batch, device: torch.device, batch_size: int | None = None, needs_loss: bool = True
) -> None:
    """Builds the model and what is compiled for data like this, looks through the data, and tries the loss on some.

    Args:
        batch_size: Rows of a training step; all of the batch if None. A stateful layer takes no other number.
    Raises: ValueError: if the data does not fit the model or the loss.
    """
    compiled: Compiled = model._compiled
    layout, tried = _layout(model, batch, device, needs_loss), model._fit.tried
    if layout in tried or (compiled.outputs is not None and others_run(model)):  # whose state a trial would disturb
        _look_through(compiled, batch)
        return
    is_stateful = any(getattr(module, "stateful", False) for module in model.modules())
    x, y, weight = first_rows(batch, device, batch_size if is_stateful else SAMPLE_ROWS)
    begun = model._fit.begun
    with untouched(model, is_shared=lambda: model._fit.begun != begun), torch.no_grad():
        try:
            y_pred = model(x)
        except NotImplementedError:  # a model that is only trained by its own train_step
            if not model.overrides("train_step"):
                raise
            return
        if needs_loss and compiled.loss.spec is not None:
            _check_given(compiled, y)
        with _undone(compiled):
            compiled.build(model.output_names, y, y_pred)
            compiled.output_shapes = [output.shape for output in compiled.outputs.flat(y_pred)]
            _look_through(compiled, batch)
            targets, outputs, weights = compiled.by_output(y, y_pred, weight)
            _try_losses(compiled, targets, outputs, weights)
            _try_metrics(compiled, targets, outputs)
    if layout is not None:
        tried.add(layout)


def _layout(model: Any, batch: Batch, device: torch.device, needs_loss: bool) -> Any:
    """What decides whether a model takes a batch, other than the numbers in it; None where that cannot be told."""
    if model.graph is None:
        return None
    leaves = [leaf if leaf is None else (leaf.shape[1:], leaf.dtype) for leaf in tree.flatten(batch)]
    structure = tree.map_structure(lambda leaf: None, batch)
    return model._emitted, model._compiled, device, needs_loss, repr(structure), *leaves


def _look_through(compiled: Compiled, batch: Batch) -> None:
    warn_of_nan(batch[0], "x")
    warn_of_nan(batch[1], "y")
    if batch[1] is not None:
        _check_labels(compiled, batch[1])


@contextlib.contextmanager
def _undone(compiled: Compiled) -> Iterator[None]:
    """What these data made of losses and metrics is forgotten if they are refused: the next may be of another kind."""
    was_built = compiled.outputs is not None
    try:
        yield
    except Exception:
        if not was_built:
            compiled.outputs = None
        raise


def _try_losses(compiled: Compiled, targets: list[Any], outputs: list[Tensor], weights: list[Any]) -> None:
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
    """Says once that a loss of logits stands behind a sigmoid or softmax."""
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


def _try_metrics(compiled: Compiled, targets: list[Any], outputs: list[Tensor]) -> None:
    """Lets those that are only updated after many steps say now what does not suit them."""
    for entry in compiled.metrics.entries:
        if entry.metric.rowwise and targets[entry.output] is not None:
            metric = copy.deepcopy(entry.metric)  # another thread may be using it
            metric.to(outputs[entry.output].device)
            metric.update_state(targets[entry.output], outputs[entry.output])


def _check_given(compiled: Compiled, y: Any) -> None:
    if y is None:
        losses = [spec for spec in tree.flatten(compiled.loss.spec) if spec is not None]
        if losses:
            name = getattr(losses[0], "name", losses[0])
            raise ValueError(f"Loss {name!r} needs targets, but there is no y.")


def _check_labels(compiled: Compiled, y: Any) -> None:
    targets = compiled.targets(y)
    for place, loss, _, _ in compiled.loss.entries:
        if isinstance(targets[place], Tensor):
            loss.check_targets(targets[place], compiled.output_shapes[place])


def targets_as_needed(model: Any, y: Any) -> Any:
    """Targets in the dtype and shape that the losses want, so that no step has to change them.

    Only where everything that sees them is ours; a user's function gets what the user gave.
    """
    compiled: Compiled = model._compiled
    if y is None or compiled.outputs is None or len(compiled.outputs) != 1:
        return y
    if tree.is_nested(y) or model.overrides("train_step", "test_step", "compute_loss"):
        return y
    if not compiled.loss.entries or not all(entry.metric.rowwise for entry in compiled.metrics.entries):
        return y
    if any(type(entry.loss).__module__.split(".")[0] != __name__.split(".")[0] for entry in compiled.loss.entries):
        return y
    if any(entry.loss.sparse for entry in compiled.loss.entries):
        return y if y.is_floating_point() else y.long()
    y = y.to(torch.float32) if not y.is_floating_point() else y
    is_column = isinstance(y, Tensor) and y.ndim == 1 and tuple(compiled.output_shapes[0][1:]) == (1,)
    return y.unsqueeze(-1) if is_column else y
