"""Training curves, drawn by matplotlib."""

from __future__ import annotations

import itertools
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

INCHES = (5.0, 3.5)  # width and height of the panel of one metric
COLORS = 10  # `C0` to `C9` of matplotlib
PREFIX = "val_"

Curve = tuple[Sequence[int], Sequence[float]]  # epochs, from 1 as in the progress bar, and the value of each


def plot_history(history: Any, metrics: Sequence[str] | None = None, path: Any = None) -> list[Any]:
    """Draws the metrics of one or several trainings over the epochs: a panel for each metric, validation dashed.

    Args:
        history: What `fit` returned, or the dict in its `history`; or a list of them, or a dict with a name for each.
        metrics: Names of the metrics to draw, without `val_`; all if None.
        path: File to write as well, such as `curves.png`.
    Returns: The axes of the panels; `axes[0].figure` is their figure.
    Raises: ValueError: if there is nothing to draw, or for an unknown metric. TypeError: for other objects. ImportError:
        without matplotlib.
    """
    runs = _named(history)
    names = list(dict.fromkeys(name.removeprefix(PREFIX) for _, curves in runs for name in curves))
    chosen = names if metrics is None else [metrics] if isinstance(metrics, str) else [*metrics]
    if unknown := [name for name in chosen if name not in names]:
        raise ValueError(
            f"plot_history: the history has no metric {unknown[0]!r}; it has {', '.join(names) or 'none'}."
        )
    if not chosen:
        raise ValueError("plot_history: there is nothing to draw; the history is empty, or metrics=[] was passed.")
    plt = pyplot()
    size = (INCHES[0] * len(chosen), INCHES[1])
    figure, axes = plt.subplots(ncols=len(chosen), figsize=size, squeeze=False, layout="constrained")
    panels = [*axes[0]]
    for panel, name in zip(panels, chosen, strict=True):
        _draw(panel, name, runs)
    if path is not None:
        figure.savefig(path)
    return panels


def _draw(panel: Any, name: str, runs: Sequence[tuple[str, Mapping[str, Curve]]]) -> None:
    """Draws one metric of all trainings: a color for each training."""
    for number, (run, curves) in enumerate(runs):
        for key, style, part in ((name, "-", "training"), (PREFIX + name, "--", "validation")):
            if key in curves:
                epochs, values = curves[key]
                marker = "o" if len(epochs) == 1 else None  # a line of one point would be invisible
                label = f"{run} {part}" if run else part
                panel.plot(epochs, values, linestyle=style, color=f"C{number % COLORS}", marker=marker, label=label)
    panel.xaxis.get_major_locator().set_params(integer=True)
    panel.set_xlabel("epoch")
    panel.set_ylabel(name)
    panel.legend()


def _named(history: Any) -> list[tuple[str, dict[str, Curve]]]:
    """Returns each training's name, which may be empty, and curves."""
    if isinstance(history, (list, tuple)):
        return [(str(number), curves_of(each)) for number, each in enumerate(history, 1)]
    if isinstance(history, Mapping) and history and all(_is_training(each) for each in history.values()):
        return [(str(name), curves_of(each)) for name, each in history.items()]
    return [("", curves_of(history))]


def _is_training(history: Any) -> bool:
    return isinstance(getattr(history, "history", history), Mapping)


def curves_of(history: Any) -> dict[str, Curve]:
    """Returns the curves of one training.

    Args:
        history: A `History`, that of Keras, or the dict in its `history`.
    Raises: TypeError: for other objects.
    """
    metrics = getattr(history, "history", history)
    if not isinstance(metrics, Mapping) or not all(isinstance(values, (list, tuple)) for values in metrics.values()):
        raise TypeError(f"Expected what fit() returned, or its dict of lists; got {reprlib.repr(history)}.")
    known = getattr(history, "epochs", {})
    return {name: (_numbered(known.get(name, ()), len(values)), values) for name, values in metrics.items()}


def _numbered(epochs: Sequence[int], count: int) -> list[int]:
    """Returns the epochs of `count` values, from 1; the known ones (from 0) where they fit.

    They do not where users have changed the lists, or where one History was in two calls of `fit`.
    """
    fits = len(epochs) == count and all(earlier < later for earlier, later in itertools.pairwise(epochs))
    return [epoch + 1 for epoch in epochs] if fits else [*range(1, count + 1)]


def pyplot() -> Any:
    """Returns matplotlib.pyplot.

    Raises: ImportError: without matplotlib.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("Curves need matplotlib: pip install 'kstyle-torch[plot]'.") from error
    return plt
