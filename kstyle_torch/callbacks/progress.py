"""The progress bar in Keras' style, in terminals and notebooks. Elsewhere, one line at the end of each epoch."""

from __future__ import annotations

import math
import shutil
import sys
import time
from typing import Any

import numpy as np
from tqdm import tqdm

from kstyle_torch import config
from kstyle_torch.callbacks.base import Callback
from kstyle_torch.messages import say

REDRAW_SECONDS = 0.1
LOOK_SECONDS = 1.0  # interval between queries of the terminal's width
WIDTH = 20


class ProgbarLogger(Callback):
    """Display of steps, time per step and the running metrics.

    `params["verbose"]`: 0 nothing, 1 a bar (one line per epoch if it cannot be drawn), 2 one line per epoch.
    """

    def __init__(self) -> None:
        super().__init__()
        self._in_fit = False
        self._line: Line | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        self._in_fit = True

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        epochs = self.params.get("epochs") or 1
        self._begin(f"Epoch {epoch + 1}/{epochs}" if epochs > 1 else "")

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._line.advance(batch + 1, logs)  # type: ignore[union-attr]

    def is_due(self) -> bool:
        """Returns whether a redraw is due."""
        return time.perf_counter() >= self._line.due  # type: ignore[union-attr]

    def note(self, done: int) -> None:
        """Updates the number of steps after skipped calls."""
        self._line.done = done  # type: ignore[union-attr]

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._end(logs)

    def on_test_begin(self, logs: Any = None) -> None:
        if not self._in_fit:
            self._begin("")

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        if not self._in_fit and self._line is not None:
            self._line.advance(batch + 1, logs)

    def on_test_end(self, logs: Any = None) -> None:
        if not self._in_fit:
            self._end(logs)

    def on_predict_begin(self, logs: Any = None) -> None:
        self._begin("")

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        self._line.advance(batch + 1, None)  # type: ignore[union-attr]

    def on_predict_end(self, logs: Any = None) -> None:
        self._end(None)

    def _begin(self, title: str) -> None:
        drawn = self.params.get("verbose") == 1 and config.is_interactive_logging_enabled()
        kind = NotebookBar if is_notebook(sys.stdout) else Bar if is_terminal(sys.stdout) else Line
        self._line = (kind if drawn else Line)(title, self.params.get("steps"))

    def _end(self, logs: Any) -> None:
        if self._line is not None:
            self._line.finish(logs)
            self._line = None

    def abandon(self) -> None:
        """Ends the line of the bar after an error or Ctrl-C."""
        if self._line is not None:
            self._line.abandon()
            self._line = None


class Line:
    """One line, printed at the end.

    Args:
        title: Title of the epoch, printed immediately on a separate line; may be empty.
        steps: Number of steps, if known.
    """

    def __init__(self, title: str, steps: int | None):
        self.steps, self.done = steps, 0
        if title:
            say(title)
        self.began = time.perf_counter()
        self.warm = self.began  # end of the first step, which is slower than the others
        self.due = self.began  # time of the next update

    def advance(self, done: int, logs: Any) -> None:
        """Sets the number of finished steps."""
        self.done = done
        if done == 1:
            self.warm, self.due = time.perf_counter(), math.inf

    def seconds_per_step(self) -> float:
        """Returns the mean time per step, without the first step if there are others."""
        if self.done > 1:
            return (time.perf_counter() - self.warm) / (self.done - 1)
        return (self.warm - self.began) if self.done else 0.0

    def finish(self, logs: Any) -> None:
        """Prints the line, with the metrics at the end."""
        seconds = time.perf_counter() - self.began
        parts = [f"{self.done}/{self.done}", f"{seconds:.0f}s", duration(self.seconds_per_step())]
        say(" - ".join(parts) + formatted(logs))

    def abandon(self) -> None:
        """Prints nothing."""


class Redrawn(Line):
    """A line that is redrawn a few times a second."""

    def advance(self, done: int, logs: Any) -> None:
        """Redraws the bar if that is due; only then are the logs read."""
        self.done = done
        now = time.perf_counter()
        if done == 1:
            self.warm = now
        if now >= self.due:
            if done > 1 or now - self.began > REDRAW_SECONDS:  # not immediately: a short epoch is drawn at its end only
                self._draw(logs, ended=False)
            self.due = now + REDRAW_SECONDS

    def finish(self, logs: Any) -> None:
        """Draws the final bar, in full even if it is wider than the terminal."""
        self._draw(logs, ended=True)

    def _draw(self, logs: Any, ended: bool) -> None:
        spent = time.perf_counter() - self.began
        left = 0.0 if self.steps is None else self.seconds_per_step() * (self.steps - self.done)
        seconds = spent if ended or self.steps is None else left
        text = f"{clock(seconds)} {duration(self.seconds_per_step())}{formatted(logs)}"
        self._show(text, ended)

    def _show(self, text: str, ended: bool) -> None:
        raise NotImplementedError


class Bar(Redrawn):
    """A bar in a terminal."""

    def __init__(self, title: str, steps: int | None):
        super().__init__(title, steps)
        self._bar = _Tqdm.made(steps)

    def abandon(self) -> None:
        """Ends the line."""
        self._bar.close()

    def _show(self, text: str, ended: bool) -> None:
        (self._bar.end if ended else self._bar.show)(self.done, text)


class NotebookBar(Redrawn):
    """A bar in a notebook: an output of its own, whose content each redraw replaces.

    A stream would keep every redraw, and an exported notebook shows them all.
    """

    _handle: Any = None

    def _show(self, text: str, ended: bool) -> None:
        content = {"text/plain": bar_line(self.done, self.done if ended else self.steps, text, " ━", "━")}
        if self._handle is not None:
            self._handle.update(content, raw=True)
            return
        from IPython.display import display

        self._handle = display(content, raw=True, display_id=True)


class _Tqdm(tqdm):
    monitor_interval = 0  # no monitor thread
    text, rest, block = "", ".", "="
    total: int | None
    width, looked = 0, -math.inf  # width of the terminal, and the time of the query
    _spare: _Tqdm | None = None  # bar of the last epoch, reused since creating one is slow

    @classmethod
    def made(cls, steps: int | None) -> _Tqdm:
        """Returns a bar of `steps` steps at the start of a line."""
        bar, cls._spare = cls._spare, None
        if bar is None or bar.stream is not sys.stdout or tqdm._instances:
            bar = cls(total=steps, file=sys.stdout, nrows=20, mininterval=0)
            bar.stream = sys.stdout
        bar.total, bar.text, bar.disable = steps, "", False
        bar.sp = bar.status_printer(bar.fp)  # a new printer, which has no previous line to erase
        tqdm._instances.add(bar)
        return bar

    def show(self, done: int, text: str) -> None:
        """Draws the bar and a text, truncated to the terminal's width, since a wrapped line could not be redrawn."""
        self.text = self._line(done, text)[: self.width]
        self.refresh()

    def end(self, done: int, text: str) -> None:
        """Draws the final bar in full, and keeps the object for the next epoch."""
        self.total = self.total or done
        line = self._line(done, text)
        if self.pos:  # below another tqdm bar
            self.text = line
            self.refresh()
            self.close()
            return
        tqdm._instances.discard(self)
        self.fp.write(f"\r{line}{' ' * (len(self.text) - len(line))}\n")
        self.fp.flush()
        self.disable = True  # nothing left to close
        _Tqdm._spare = self

    def _line(self, done: int, text: str) -> str:
        if time.perf_counter() - self.looked > LOOK_SECONDS:
            self.looked, self.width = time.perf_counter(), shutil.get_terminal_size().columns - 1
            self.rest, self.block = " ━" if can_encode("━", self.stream) else ".="
        return bar_line(done, self.total, text, self.rest, self.block)

    def __str__(self) -> str:
        return self.text


def can_encode(text: str, stream: Any) -> bool:
    """Returns whether the stream's encoding supports these characters."""
    try:
        text.encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def bar_line(done: int, total: int | None, text: str, rest: str, block: str) -> str:
    """Returns the line of a bar: steps, the bar, and the text behind it."""
    if not total:
        return f"{done}/Unknown {text}"
    filled = min(WIDTH, int(WIDTH * done / total))
    return f"{done:>{len(str(total))}}/{total} {block * filled}{rest * (WIDTH - filled)} {text}"


def is_terminal(stream: Any) -> bool:
    """Returns whether lines on the stream can be redrawn."""
    return bool(getattr(stream, "isatty", lambda: False)())


def is_notebook(stream: Any) -> bool:
    """Returns whether the stream is the output of a notebook's cell."""
    return "ipykernel" in type(stream).__module__


def can_redraw(stream: Any) -> bool:
    """Returns whether the stream is a terminal or a notebook's cell."""
    return is_terminal(stream) or is_notebook(stream)


def resolve_verbose(verbose: Any) -> int:
    """Returns the user's `verbose` as 0, 1 or 2; higher numbers are taken as 2.

    Raises: ValueError: for anything but a number from 0 on, True, False and "auto".
    """
    if verbose == "auto":
        return 1 if config.is_interactive_logging_enabled() else 2
    if not isinstance(verbose, int) or verbose < 0:
        raise ValueError(f"verbose must be 'auto', 0, 1 or 2; got {verbose!r}.")
    return min(int(verbose), 2)


def formatted(logs: Any) -> str:
    """Returns ` - accuracy: 0.5000 - loss: 0.6931`; small numbers with an exponent, arrays as their mean."""
    parts = []
    for name, value in (logs or {}).items():
        number = float(value.mean()) if isinstance(value, np.ndarray) else value
        if isinstance(number, (int, float)):
            parts.append(f" - {name}: {number:.4f}" if abs(number) > 1e-3 else f" - {name}: {number:.4e}")
    return "".join(parts)


def duration(seconds: float, unit: str = "step") -> str:
    """Returns `12ms/step`."""
    if seconds >= 1 or seconds == 0:
        return f"{seconds:.0f}s/{unit}"
    return f"{seconds * 1e3:.0f}ms/{unit}" if seconds >= 1e-3 else f"{seconds * 1e6:.0f}us/{unit}"


def clock(seconds: float) -> str:
    """Returns `7s`, `1:07`, `1:02:07`."""
    minutes, rest = divmod(int(seconds), 60)
    if not minutes:
        return f"{rest}s"
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
