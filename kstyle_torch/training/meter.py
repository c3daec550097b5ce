"""What an epoch keeps of its steps: losses and outputs, on the device, folded into the metrics in bulk."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from kstyle_torch.training.compiled import Compiled
from kstyle_torch.tree import NESTS

FOLD_STEPS = 256
FOLD_BYTES = 64 * 2**20


class Meter:
    """Loss and metrics of one epoch.

    Metrics that look at each sample by itself are updated every 256 steps, with all of them joined; others at once.

    Args:
        compiled: Whose loss tracker and metrics are updated.
    """

    def __init__(self, compiled: Compiled):
        self.compiled = compiled
        self.with_metrics = bool(compiled.metrics.entries)
        self.in_bulk = all(entry.metric.rowwise for entry in compiled.metrics.entries)
        self.losses: list[Tensor] = []
        self.rows: list[int] = []
        self.kept: list[tuple[Any, Any, Any]] = []
        self.chunks: list[Tensor] = []  # the losses of the epoch, for finding the step where NaN began
        self.fold_at = FOLD_STEPS

    def add(self, loss: Tensor, y_true: Any, y_pred: Any, weight: Any) -> None:
        """Notes a step."""
        self.losses.append(loss.detach())
        first = y_pred if isinstance(y_pred, Tensor) else self.compiled.by_output(y_true, y_pred, None)[1][0]
        self.rows.append(first.shape[0])
        if self.with_metrics:
            if self.in_bulk and isinstance(y_pred, Tensor) and not _apart(y_pred, y_true, weight):
                if not self.kept:
                    self.fold_at = max(1, min(FOLD_STEPS, FOLD_BYTES // max(1, y_pred.nbytes)))
                self.kept.append((y_true, y_pred.detach(), weight))
            else:
                self.compiled.metrics.update(*self.compiled.by_output(y_true, y_pred, weight))
        if len(self.losses) >= self.fold_at:
            self.fold()

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
        kept, self.kept = self.kept, []
        if kept:
            y_true, y_pred, weights = zip(*kept, strict=True)
            joined = _joined(y_true), torch.cat(y_pred), _joined(weights)
            self.compiled.metrics.update(*self.compiled.by_output(*joined))

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


def runs(rows: list[int]) -> Iterator[tuple[int, int]]:
    """The stretches of equal numbers: one for the whole batches, one for a short last one."""
    start = 0
    for stop in range(1, len(rows) + 1):
        if stop == len(rows) or rows[stop] != rows[start]:
            yield start, stop
            start = stop


def _apart(y_pred: Tensor, y_true: Any, weight: Any) -> bool:
    """Whether batches are not to be joined: masked ones, and nests of one."""
    return hasattr(y_pred, "_keras_mask") or isinstance(y_true, NESTS) or isinstance(weight, NESTS)


def _joined(parts: tuple[Any, ...]) -> Any:
    return None if parts[0] is None else torch.cat(parts)


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
