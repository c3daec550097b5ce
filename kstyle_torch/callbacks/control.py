"""Callbacks that watch a metric and act."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from kstyle_torch.callbacks.base import Callback
from kstyle_torch.registry import did_you_mean


class Monitor(Callback):
    """Base of the callbacks that ask whether a metric has improved.

    Args:
        monitor: The metric's key in the logs.
        mode: `"min"`, `"max"`, or `"auto"`: by what the metric is.
        min_delta: What counts as an improvement.
    """

    def __init__(self, monitor: str = "val_loss", mode: str = "auto", min_delta: float = 0.0):
        super().__init__()
        if mode not in ("auto", "min", "max"):
            warnings.warn(f"{type(self).__name__}: mode {mode!r} is unknown; 'auto' is used.", stacklevel=3)
            mode = "auto"
        self.monitor, self.mode, self.min_delta = monitor, mode, abs(min_delta)
        self.best: float | None = None

    def current(self, logs: Any) -> float | None:
        """The metric's value; None, with a warning, where there is no validation that could give it.

        Raises: ValueError: for a key that the logs do not have, with the nearest.
        """
        logs = logs or {}
        if self.monitor in logs:
            return logs[self.monitor]
        name = type(self).__name__
        if self.monitor.startswith("val_") and not any(key.startswith("val_") for key in logs):
            warnings.warn(
                f"{name} watches {self.monitor!r}, but there is no validation; pass validation_split or "
                f"validation_data to fit(), or watch one of: {', '.join(logs)}.",
                stacklevel=4,
            )
            return None
        raise ValueError(f"{name}: there is no metric {self.monitor!r}.{did_you_mean(self.monitor, logs)}")

    def is_improvement(self, value: float, than: float | None) -> bool:
        """Whether `value` is better than `than`, by more than `min_delta`."""
        if than is None:
            return True
        return value - self.min_delta > than if self._goes_up() else value + self.min_delta < than

    def _goes_up(self) -> bool:
        if self.mode != "auto":
            return self.mode == "max"
        name = self.monitor.removeprefix("val_")
        if name == "loss" or name.endswith("_loss"):
            return False
        direction = next((metric.direction for key, metric in self.model.compiled_metrics() if key == name), None)
        if direction is None:
            raise ValueError(
                f"{type(self).__name__}: whether {self.monitor!r} should grow or shrink is not known; pass mode='max' "
                "or mode='min'."
            )
        return direction == "up"


class EarlyStopping(Monitor):
    """Ends training when a metric has stopped improving.

    Args:
        monitor: The metric's key in the logs.
        min_delta: What counts as an improvement.
        patience: How many epochs without improvement are allowed.
        verbose: 1 says so when it stops.
        mode: `"min"`, `"max"`, or `"auto"`: by what the metric is.
        baseline: A value that must be beaten within the patience.
        restore_best_weights: Whether the model gets back the weights of its best epoch in the end.
        start_from_epoch: Epochs before this one are not looked at.
    Example:
        >>> EarlyStopping(monitor="val_loss", patience=3, restore_best_weights=True).patience
        3
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ):
        super().__init__(monitor, mode, min_delta)
        self.patience, self.verbose, self.baseline = patience, verbose, baseline
        self.restore_best_weights, self.start_from_epoch = restore_best_weights, start_from_epoch
        self._reset()

    def _reset(self) -> None:
        self.wait = self.stopped_epoch = self.best_epoch = 0
        self.best = None
        self.best_weights: list[Tensor] | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        value = self.current(logs)
        if value is None or epoch < self.start_from_epoch:
            return
        if self.restore_best_weights and self.best_weights is None:
            self._remember(epoch)
        self.wait += 1
        if self.is_improvement(value, self.best):
            self.best = value
            self.best_epoch = epoch
            if self.restore_best_weights:
                self._remember(epoch)
            if self.baseline is None or self.is_improvement(value, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Any = None) -> None:
        if self.stopped_epoch and self.verbose:
            print(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.restore_best_weights and self.best_weights is not None:
            if self.verbose:
                print(f"Restoring the weights of the best epoch: {self.best_epoch + 1}.")
            self._restore()

    @torch.no_grad()
    def _remember(self, epoch: int) -> None:
        self.best_epoch = epoch
        self.best_weights = [
            view.value.detach().clone() for view in self.model.weights
        ]  # where they are: no copy to the host

    @torch.no_grad()
    def _restore(self) -> None:
        for view, best in zip(self.model.weights, self.best_weights or [], strict=True):
            view.value.copy_(best)
