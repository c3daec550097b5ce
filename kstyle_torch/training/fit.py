"""Loops of `fit`, `train_on_batch` and `evaluate`."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from kstyle_torch import tree
from kstyle_torch.callbacks import CallbackList, ProgbarLogger
from kstyle_torch.data.batches import ArrayBatches, Batches
from kstyle_torch.layer.casts import uncached_casts
from kstyle_torch.mode import passing, running
from kstyle_torch.training import step as steps
from kstyle_torch.training.engines.choose_engine import chosen_step, fast_forward, whole_epoch
from kstyle_torch.training.engines.invalidation import acts_between_steps
from kstyle_torch.training.epoch_metrics import LATE_BYTES, Meter
from kstyle_torch.training.lazy_logs import Logs, is_nan
from kstyle_torch.training.objective import read
from kstyle_torch.training.protocols import Trainable
from kstyle_torch.training.recorded.engine import RecordedStep
from kstyle_torch.training.run import Run, is_nested, run_by


def run_fit(
    model: Trainable,
    train: Batches,
    validation: Batches | None,
    callbacks: CallbackList,
    *,
    epochs: int,
    initial_epoch: int = 0,
    validation_freq: Any = 1,
) -> None:
    """Trains from `initial_epoch` up to `epochs`.

    Args:
        model: Compiled and built.
        train: The batches.
        validation: Batches for validation; None for no validation.
        callbacks: The user's callbacks, the progress bar and the History.
        epochs: Number of the last epoch, counted from 1.
        initial_epoch: Epochs that were trained before.
        validation_freq: Number of epochs from one validation to the next, or a list of epochs (from 1).
    """
    model._fit.stop_training = False
    callbacks.sources = {"train": train, "validation": validation}
    logs: dict[str, Any] = {}
    casts = uncached_casts(model._where().type)
    with (
        steps.gradients("fit"),
        casts,
        Run(model, "training", train.first_check) as run,
        _finishing(run, callbacks),
    ):
        model = run.model
        steps.make_function(run.origin, "train")
        callbacks.on_train_begin()
        for epoch in range(initial_epoch if callbacks.first_epoch is None else callbacks.first_epoch, epochs):
            model.reset_metrics()
            callbacks.on_epoch_begin(epoch)
            model = _following_changes(run)
            logs = _train_epoch(run, train, callbacks, epoch, epochs)
            if validation is not None and _validates(epoch, validation_freq):
                tested = run_evaluate(model, validation, callbacks)
                logs = _with_validation(logs, tested)
            callbacks.params["steps"] = train.steps
            callbacks.on_epoch_end(epoch, logs)
            if run.stop:
                break
        if epochs > 0 and model.optimizer is not None:
            model.optimizer.finalize_variable_values(model._compiled.views)
        callbacks.on_train_end(logs)


def _train_epoch(run: Run, batches: Batches, callbacks: CallbackList, epoch: int, epochs: int) -> dict[str, Any]:
    model = run.model
    steps.prepare(model)
    run.meter = meter = Meter(model._compiled)
    own = steps.owns_step(run.origin, "train", "compute_metrics")
    begin, end = callbacks.hooks("on_train_batch_begin"), callbacks.hooks("on_train_batch_end")
    bar = callbacks.only_bar(end)
    hooked = not steps.are_ours((*begin, *end))
    acting = acts_between_steps(model)
    watchful = not isinstance(batches, ArrayBatches) or hooked or acting or is_nested(run)
    unseen = not begin and (not end or bar is not None)
    at_once = whole_epoch(model, batches, meter) if unseen and not own and callbacks.resumed is None else None
    if at_once is None:
        step = chosen_step(model, (batches.steps or 0) * (epochs - epoch), watchful, hooked)
        done, left = 0, callbacks.numbered(batches)
    else:
        step = functools.partial(steps.train_step, model)
        done, left = at_once
    take = _trained(model, step, meter)
    if watchful:
        take = _taken_either_way(run, "train", take)
    elif own:
        take = functools.partial(steps.user_step, run, "train")
    if acting or not isinstance(batches, ArrayBatches):
        left = steps.watched_batches(run, left, (*begin, *end))
    # a callback may have entered autocast since `fit` began
    with steps.straight(run, (*begin, *end)), uncached_casts(model._where().type):
        last, logs = run_epoch(run, left, (begin, end), take, bar, done)
    if bar is not None and last >= 0:
        bar.note(last + 1)
    results = _read_logs(model, logs)
    if is_nan(results) and meter.chunks:
        meter.warn_of_nan(epoch)
    return results


def run_epoch(
    run: Run,
    batches: Iterable[tuple[int, Any]],
    hooks: tuple[Sequence[Any], Sequence[Any]],
    take: Callable[[Any], Any],
    bar: ProgbarLogger | None = None,
    done: int = 0,
) -> tuple[int, Any]:
    """Trains or tests on the batches of an epoch.

    Args:
        batches: Pairs of number and batch, from `done` on.
        hooks: Callbacks before and after every `steps_per_execution` batches.
        take: Runs the step of a batch; returns logs if the user has overridden the step.
        bar: The progress bar, if it is the only callback after a batch: then it is called only when a line is due.
    Returns: The number of the last batch, and the logs that `take` returned for it.
    """
    model, (begin, end) = run.model, hooks
    group = 1 if model.steps_per_execution == "epoch" else model.steps_per_execution
    index, logs = done - 1, None
    for index, batch in batches:
        if begin and index % group == 0:
            for hook in begin:
                hook(index, {})
        logs = take(batch)
        if end and (index + 1) % group == 0 and (bar is None or bar.is_due()):
            _tell(end, model, index, logs)
        if run.stop:
            break
    else:
        if end and (index + 1) % group:
            _tell(end, model, index, logs)
    return index, logs


def _trained(
    model: Trainable, step: Callable[[Any, Any, Any], tuple[Tensor, Any]], meter: Meter
) -> Callable[[Any], None]:
    """Returns the function that trains on a batch."""

    def take(batch: Any) -> None:
        x, y, weight = batch
        loss, y_pred = step(x, y, weight)
        if y_pred is None:  # a model that trains by its own compute_loss() alone
            steps.noted(model, loss, None, x, y, weight)
        else:
            meter.add(loss, y, y_pred, weight)

    return take


def _taken_either_way(run: Run, kind: str, take: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Returns the function for a batch where users' code runs between the steps.

    It may replace a method of the step, weights or the optimizer, or cast the model: all count from the next batch on.
    """
    model, user_step = run.model, steps.user_step if kind == "train" else _tested_by_user
    trained = steps.what_is_trained(model)

    def take_either(batch: Any) -> Any:
        nonlocal trained
        if kind == "train":
            now = steps.what_is_trained(model)
            steps.follow(model, changed=now != trained)
            trained = now
        elif (meter := run.meter) is not None and meter.late_loss is not None and steps.late_loss(model) is None:
            meter.fold()  # the loss of the batches so far; from here on, losses are computed batch by batch
            meter.late_loss = None
        return user_step(run, kind, batch) if steps.owns_step(run.origin, kind, "compute_metrics") else take(batch)

    return take_either


def _tested(model: Trainable, meter: Meter) -> Callable[[Any], None]:
    """Returns the function that tests on a batch."""

    def take(batch: Any) -> None:
        x, y, weight = batch
        _score(model, meter, x, y, weight, steps.forward(model, x, y, weight))

    return take


def _score(model: Trainable, meter: Meter, x: Any, y: Any, weight: Any, y_pred: Any) -> None:
    """Notes the outputs of a batch. Small ones are kept, and wait for a loss of many batches at once."""
    if y_pred is None:
        steps.noted(model, steps.test_loss(model, x, y, None, weight), None, x, y, weight)
        return
    waits = meter.late_loss is not None and is_small(y_pred) and not steps.has_losses(model)
    meter.add(None if waits else steps.test_loss(model, x, y, y_pred, weight), y, y_pred, weight)


def _test_quietly(run: Run, batches: Iterator[Any], meter: Meter) -> None:
    """Tests on batches as `_tested` does, where the model alone runs between them: what holds for all is looked up once.

    It ends after the first batch of an unusual kind, and leaves the others in `batches`.
    """
    model, forward, call = run.model, run.forward, running
    before, added = (call.mode, call.inside), call.losses
    assert forward is not None
    try:
        for _, (x, y, weight) in batches:
            if added:
                steps.clear_losses(model)
            call.mode, call.inside = False, True
            y_pred = forward(model, x)
            call.mode, call.inside = before
            if added or weight is not None or not meter.add_plain(y, y_pred):
                _score(model, meter, x, y, weight, y_pred)
                break
            if run.stop:
                break
    finally:
        call.mode, call.inside = before


def _tested_by_user(run: Run, kind: str, batch: Any) -> Any:
    with passing(False, inside=False):
        return steps.user_step(run, kind, batch)


def _tell(hooks: Iterable[Any], model: Trainable, index: int, logs: Any) -> None:
    """Calls the hooks after a batch, with logs that are read from the device on first access."""
    running = Logs(lambda: _read_logs(model, logs))
    for hook in hooks:
        hook(index, running)


def train_batch(model: Trainable, x: Any, y: Any, weight: Any) -> tuple[Tensor, Any]:
    """Runs one step on one batch, from a recording after many calls. Returns: The loss and the output."""
    if model.run_eagerly or model.jit_compile not in ("auto", "record"):
        return steps.train_step(model, x, y, weight)
    step: Any = chosen_step(model, 0, watchful=False, hooked=True)
    run = run_by(model)
    assert run is not None
    with steps.straight(run, ()):
        result: tuple[Tensor, Any] = step(x, y, weight)
    if isinstance(step, RecordedStep):
        step.end()
    return result


def run_evaluate(model: Trainable, batches: Batches, callbacks: CallbackList) -> dict[str, Any]:
    """Returns loss and metrics over the batches, computed in inference mode."""
    begin, end = callbacks.hooks("on_test_batch_begin"), callbacks.hooks("on_test_batch_end")
    model._fit.stop_evaluating = False
    first = batches.first_check
    with Run(model, "evaluating", first) as run, torch.no_grad(), fast_forward(run, (*begin, *end)):
        model, own = run.model, steps.owns_step(run.origin, "test", "compute_metrics")
        steps.note_losses(model)
        steps.make_function(run.origin, "test")
        callbacks.on_test_begin()
        model.reset_metrics()
        own, acting = steps.owns_step(run.origin, "test", "compute_metrics"), acts_between_steps(model)
        watchful = acting or not isinstance(batches, ArrayBatches) or not steps.are_ours((*begin, *end))
        run.meter = meter = Meter(model._compiled, None if own else functools.partial(steps.late_loss, model))
        take = _tested(model, meter)
        if watchful:
            take = _taken_either_way(run, "test", take)
        elif own:
            take = functools.partial(_tested_by_user, run, "test")
        numbered: Iterator[Any] = enumerate(batches.epoch())
        if acting or not isinstance(batches, ArrayBatches):
            numbered = steps.watched_batches(run, numbered, (*begin, *end))
        elif not (own or begin or end) and run.first_check is None and run.forward is not None:
            _test_quietly(run, numbered, meter)
            numbered = iter(()) if run.stop else numbered
        _, logs = run_epoch(run, numbered, (begin, end), take)
        results = _read_logs(model, logs)
        callbacks.on_test_end(results)
    return results


def is_small(outputs: Any) -> bool:
    """Returns whether the outputs of a batch are small enough to keep until their loss is computed."""
    leaves = (outputs,) if type(outputs) is Tensor else tree.flatten(outputs)
    return sum([leaf.nbytes for leaf in leaves]) <= LATE_BYTES


def _read_logs(model: Trainable, logs: Any) -> dict[str, Any]:
    """Returns the logs of an overridden step, or else the current metrics, as numbers."""
    return read(logs if isinstance(logs, dict) else model.get_metrics_result())


def _with_validation(logs: dict[str, Any], tested: dict[str, Any]) -> dict[str, Any]:
    """Merges validation logs as `val_...` in alphabetical order, as Keras does: `weighted_mae` comes last."""
    last = {key: value for key, value in logs.items() if key > "val_"}
    rest = {key: value for key, value in logs.items() if key not in last}
    return {**rest, **{f"val_{key}": value for key, value in tested.items()}, **last}


def _validates(epoch: int, frequency: Any) -> bool:
    return (epoch + 1) % frequency == 0 if isinstance(frequency, int) else epoch + 1 in frequency


def _following_changes(run: Run) -> Trainable:
    """Returns the model for an epoch: another than before where users' changes collide with another thread's run."""
    before = run.model
    model = run.follow_changes()
    if model is not before:
        _end_engine(before)
    return model


def _end_engine(model: Trainable) -> None:
    if model._fit.step_engine is not None:
        model._fit.step_engine.end()


@contextlib.contextmanager
def _finishing(run: Run, callbacks: CallbackList) -> Iterator[None]:
    """Ends the engine's fit and the progress bar's line, and clears gradients, also if the block raises."""
    try:
        yield
    finally:
        _end_engine(run.model)
        for parameter in run.model._compiled.parameters:
            parameter.grad = None
        for callback in callbacks.callbacks:
            if isinstance(callback, ProgbarLogger):
                callback.abandon()
