"""Progbar: the progress bar for custom loops."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from kstyle_torch.callbacks.progress import clock, duration
from kstyle_torch.messages import say

BOLD, GREEN, GRAY, PLAIN = "\x1b[1m", "\x1b[32m", "\x1b[37m", "\x1b[0m"
CODES = (BOLD, GREEN, GRAY, PLAIN)


class Progbar:
    """A line with steps, time and running metrics, which each update redraws.

    Args:
        target: Number of steps; None if unknown.
        width: Characters of the bar.
        verbose: 0 draws nothing, 1 a bar, 2 a line at the end.
        interval: Smallest time between redraws in seconds.
        stateful_metrics: Names of the metrics that are not averaged; all others are.
        stateless_metrics: Instead, names of the metrics that are averaged; all others are not.
        unit_name: Name of a step.
    Raises: ValueError: if both lists of names are given.

    Example:
        >>> bar = Progbar(3, verbose=2)
        >>> bar.add(1, [("loss", 0.4)]); bar.add(1, [("loss", 0.2)])
        >>> bar.add(1, [("loss", 0.1)])  # doctest: +ELLIPSIS
        3/3 - 0s - ...s/step - loss: 0.1000
    """

    def __init__(
        self,
        target: int | None,
        width: int = 20,
        verbose: int = 1,
        interval: float = 0.05,
        stateful_metrics: Iterable[str] | None = None,
        stateless_metrics: Iterable[str] | None = None,
        unit_name: str = "step",
    ):
        if stateful_metrics is not None and stateless_metrics is not None:
            raise ValueError("Pass stateful_metrics or stateless_metrics, not both: all others are of the other kind.")
        self.target, self.width, self.verbose, self.interval = target, width, verbose, interval
        self.unit_name = unit_name
        self.stateless_metrics = None if stateless_metrics is None else {*stateless_metrics}
        self.stateful_metrics = {*(stateful_metrics or ())} if stateless_metrics is None else None
        self._redraws = (
            getattr(sys.stdout, "isatty", lambda: False)()
            or "ipykernel" in sys.modules
            or os.name == "posix"
            or "PYCHARM_HOSTED" in os.environ
        )
        self._done = 0
        self._sums: dict[str, tuple[Any, int]] = {}  # name -> sum of the values, and number of steps
        self._began = time.time()
        self._after_first: float | None = None  # end of the first step, which is slower than the others
        self._drawn = 0.0
        self._drawn_width = 0

    def update(
        self, current: int, values: Sequence[tuple[str, Any]] | None = None, finalize: bool | None = None
    ) -> None:
        """Sets the number of finished steps.

        Args:
            current: The number.
            values: Pairs of name and value of the last step.
            finalize: Whether it is the last update; by default if `current` reaches `target`.
        """
        finalize = self.target is not None and current >= self.target if finalize is None else finalize
        for name, value in values or ():
            self._take(name, value, current, finalize)
        self._done = current
        now = time.time()
        pace = duration(self._seconds_per_step(current, now), self.unit_name)
        if self.verbose == 1:
            if now - self._drawn < self.interval and not finalize:
                return
            self._draw(current, now, pace, finalize)
        elif self.verbose == 2 and finalize and self.target:
            say(f"{self._count(current)} - {now - self._began:.0f}s - {pace}{self._metrics()}")
        self._drawn = now

    def add(self, n: int, values: Sequence[tuple[str, Any]] | None = None) -> None:
        """Adds `n` finished steps; see `update`."""
        self.update(self._done + n, values)

    def _take(self, name: str, value: Any, current: int, finalize: bool) -> None:
        """Adds a value to the running mean, weighted by the steps since the last update."""
        is_averaged = (
            name not in self.stateful_metrics if self.stateful_metrics is not None else name in self.stateless_metrics  # type: ignore[operator]
        )
        if finalize or not is_averaged:
            self._sums[name] = (value, 1)
            return
        steps = max(current - self._done, 1)
        total, count = self._sums.get(name, (0.0, 0))
        self._sums[name] = (total + value * steps, count + steps)

    def _seconds_per_step(self, current: int, now: float) -> float:
        """Returns the mean time per step, without the first step if there are others."""
        if not current:
            return 0.0
        if self._after_first is not None and current > 1:
            return (now - self._after_first) / (current - 1)
        if current == 1:
            self._after_first = now
        return (now - self._began) / current

    def _draw(self, current: int, now: float, pace: str, finalize: bool) -> None:
        spent = now - self._began
        if self.target:
            filled = int(self.width * current / self.target)
            done = f"{GREEN}{'━' * filled}{PLAIN}" if filled > 0 else ""
            bar = f"{BOLD}{self._count(current)}{PLAIN} {done}{GRAY}{'━' * (self.width - filled)}{PLAIN}"
        else:
            bar = f"{current:7d}/Unknown"
        if self.target and not finalize:
            left = self._seconds_per_step(current, now) * (self.target - current)
            seconds = clock(left) if left > 60 else f"{int(left)}s"
        else:
            seconds = f"{spent:.0f}s"
        line = f"{bar} {BOLD}{seconds}{PLAIN} {pace}{self._metrics()}"
        width = len(line)
        for code in CODES:
            width -= line.count(code) * len(code)
        start = "\b" * self._drawn_width + "\r" if self._redraws else "\n"
        rest = " " * (self._drawn_width - width)
        say(f"{start}{line}{rest}", end="\n" if finalize else "")
        self._drawn_width = width

    def _count(self, current: int) -> str:
        return f"{current:>{len(str(self.target))}}/{self.target}"

    def _metrics(self) -> str:
        parts = []
        for name, (total, count) in self._sums.items():
            mean = float(np.mean(np.asarray(total))) / count
            size = mean if self.verbose == 2 else abs(mean)
            parts.append(f" - {name}: {mean:.4f}" if size > 1e-3 else f" - {name}: {mean:.4e}")
        return "".join(parts)
