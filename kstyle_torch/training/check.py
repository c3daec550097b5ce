"""Before the first step: the data against the model and the loss. An error here leaves everything as it was."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kstyle_torch import tree
from kstyle_torch.data.batches import Batch
from kstyle_torch.data.checks import check_labels, check_table, warn_of_nan
from kstyle_torch.layers.embedding import Embedding
from kstyle_torch.losses.probabilistic import SparseCategoricalCrossentropy
from kstyle_torch.symbolic.infer import untouched
from kstyle_torch.training.compiled import Compiled, needs_targets

SAMPLE_ROWS = 32


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
    is_stateful = any(getattr(module, "stateful", False) for module in model.modules())
    x, y, weight = first_rows(batch, device, batch_size if is_stateful else SAMPLE_ROWS)
    with untouched(model), torch.no_grad():
        try:
            y_pred = model(x)
        except NotImplementedError:  # a model that is only trained by its own train_step
            if not model.overrides("train_step"):
                raise
            return
        if needs_loss and compiled.loss.spec is not None:
            _check_given(compiled, y)
        compiled.build(model.output_names, y, y_pred)
        assert compiled.outputs is not None
        outputs = compiled.outputs.flat(y_pred)
        compiled.output_shapes = [output.shape for output in outputs]
        warn_of_nan(batch[0], "x")
        warn_of_nan(batch[1], "y")
        if batch[1] is not None:
            _check_labels(compiled, batch[1], outputs)
        targets, outputs, weights = compiled.by_output(y, y_pred, weight)
        for entry in compiled.loss.entries:
            if targets[entry.output] is None:
                raise ValueError(needs_targets(entry.loss.name))
            entry.loss(targets[entry.output], outputs[entry.output], weights[entry.output])
        _try_metrics(compiled, targets, outputs)


def _try_metrics(compiled: Compiled, targets: list[Any], outputs: list[Tensor]) -> None:
    """Lets those that are only updated after many steps say now what does not suit them."""
    for entry in compiled.metrics.entries:
        if entry.metric.rowwise and targets[entry.output] is not None:
            state = [variable.value for variable in entry.metric.variables]
            entry.metric.stateless_update_state(state, targets[entry.output], outputs[entry.output])


def _check_given(compiled: Compiled, y: Any) -> None:
    if y is None:
        losses = [spec for spec in tree.flatten(compiled.loss.spec) if spec is not None]
        if losses:
            name = getattr(losses[0], "name", losses[0])
            raise ValueError(f"Loss {name!r} needs targets, but there is no y.")


def _check_labels(compiled: Compiled, y: Any, outputs: list[Tensor]) -> None:
    targets = compiled.targets(y)
    for entry in compiled.loss.entries:
        target, loss = targets[entry.output], entry.loss
        if isinstance(loss, SparseCategoricalCrossentropy) and target is not None:
            output = outputs[entry.output]
            if target.ndim < output.ndim or target.shape[loss.axis] == 1:
                check_labels(target, output.shape[loss.axis], loss.name, loss.ignore_class)


def check_tables(model: Any, x: Any) -> None:
    """Raises a ValueError for a number that the Embedding an input goes into does not have."""
    for position, layer in model.integer_readers().items():
        if isinstance(layer, Embedding):
            check_table(tree.flatten(x)[position], layer.input_dim, layer.name)


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
    return y.to(torch.float32) if not y.is_floating_point() else y
