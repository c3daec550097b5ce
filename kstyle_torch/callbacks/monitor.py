"""Shared base of callbacks that monitor a metric."""

from __future__ import annotations

import warnings
from typing import Any

from kstyle_torch.callbacks.base import Callback
from kstyle_torch.registry import did_you_mean


class Monitor(Callback):
    """Base of callbacks that check whether a metric has improved.

    Args:
        monitor: The metric's key in the logs.
        mode: `"min"`, `"max"`, or `"auto"`: inferred from the metric.
        min_delta: Smallest change that counts as an improvement.
        best: Initial value to beat; None for any.
    """

    def __init__(
        self, monitor: str = "val_loss", mode: str = "auto", min_delta: float = 0.0, best: float | None = None
    ):
        super().__init__()
        if mode not in ("auto", "min", "max"):
            warnings.warn(f"{type(self).__name__}: mode {mode!r} is unknown; 'auto' is used.", stacklevel=3)
            mode = "auto"
        self.monitor, self.mode, self.min_delta = monitor, mode, abs(min_delta)
        self.best = best
        self._direction: str | None = None

    def current(self, logs: Any, otherwise: str) -> Any:
        """Returns the metric's value; None, with a warning, if the logs lack it.

        Args:
            logs: Logs of the epoch.
            otherwise: Consequence of a missing value, for the warning.
        Raises: ValueError: for a key that the logs lack, if its direction is unknown too; the message suggests the nearest.
        """
        logs = logs or {}
        if self.monitor in logs:
            self.goes_up(logs)
            return logs[self.monitor]
        name = type(self).__name__
        if self.monitor.startswith("val_") and not any(key.startswith("val_") for key in logs):
            hint = f"fit() runs no validation; pass validation_split or validation_data, or monitor {_one_of(logs)}."
        else:
            self.goes_up(logs)
            hint = f"the logs lack it.{did_you_mean(self.monitor, logs)} Available: {_one_of(logs)}."
        warnings.warn(f"{name} monitors {self.monitor!r}, but {hint} {otherwise}", stacklevel=4)
        return None

    def is_improvement(self, value: Any, than: Any) -> bool:
        """Returns whether `value` is better than `than`, by more than `min_delta`."""
        if than is None:
            return True
        return bool(value - self.min_delta > than if self.goes_up() else value + self.min_delta < than)

    def goes_up(self, logs: Any = ()) -> bool:
        """Returns whether larger values are better.

        Raises: ValueError: if that is unknown.
        """
        self._direction = self._direction or self._find_direction(logs)
        return self._direction == "up"

    def _find_direction(self, logs: Any) -> str:
        if self.mode != "auto":
            return "up" if self.mode == "max" else "down"
        name = self.monitor.removeprefix("val_")
        if name == "loss" or (name.endswith("_loss") and self.monitor in logs):
            return "down"
        metrics = self.model.compiled_metrics()
        found = next((metric.direction for key, metric in metrics if key == name), None)
        if found is not None:
            return found
        if logs and self.monitor not in logs:
            raise ValueError(
                f"{type(self).__name__}: the logs lack {self.monitor!r}.{did_you_mean(self.monitor, logs)} Available: "
                f"{_one_of(logs)}."
            )
        raise ValueError(
            f"{type(self).__name__}: cannot infer whether {self.monitor!r} should rise or fall; pass mode='max' "
            "or mode='min'."
        )


def _one_of(logs: Any) -> str:
    return ", ".join(logs) or "none"
