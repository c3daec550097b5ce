"""Filtering of printed tracebacks: without frames of this package and of torch.

Exceptions keep all of their frames: only what Python and IPython print of those that nothing catches is shorter. So
debuggers, loggers and `traceback` see everything, and calls of layers cost nothing more.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

PACKAGE = __name__.partition(".")[0]
HIDDEN = (str(Path(__file__).parent), str(Path(torch.__file__).parent), f"<{PACKAGE} ")  # the last of generated code

_enabled: bool | None = None  # None: where the whole traceback can be shown afterwards, which is in IPython
_earlier_hook: Callable[..., Any] | None = None


def enable_traceback_filtering() -> None:
    """Hides the frames of this package and of torch in tracebacks that Python or IPython print.

    The exception object keeps them. This is so from the start in IPython and notebooks, where `%tb` shows all of it after
    `disable_traceback_filtering()`; elsewhere tracebacks are whole, since a log is all that is left of them.
    """
    global _enabled, _earlier_hook
    _enabled = True
    _filter_in_ipython()
    if sys.excepthook is not _show:
        _earlier_hook, sys.excepthook = sys.excepthook, _show


def disable_traceback_filtering() -> None:
    """Shows complete tracebacks again."""
    global _enabled
    _enabled = False
    if sys.excepthook is _show and _earlier_hook is not None:
        sys.excepthook = _earlier_hook


def is_traceback_filtering_enabled() -> bool:
    """Returns whether tracebacks are shown without the frames of this package and of torch."""
    return _shell() is not None if _enabled is None else _enabled


def _show(kind: type[BaseException], error: BaseException, frames: TracebackType | None) -> None:
    """Prints an exception that nothing has caught; the hook that Python calls."""
    show = _earlier_hook or sys.__excepthook__
    if not is_traceback_filtering_enabled():
        show(kind, error, frames)
        return
    with _shortened(error) as count:
        show(kind, error, error.__traceback__)
    if count:
        print(_advice(count), file=sys.stderr)


def _shell() -> Any:
    """Returns IPython's shell; None outside of IPython."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None


def _filter_in_ipython() -> None:
    """Installs the filter in IPython, if it runs."""
    shell = _shell()
    formatter: Any = getattr(shell, "InteractiveTB", None)
    given = getattr(formatter, "structured_traceback", None)
    if given is None or getattr(given, "is_filtered", False):
        return

    def structured_traceback(*args: Any, **kwargs: Any) -> Any:
        error = next((each for each in args if isinstance(each, BaseException)), None)
        if error is None or not is_traceback_filtering_enabled():
            return given(*args, **kwargs)
        with _shortened(error) as count:
            args = tuple(error.__traceback__ if isinstance(each, TracebackType) else each for each in args)
            lines = given(*args, **kwargs)
        return [*lines, _advice(count)] if count and isinstance(lines, list) else lines

    structured_traceback.is_filtered = True  # type: ignore[attr-defined]
    formatter.structured_traceback = structured_traceback


def _advice(count: int) -> str:
    frames = "1 frame" if count == 1 else f"{count} frames"
    show = "then %tb" if _shell() is not None else "before it"
    return f"({frames} of {PACKAGE} and torch not shown; config.disable_traceback_filtering(), {show}, shows all.)"


@contextlib.contextmanager
def _shortened(error: BaseException) -> Iterator[int]:
    """Takes hidden frames from an exception, and from those that led to it, for the length of the block.

    Gives how many there are.
    """
    before: dict[int, tuple[BaseException, TracebackType | None]] = {}
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in before:
            before[id(each)] = each, each.__traceback__
            waiting += [each.__cause__, each.__context__, *getattr(each, "exceptions", ())]
    count = 0
    try:
        for each, frames in before.values():
            kept, hidden = _without_hidden(frames)
            each.__traceback__ = kept
            count += hidden
        yield count
    finally:
        for each, frames in before.values():
            each.__traceback__ = frames


def _without_hidden(frames: TracebackType | None) -> tuple[TracebackType | None, int]:
    """Returns a traceback without hidden frames, and how many these are; all of it where nothing would be left."""
    listed = []
    step = frames
    while step is not None:
        listed.append(step)
        step = step.tb_next
    shown = [each for each in listed if not each.tb_frame.f_code.co_filename.startswith(HIDDEN)]
    if not shown:
        return frames, 0
    kept = None
    for each in reversed(shown):
        kept = TracebackType(kept, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return kept, len(listed) - len(shown)


_filter_in_ipython()


def warn_user(message: str) -> None:
    """Warns at the line of the user's program that called this package, however deep in it the caller is."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(HIDDEN[0]):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)
