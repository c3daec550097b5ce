"""Callbacks that stop training or change its learning rate."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kstyle_torch.callbacks.base import Callback
from kstyle_torch.callbacks.monitor import Monitor
from kstyle_torch.messages import say


class EarlyStopping(Monitor):
    """Callback that ends training when a metric has stopped improving.

    Args:
        monitor: The metric's key in the logs.
        min_delta: Smallest change that counts as an improvement.
        patience: Number of epochs without improvement that are allowed.
        verbose: 1 prints a message when it stops.
        mode: `"min"`, `"max"`, or `"auto"`: inferred from the metric.
        baseline: A value that must be beaten within the patience.
        restore_best_weights: Whether to restore the weights of the best epoch at the end.
        start_from_epoch: Epochs before this one are ignored.

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
        value = self.get_monitor_value(logs)
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

    def get_monitor_value(self, logs: Any) -> Any:
        """Returns the monitored value; None, with a warning, if the logs lack it. Subclasses may override it.

        Args:
            logs: Logs of the epoch.
        """
        return self.current(logs, "Training goes on.")

    def on_train_end(self, logs: Any = None) -> None:
        if self.stopped_epoch and self.verbose:
            say(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.restore_best_weights and self.best_weights is not None:
            if self.verbose:
                say(f"Restoring the weights of the best epoch: {self.best_epoch + 1}.")
            self._restore()

    @torch.no_grad()
    def _remember(self, epoch: int) -> None:
        self.best_epoch = epoch
        self.best_weights = [
            view.parameter.detach().clone() for view in self.model.weights
        ]  # on their device, to avoid a copy to the host

    @torch.no_grad()
    def _restore(self) -> None:
        for view, best in zip(self.model.weights, self.best_weights or [], strict=True):
            view.parameter.copy_(best)


class TerminateOnNaN(Callback):
    """Callback that ends training when the loss is NaN or infinite. It reads the loss of every batch, for which the host waits.

    Args:
        raise_error: Whether to raise a RuntimeError instead of ending training normally.

    Example:
        >>> TerminateOnNaN(raise_error=True).on_batch_end(2, {"loss": float("nan")})
        Traceback (most recent call last):
        RuntimeError: The loss became nan at batch 2.
    """

    def __init__(self, raise_error: bool = False):
        super().__init__()
        self.raise_error = raise_error

    def on_batch_end(self, batch: int, logs: Any = None) -> None:
        loss = (logs or {}).get("loss")
        if loss is None or math.isfinite(loss):
            return
        if self.raise_error:
            raise RuntimeError(f"The loss became {loss} at batch {batch}.")
        say(f"Batch {batch}: the loss is {loss}, training ends.")
        self.model.stop_training = True


class MaxTime(Callback):
    """Time limit: ends training at the end of the batch in which the time is over.

    Args:
        seconds: The time from the beginning of `fit`.
        verbose: 1 prints a message when it stops.
        clock: Function that returns the time in seconds.
    Raises: ValueError: if `seconds` is not a positive number.

    Example:
        >>> MaxTime(60 * 60).seconds
        3600
    """

    def __init__(self, seconds: float, verbose: int = 0, clock: Callable[[], float] = time.monotonic):
        super().__init__()
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0:
            raise ValueError(f"MaxTime: seconds must be a positive number; got {seconds!r}.")
        self.seconds, self.verbose, self.clock = seconds, verbose, clock
        self._end = math.inf

    def on_train_begin(self, logs: Any = None) -> None:
        self._end = self.clock() + self.seconds

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.clock() >= self._end and not self.model.stop_training:
            self.model.stop_training = True
            if self.verbose:
                say(f"\nBatch {batch + 1}: {self.seconds} seconds are over, training ends.")

    def state_dict(self) -> dict[str, Any]:
        """Returns nothing: a resumed training has its own time, on the clock of another process."""
        return {}


class ReduceLROnPlateau(Monitor):
    """Callback that reduces the learning rate when a metric has stopped improving.

    Args:
        monitor: The metric's key in the logs.
        factor: Factor of the learning rate; below 1.
        patience: Number of epochs without improvement that are allowed.
        verbose: 1 prints a message when it acts.
        mode: `"min"`, `"max"`, or `"auto"`: inferred from the metric.
        min_delta: Smallest change that counts as an improvement.
        cooldown: Number of epochs after a reduction that do not count.
        min_lr: Lower bound of the learning rate.
    Raises: ValueError: if `factor` is 1 or more.

    Example:
        >>> ReduceLROnPlateau(factor=0.5, patience=2, min_lr=1e-5).factor
        0.5
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
        **kwargs: Any,  # older programs pass removed arguments, such as epsilon
    ):
        super().__init__(monitor, mode, min_delta)
        if factor >= 1.0:
            raise ValueError(f"ReduceLROnPlateau: factor must be below 1; got {factor!r}.")
        self.factor, self.patience, self.verbose = factor, patience, verbose
        self.cooldown, self.min_lr = cooldown, min_lr
        self._reset()

    def _reset(self) -> None:
        self.best = None
        self.cooldown_counter = self.wait = 0

    def on_train_begin(self, logs: Any = None) -> None:
        self._reset()

    def in_cooldown(self) -> bool:
        """Returns whether it is in the cooldown after a reduction."""
        return self.cooldown_counter > 0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs = {} if logs is None else logs
        value = self.current(logs, "The learning rate is not changed.")
        logs.update(learning_rates(self.model.optimizer))
        if value is None:
            return
        if self.in_cooldown():
            self.cooldown_counter -= 1
            self.wait = 0
        if self.is_improvement(value, self.best):
            self.best, self.wait = value, 0
        elif not self.in_cooldown():
            self.wait += 1
            if self.wait >= self.patience and self._reduce_all(epoch):
                self.cooldown_counter, self.wait = self.cooldown, 0

    def _reduce_all(self, epoch: int) -> bool:
        reduced = [self._reduce(epoch, name, optimizer) for name, optimizer in parts(self.model.optimizer)]
        return any(reduced)

    def _reduce(self, epoch: int, name: str, optimizer: Any) -> bool:
        old = float(optimizer.learning_rate)
        if old <= np.float32(self.min_lr):
            return False
        new = max(old * self.factor, self.min_lr)
        optimizer.learning_rate = new
        if self.verbose:
            say(f"\nEpoch {epoch + 1}: ReduceLROnPlateau sets the {name}learning rate to {new}.")
        return True


class LearningRateScheduler(Callback):
    """Callback that sets the learning rate at the beginning of each epoch.

    Args:
        schedule: `f(epoch, learning_rate)` or `f(epoch)` that returns the new learning rate, a float; epochs count from 0.
        verbose: 1 prints the learning rate.
    Raises: ValueError: in training, if `schedule` does not return a float.

    Example:
        >>> LearningRateScheduler(lambda epoch, rate: rate if epoch < 10 else rate * 0.9).schedule(10, 1.0)
        0.9
    """

    def __init__(self, schedule: Callable[..., Any], verbose: int = 0):
        super().__init__()
        self.schedule, self.verbose = schedule, verbose

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        for name, optimizer in parts(self.model.optimizer):
            if not hasattr(optimizer, "learning_rate"):
                raise ValueError(f"LearningRateScheduler: {type(optimizer).__name__} has no learning_rate.")
            rate = self._scheduled(epoch, float(optimizer.learning_rate))
            optimizer.learning_rate = rate
            if self.verbose:
                say(f"\nEpoch {epoch + 1}: LearningRateScheduler sets the {name}learning rate to {rate}.")

    def _scheduled(self, epoch: int, rate: float) -> Any:
        try:
            new = self.schedule(epoch, rate)
        except TypeError:  # the older form, which takes the epoch only
            new = self.schedule(epoch)
        if isinstance(new, Tensor) and new.ndim == 0:
            new = float(new)
        if not isinstance(new, (float, np.float32, np.float64)):
            raise ValueError(f"LearningRateScheduler: schedule must return a float; got {new!r}.")
        return new

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if logs is not None:
            logs.update(learning_rates(self.model.optimizer))


def parts(optimizer: Any) -> Iterator[tuple[str, Any]]:
    """Yields a prefix for messages and each optimizer: itself, or the parts of a `MultiOptimizer` with their names."""
    several = getattr(optimizer, "optimizers", None)
    if several is None:
        yield "", optimizer
    for each in several or ():
        yield f"{each.name} ", each


def learning_rates(optimizer: Any) -> dict[str, float]:
    """Returns the logs' entry for the learning rate."""
    return {"_".join(["learning_rate", *name.split()]): float(each.learning_rate) for name, each in parts(optimizer)}
