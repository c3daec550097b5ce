"""Losses and outputs of an epoch, buffered on the device and added to the metrics in bulk."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kstyle_torch.training.objective import Objective, update

FOLD_STEPS = 256
FOLD_BYTES = 64 * 2**20
LATE_BYTES = 2**16  # of a batch's outputs; up to here the loss of many at once saves more than keeping them costs
TAGS = MASK, LOGITS = "_keras_mask", "_keras_logits"  # attributes that layers and activations set on outputs
Loss = Callable[[list[Any], list[Tensor], list[Any]], Tensor]  # of targets, outputs and weights, by output


class Kept(NamedTuple):
    """Buffered tensors of a step, by output; `late` if its loss is not computed yet."""

    targets: list[Any]
    outputs: list[Tensor]
    weights: list[Any]
    tags: list[list[Any]]
    late: bool


class Meter:
    """Loss and metrics of one epoch.

    Metrics that treat each sample separately are updated every 256 steps with their concatenation; others at every step.

    Args:
        compiled: Owner of the loss tracker and the metrics.
        find_late_loss: In a test, returns the function that computes the loss of concatenated steps; see `step.late_loss`.
    """

    def __init__(self, compiled: Objective, find_late_loss: Callable[[], Loss | None] | None = None):
        self.compiled, self.find_late_loss = compiled, find_late_loss
        self.losses: list[Tensor] = []
        self.rows: list[int] = []
        self.kept: list[Kept] = []
        self.kept_bytes = 0
        self.plain: list[tuple[list[Tensor], list[Tensor]]] = []  # targets and outputs of `add_plain`, by layout
        self.plain_steps, self.plain_layout = 0, None
        self.chunks: list[Tensor] = []  # losses of the epoch, to find the first NaN
        self.begin()

    def begin(self) -> None:
        """Reads the list of metrics; called again after the first step has built them."""
        entries = self.compiled.metrics.entries
        joined = [entry.metric.takes_joined for entry in entries]
        self.joined = [entry for entry, joins in zip(entries, joined, strict=True) if joins]
        self.at_once = [entry for entry, joins in zip(entries, joined, strict=True) if not joins]
        self.tracks_sums = self.compiled.loss_tracker.takes_joined
        self.late_loss = self.find_late_loss() if self.find_late_loss is not None and self.tracks_sums else None

    def add(self, loss: Tensor | None, y_true: Any, y_pred: Any, weight: Any) -> None:
        """Adds a step; a loss of None is computed later by `late_loss`."""
        if type(y_pred) is Tensor and type(y_true) is Tensor and (weight is None or type(weight) is Tensor):
            targets, outputs, weights = [y_true], [y_pred], [weight]
        else:
            targets, outputs, weights = self.compiled.by_output(y_true, y_pred, weight)
        if loss is None:
            for output in outputs:
                if hasattr(output, "_keras_mask"):  # the mean of a batch depends on its masked steps
                    assert self.late_loss is not None
                    loss = self.late_loss(targets, outputs, weights)
                    break
        if loss is not None:
            self.losses.append(loss.detach() if loss.requires_grad else loss)
            self.rows.append(outputs[0].shape[0])
        if self.at_once:
            update(self.at_once, targets, outputs, weights)
        if self.joined or loss is None:
            self._keep(targets, outputs, weights, loss is None)
        if len(self.losses) >= FOLD_STEPS or len(self.kept) >= FOLD_STEPS or self.kept_bytes >= FOLD_BYTES:
            self.fold()

    def add_plain(self, y_true: Any, y_pred: Any) -> bool:
        """Notes a step of a test with one small target and output, no weights and a late loss, which takes less than `add`.

        Returns: Whether it is such a step; if not, nothing is noted.
        """
        if type(y_pred) is not Tensor or type(y_true) is not Tensor:
            return False
        layout: Any = y_true.shape, y_pred.shape, y_true.dtype, y_pred.dtype, y_pred.requires_grad, *vars(y_pred)
        if layout != self.plain_layout and not self._begin_plain(layout, y_true, y_pred):
            return False
        targets, outputs = self.plain[-1]
        targets.append(y_true)
        outputs.append(y_pred)
        self.plain_steps += 1
        if self.plain_steps >= FOLD_STEPS:
            self.fold()
        return True

    def _begin_plain(self, layout: Any, y_true: Tensor, y_pred: Tensor) -> bool:
        """Looks at a plain step that is not like the one before. Returns: Whether it is a plain step at all."""
        if self.late_loss is None or self.at_once or y_pred.requires_grad or hasattr(y_pred, MASK):
            return False
        if y_pred.ndim < 2 or not y_true.ndim or max(y_true.nbytes, y_pred.nbytes) > LATE_BYTES:
            return False
        before, self.plain_layout = self.plain_layout, layout
        if before is None or _joinable(before) != _joinable(layout):
            self.plain.append(([], []))
        return True

    def _keep(self, targets: list[Any], outputs: list[Tensor], weights: list[Any], late: bool) -> None:
        tags = [[getattr(output, name, None) for name in TAGS[: 1 + late]] for output in outputs]
        for leaf in (*outputs, *targets):
            if leaf is not None:
                self.kept_bytes += leaf.nbytes
        outputs = [output.detach() if output.requires_grad else output for output in outputs]
        self.kept.append(Kept(targets, outputs, weights, tags, late))

    @torch.no_grad()
    def fold(self) -> None:
        """Updates loss tracker and metrics from the buffers, without waiting for the device."""
        if self.losses:
            self._fold_losses()
        plain, self.plain, self.plain_steps, self.plain_layout = self.plain, [], 0, None
        for targets, outputs in plain:
            step = [_cat(targets)], [_cat_with_logits(outputs)], [None]
            self._count(step)
            update(self.joined, *step)
        kept, self.kept, self.kept_bytes = self.kept, [], 0
        for start, stop in runs([_layout(step) for step in kept]):
            joined = _joined(kept[start:stop])
            if kept[start].late:
                self._count(joined)
            update(self.joined, *joined)

    def clear(self) -> None:
        """Forgets the buffered steps: users may reset the metrics in the middle of an epoch."""
        if self.losses:
            self.chunks.append(torch.stack(self.losses))  # `warn_of_nan` counts all steps
        self.losses, self.rows = [], []
        self.plain, self.plain_steps, self.plain_layout = [], 0, None
        self.kept, self.kept_bytes = [], 0

    def _fold_losses(self) -> None:
        losses, tracker = torch.stack(self.losses), self.compiled.loss_tracker
        self.chunks.append(losses)
        if not self.tracks_sums:  # a user has replaced its `update_state`
            for loss, rows in zip(self.losses, self.rows, strict=True):
                tracker.update_state(loss, rows)
            self.losses, self.rows = [], []
            return
        for start, stop in runs(self.rows):
            tracker.total.assign_add(losses[start:stop].sum() * self.rows[start])
        tracker.count.assign_add(float(sum(self.rows)))
        self.losses, self.rows = [], []

    def _count(self, joined: tuple[list[Any], list[Tensor], Any]) -> None:
        """Computes the loss of concatenated steps."""
        assert self.late_loss is not None
        rows, tracker = joined[1][0].shape[0], self.compiled.loss_tracker
        tracker.total.assign_add(self.late_loss(*joined) * rows)
        tracker.count.assign_add(float(rows))

    def warn_of_nan(self, epoch: int) -> None:
        """Warns with the step of the epoch at which the loss became NaN or infinite."""
        losses = torch.cat(self.chunks)
        step = int((~losses.isfinite()).nonzero()[0]) if not losses.isfinite().all() else -1
        if step >= 0:
            warnings.warn(
                f"The loss became {float(losses[step])} at epoch {epoch + 1}, step {step + 1}. "
                "Look for NaN in the data, or take a smaller learning rate.",
                stacklevel=2,
            )


def runs(values: list[Any]) -> Iterator[tuple[int, int]]:
    """Yields (start, stop) of each run of equal values: one for the whole batches, one for a short last batch."""
    start = 0
    for stop in range(1, len(values) + 1):
        if stop == len(values) or values[stop] != values[start]:
            yield start, stop
            start = stop


def _joinable(layout: Any) -> Any:
    """Returns the part of a layout that plain steps must share to be concatenated: all but the number of rows."""
    target, output, *rest = layout
    return target[1:], output[1:], rest


def _cat(tensors: list[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)


def _cat_with_logits(outputs: list[Tensor]) -> Tensor:
    joined = _cat(outputs)
    if len(outputs) > 1 and hasattr(outputs[0], LOGITS):
        setattr(joined, LOGITS, torch.cat([getattr(output, LOGITS) for output in outputs]))
    return joined


def _layout(step: Kept) -> list[Any]:
    """Returns a key that is equal for steps that can be concatenated: sequence lengths may differ between steps.

    Steps with one-axis outputs are never concatenated: a metric that averages over the last axis would average samples.
    """
    (target, *more), (output, *_), (weight, *_), (tags, *_), late = step
    plain = not more and weight is None and tags[0] is None and type(target) is Tensor and target.ndim
    if plain and output.ndim > 1:
        has_logits = late and tags[1] is not None  # a compiled forward pass does not set them
        return [
            late,
            has_logits,
            target.shape[1:],
            target.dtype,
            output.shape[1:],
            output.dtype,
        ]  # the usual case, quickly
    groups = (step.targets, step.outputs, step.weights, *zip(*step.tags, strict=True))
    leaves = [leaf for group in groups for leaf in group]
    if any(output.ndim < 2 for output in step.outputs):
        return [object()]
    if not all(isinstance(leaf, Tensor) and leaf.ndim for leaf in leaves if leaf is not None):
        return [object()]
    return [late, *(None if leaf is None else (leaf.shape[1:], leaf.dtype) for leaf in leaves)]


def _joined(steps: list[Kept]) -> tuple[list[Any], list[Tensor], list[Any]]:
    """Returns the concatenated targets, outputs and weights of steps, by output."""
    targets = _each_joined([step.targets for step in steps])
    outputs = _each_joined([step.outputs for step in steps])
    weights = _each_joined([step.weights for step in steps])
    for place, output in enumerate(outputs):
        by_step = [step.tags[place] for step in steps]
        for name, tag in zip(TAGS, _each_joined(by_step)):
            if tag is not None:
                setattr(output, name, tag)
    return targets, outputs, weights


def _each_joined(steps: list[list[Any]]) -> list[Any]:
    """Returns the tensors of all steps, concatenated place by place."""
    if len(steps) == 1:
        return steps[0]
    return [None if parts[0] is None else torch.cat(parts) for parts in zip(*steps, strict=True)]
