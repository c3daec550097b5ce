"""The run: one call of `fit`, `evaluate`, `predict` or a method for one batch; it belongs to its thread.

A run does not store its state on the model, which other threads may use at the same time. If another thread's run already
uses the metrics, or the mode flags of plain torch modules, the run works on a copy of the model that shares its weights.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from kstyle_torch.layer import added_losses
from kstyle_torch.layer.module_walk import set_unnoticed
from kstyle_torch.mode import Flags, active, all_modules, give_back, readers, running, sharing_copy, take, take_again
from kstyle_torch.training.protocols import Trainable

if TYPE_CHECKING:
    from kstyle_torch.training.epoch_metrics import Meter


class FirstCheck(Protocol):
    """A deferred check of data and loss, made with the output of the first step."""

    is_done: bool

    def __call__(self, model: Trainable, x: Any, y: Any, weight: Any, training: bool) -> Any:
        """Runs the model for a step and checks its output before it is used. Returns: The output."""

    def try_rows(self) -> None:
        """Makes the check now, on the first rows of the data."""


class Run:
    """State of one run, which begins and ends with a `with` block.

    Args:
        model: The model.
        kind: `"training"`, `"evaluating"` or `"predicting"`.
        first_check: Deferred check of data and loss; see `FirstCheck`.
        brief: Whether it is a single step.
    Raises: RuntimeError: on entering, if another thread is in `fit` of the same model and this run would train it too.
    Attributes: model: The model that runs: `given`, or a copy of it. given: The model it began with: `origin`, or the copy
        that an outer run works on. origin: The user's model. outer: The run of the same
        thread that this one is nested in, such as a `predict` in a callback. counts: Whether it changes the metrics.
    """

    __slots__ = (
        *("brief", "copied", "counts", "first_check", "forward", "given", "kind", "losses", "meter", "model"),
        *("origin", "outer", "stop", "taken", "thread"),
    )

    def __init__(self, model: Trainable, kind: str, first_check: FirstCheck | None = None, brief: bool = False):
        self.outer, self.losses = innermost.run, running.losses
        self.origin = model if self.outer is None else _origin_of(model, self.outer)
        self.model, self.given, self.kind, self.counts = model, model, kind, kind != "predicting"
        self.brief = brief
        self.first_check = first_check if first_check is None or not first_check.is_done else None
        self.thread = threading.get_ident()
        self.forward: Callable[[Any, Any], Any] | None = None  # the model's function for the inner loop
        self.meter: Meter | None = None  # of the running epoch
        self.stop = False  # set by a callback to end the run
        self.taken: Flags = []
        self.copied: Any = None  # the modules that were copied, and which of them were frozen

    def __enter__(self) -> Run:
        model, origin = self.given, self.origin
        with _lock:
            while origin._fit.trial not in (None, self.thread) or self._must_wait():
                _lock.wait()
            # the copy of an outer run is this thread's alone
            alone = model is not origin or not (self.counts and others_run(origin))
            origin._fit.runs.append(self)
            active.append(self)
            origin._fit.begun += self.counts
        try:
            held, self.taken = take(model, self.kind == "training", alone)
            self._work_on(held)
        except BaseException:
            self._end()
            raise
        innermost.run, running.losses = self, {}
        return self

    def __exit__(self, *error: Any) -> None:
        added, running.losses, innermost.run = running.losses, self.losses, self.outer
        give_back(self.taken)
        model = self.given
        if added or added_losses.pending or running.losses:
            pairs = zip(self.model._flatten_layers(), model._flatten_layers(), strict=True)
            added_losses.keep(pairs, added or {})
        with _lock:
            self._end()
            if self.model is not model and self.counts and not others_run(self.origin):
                _show_metrics(self.model, model)
            if self.brief:
                _lock.notify_all()

    def _work_on(self, model: Any) -> None:
        """Goes over to a model: the one that was given, or a copy of it with metrics of its own."""
        before, self.model = self.model, model
        if model is self.origin:
            return
        with _lock:
            if before is not self.origin and self in before._fit.runs:
                before._fit.runs.remove(self)
            model._fit.runs.append(self)
        if model is self.given:
            return
        self.copied = _what_is_frozen(self.given)
        if self.counts and before._compiled is not None:
            own = before._compiled.with_own_metrics() if before is self.given else before._compiled
            set_unnoticed(model, _compiled=own)

    def follow_changes(self) -> Trainable:
        """Takes the flags of foreign modules anew for an epoch: users may have frozen, unfrozen or replaced modules.

        Returns: The model to go on with; a copy from here on if another thread holds one of the flags in inference mode.
        """
        before: Any = self.model
        model = before
        if before is self.given:
            model, self.taken = take_again(before, True, self.taken)
        elif self.copied != _what_is_frozen(self.given):
            model = sharing_copy(self.given, readers(self.given))
        if model is not before:
            self._work_on(model)
            model.reset_metrics()
        return self.model

    def _must_wait(self) -> bool:
        """Returns whether another thread runs a single step on the same weights, which this training has to wait for.

        Gradients are kept at the weights, and torch refuses a backward pass whose weights have changed.
        """
        if self.kind != "training":
            return False
        trainings = [run for run in active if run.kind == "training" and run.thread != self.thread]
        others = [run for run in trainings if _train_the_same(run.origin, self.origin)]
        lasting = [run.origin for run in others if not run.brief]
        if lasting:
            whose = (
                "" if lasting[0] is self.origin else f", which has trained weights in common with {self.origin.name},"
            )
            raise RuntimeError(
                f"{lasting[0].name}{whose} is being trained by fit() in another thread. Two trainings would change the "
                "weights under each other: wait for it, call train_on_batch() in both threads, which take turns, or train "
                "a clone_model()."
            )
        return bool(others)

    def _end(self) -> None:
        """Removes the run from the lists of both models; on the copy's list it would be a cycle that holds the weights."""
        for model in (self.origin, self.model):
            if self in model._fit.runs:
                model._fit.runs.remove(self)
        if self in active:
            active.remove(self)


def _train_the_same(model: Trainable, other: Trainable) -> bool:
    """Returns whether two models are one, or training changes weights that they have in common."""
    if model is other:
        return True
    first, second = ({id(view.parameter) for view in each.trainable_weights} for each in (model, other))
    return not first.isdisjoint(second)


def _what_is_frozen(model: Trainable) -> list[tuple[int, bool, bool]]:
    """Returns the modules of a model, by id, each with what a copy of it has of its own."""
    layers: Any = all_modules(model)
    return [(id(each), getattr(each, "_trainable", True), getattr(each, "_frozen_above", False)) for each in layers]


def _origin_of(model: Trainable, run: Run | None) -> Trainable:
    """Returns the user's model of a copy that a run, or one around it, works on; the model itself if it is not a copy."""
    while run is not None and run.model is not model:
        run = run.outer
    return model if run is None else run.origin


class _Innermost(threading.local):
    def __init__(self) -> None:
        self.run: Run | None = None


innermost = _Innermost()
_lock = threading.Condition()


@contextlib.contextmanager
def sole_run(model: Trainable) -> Iterator[bool]:
    """Blocks runs of other threads on a model, while the block changes its weights temporarily.

    Yields: Whether it could; not while another thread has an active run, since waiting for that could deadlock.
    """
    fit, me = model._fit, threading.get_ident()
    with _lock:
        alone = all(run.thread == me for run in fit.runs) and fit.trial is None
        if alone:
            fit.trial = me
    try:
        yield alone
    finally:
        if alone:
            with _lock:
                fit.trial = None
                _lock.notify_all()


def _show_metrics(copy: Any, model: Trainable) -> None:
    """Copies metric state from a copy of a model to the model."""
    for mine, other in zip(model.metrics, copy.metrics, strict=False):
        for variable, result in zip(getattr(mine, "variables", ()), getattr(other, "variables", ()), strict=False):
            variable._tensor = result.value


def run_by(model: Trainable) -> Run | None:
    """Returns the run of this thread that works on a model, if it is the innermost one."""
    run = innermost.run
    return run if run is not None and run.model is model else None


@contextlib.contextmanager
def within_run(model: Trainable, kind: str) -> Iterator[Any]:
    """Begins a run for a step that is called outside of one. Yields: The model to work on."""
    if run_by(model) is not None:
        yield model
        return
    with Run(model, kind, brief=True) as run:
        yield run.model


def is_nested(run: Run) -> bool:
    """Returns whether a run is nested in another run of the same model."""
    outer = run.outer
    while outer is not None:
        if outer.model is run.model:
            return True
        outer = outer.outer
    return False


def others_run(model: Trainable) -> bool:
    """Returns whether another thread trains or evaluates the model."""
    me = threading.get_ident()
    return any(run.counts and run.thread != me for run in model._fit.runs)


def stop(model: Trainable, kind: str, value: bool) -> None:
    """Sets the stop flag of this thread's innermost run of a kind, or else of the runs of all threads."""
    runs = [run for run in model._fit.runs if run.kind == kind]
    mine = [run for run in runs if run.thread == threading.get_ident()]
    for run in mine[-1:] or runs:
        run.stop = value
