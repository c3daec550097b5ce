"""What an epoch keeps of its steps: losses and outputs, on the device, folded into the metrics in bulk."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from kstyle_torch.training.compiled import Compiled, update

FOLD_STEPS = 256
FOLD_BYTES = 64 * 2**20
Kept = tuple[list[Any], list[Tensor], list[Any], list[Any]]  # targets, outputs, weights and masks of a step


class Meter:
    """Loss and metrics of one epoch.

    Metrics that look at each sample by itself are updated every 256 steps, with all of them joined; others at once.

    Args:
        compiled: Whose loss tracker and metrics are updated.
    """

    def __init__(self, compiled: Compiled):
        self.compiled = compiled
        entries = compiled.metrics.entries
        self.joined = [entry for entry in entries if entry.metric.rowwise]
        self.at_once = [entry for entry in entries if not entry.metric.rowwise]
        self.with_metrics = bool(entries)
        self.losses: list[Tensor] = []
        self.rows: list[int] = []
        self.kept: list[Kept] = []
        self.kept_bytes = 0
        self.chunks: list[Tensor] = []  # the losses of the epoch, for finding the step where NaN began

    def add(self, loss: Tensor, y_true: Any, y_pred: Any, weight: Any) -> None:
        """Notes a step."""
        self.losses.append(loss.detach())
        targets, outputs, weights = self.compiled.by_output(y_true, y_pred, weight)
        self.rows.append(outputs[0].shape[0])
        if self.with_metrics:
            if self.at_once:
                update(self.at_once, targets, outputs, weights)
            if self.joined:
                self._keep(targets, outputs, weights)
        if len(self.losses) >= FOLD_STEPS or self.kept_bytes >= FOLD_BYTES:
            self.fold()

    def _keep(self, targets: list[Any], outputs: list[Tensor], weights: list[Any]) -> None:
        masks = [getattr(output, "_keras_mask", None) for output in outputs]
        outputs = [output.detach() for output in outputs]
        self.kept.append((targets, outputs, weights, masks))
        for leaf in outputs + targets:
            if leaf is not None:
                self.kept_bytes += leaf.nbytes

    @torch.no_grad()
    def fold(self) -> None:
        """Brings loss tracker and metrics up to date. Nothing waits for the device."""
        if not self.losses:
            return
        losses = torch.stack(self.losses)
        self.chunks.append(losses)
        tracker = self.compiled.loss_tracker
        for start, stop in runs(self.rows):
            tracker.total.assign_add(losses[start:stop].sum() * self.rows[start])
        tracker.count.assign_add(float(sum(self.rows)))
        self.losses, self.rows = [], []
        kept, self.kept, self.kept_bytes = self.kept, [], 0
        for start, stop in runs([_layout(step) for step in kept]):
            update(self.joined, *_joined(kept[start:stop]))

    def warn_of_nan(self, epoch: int) -> None:
        """Says at which step of the epoch the loss became NaN. Called when it is known that it has."""
        losses = torch.cat(self.chunks)
        step = int((~losses.isfinite()).nonzero()[0]) if not losses.isfinite().all() else -1
        if step >= 0:
            warnings.warn(
                f"The loss became {float(losses[step])} at epoch {epoch + 1}, step {step + 1}. "
                "Look for NaN in the data, or take a smaller learning rate.",
                stacklevel=2,
            )


def runs(values: list[Any]) -> Iterator[tuple[int, int]]:
    """The stretches of equal values: one for the whole batches, one for a short last one."""
    start = 0
    for stop in range(1, len(values) + 1):
        if stop == len(values) or values[stop] != values[start]:
            yield start, stop
            start = stop


def _layout(step: Kept) -> list[Any]:
    """What the steps must have in common to be joined: sequences may be longer in one than in another.

    Outputs of one axis stay as they are, since a function's mean over the last axis would then be over the samples.
    """
    (target, *more), (output, *_), (weight, *_), (mask, *_) = step
    if not more and weight is None and mask is None and type(target) is Tensor and target.ndim and output.ndim > 1:
        return [target.shape[1:], target.dtype, output.shape[1:], output.dtype]  # the usual case, quickly
    leaves = [leaf for group in step for leaf in group if leaf is not None]
    if any(output.ndim < 2 for output in step[1]) or not all(isinstance(leaf, Tensor) and leaf.ndim for leaf in leaves):
        return [object()]
    return [None if leaf is None else (leaf.shape[1:], leaf.dtype) for group in step for leaf in group]


def _joined(steps: list[Kept]) -> tuple[list[Any], list[Tensor], list[Any]]:
    """Targets, outputs and weights of all steps, by output."""
    groups: Any = steps[0]
    if len(steps) > 1:
        by_output = (zip(*group, strict=True) for group in zip(*steps, strict=True))
        groups = [[None if parts[0] is None else torch.cat(parts) for parts in group] for group in by_output]
    targets, outputs, weights, masks = groups
    for output, mask in zip(outputs, masks, strict=True):
        if mask is not None:
            setattr(output, "_keras_mask", mask)  # noqa: B010, unknown to the type of tensors
    return targets, outputs, weights


class Logs(dict[str, Any]):
    """The running metrics, read from the device when somebody looks.

    Args:
        look: Reads them.
    """

    def __init__(self, look: Callable[[], dict[str, Any]]):
        super().__init__()
        self._look: Callable[[], dict[str, Any]] | None = look

    def _filled(self) -> None:
        if self._look is not None:
            look, self._look = self._look, None
            for key, value in look().items():
                dict.setdefault(self, key, value)

    def __getitem__(self, key: str) -> Any:
        self._filled()
        return dict.__getitem__(self, key)

    def __iter__(self) -> Iterator[str]:
        self._filled()
        return dict.__iter__(self)

    def __len__(self) -> int:
        self._filled()
        return dict.__len__(self)

    def __contains__(self, key: object) -> bool:
        self._filled()
        return dict.__contains__(self, key)

    def __eq__(self, other: object) -> bool:
        self._filled()
        return dict.__eq__(self, other)

    def __repr__(self) -> str:
        self._filled()
        return dict.__repr__(self)

    def __bool__(self) -> bool:
        return len(self) > 0

    def get(self, key: str, default: Any = None) -> Any:
        self._filled()
        return dict.get(self, key, default)

    def keys(self) -> Any:
        self._filled()
        return dict.keys(self)

    def values(self) -> Any:
        self._filled()
        return dict.values(self)

    def items(self) -> Any:
        self._filled()
        return dict.items(self)

    def copy(self) -> dict[str, Any]:
        self._filled()
        return dict(dict.items(self))


def is_nan(logs: dict[str, Any]) -> bool:
    """Whether the loss is no number any more."""
    loss = logs.get("loss")
    return isinstance(loss, float) and not math.isfinite(loss)
