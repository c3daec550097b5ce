"""The loops: epochs of training, tests, predictions. The only ones in the package."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kstyle_torch import tree
from kstyle_torch.arrays import to_array
from kstyle_torch.callbacks import CallbackList, ProgbarLogger
from kstyle_torch.data.batches import ArrayBatches, Batches
from kstyle_torch.layers.precision import uncached_casts
from kstyle_torch.mode import passing, running
from kstyle_torch.training import step as steps
from kstyle_torch.training.compiled.engine import CompiledStep
from kstyle_torch.training.compiled.epoch_graph import CompiledEpoch
from kstyle_torch.training.compiled.forward_graph import compiled_forward
from kstyle_torch.training.epoch_metrics import Logs, Meter, is_nan
from kstyle_torch.training.objective import read
from kstyle_torch.training.recorded.engine import RecordedStep
from kstyle_torch.training.run import Run, is_nested, run_by

LATE_BYTES = 2**16  # of a batch's outputs; up to here the loss of many at once saves more than keeping them costs
HOST_BYTES = 512 * 2**20  # predictions are brought to the host in pieces of this size


def run_fit(
    model: Any,
    train: Batches,
    validation: Batches | None,
    callbacks: CallbackList,
    *,
    epochs: int,
    initial_epoch: int = 0,
    validation_freq: Any = 1,
) -> None:
    """Trains for some epochs.

    Args:
        model: Compiled and built.
        train: The batches.
        validation: Those for the validation after an epoch; None for no validation.
        callbacks: The user's, the progress bar and the History.
        epochs: The number of the last epoch.
        initial_epoch: How many there have been.
        validation_freq: Every how many epochs there is a validation, or the list of those epochs (from 1).
    """
    model._fit.stop_training = False
    callbacks.sources = {"train": train, "validation": validation}
    logs: dict[str, Any] = {}
    casts = uncached_casts(model._where().type)
    with (
        steps.gradients("fit"),
        casts,
        Run(model, "training", train.first_check) as run,
        _finishing(run.model, callbacks),
    ):
        model = run.model
        callbacks.on_train_begin()
        for epoch in range(initial_epoch if callbacks.first_epoch is None else callbacks.first_epoch, epochs):
            model.reset_metrics()
            callbacks.on_epoch_begin(epoch)
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
    own = model.overrides("train_step", "compute_metrics")
    begin, end = callbacks.hooks("on_train_batch_begin"), callbacks.hooks("on_train_batch_end")
    bar = callbacks.only_bar(end)
    hooked = not steps.are_ours((*begin, *end))
    watchful = not isinstance(batches, ArrayBatches) or hooked or is_nested(run)
    unseen = not begin and (not end or bar is not None)
    at_once = _whole_epoch(model, batches, meter) if unseen and callbacks.resumed is None else None
    if at_once is None:
        step = _chosen_step(model, (batches.steps or 0) * (epochs - epoch), watchful, hooked)
        done, left = 0, callbacks.numbered(batches)
    else:
        step = functools.partial(steps.train_step, model)
        done, left = at_once
    group = 1 if model.steps_per_execution == "epoch" else model.steps_per_execution
    index, logs = done - 1, None
    with steps.straight(run, (*begin, *end)):
        for index, batch in left:
            if begin and index % group == 0:
                for hook in begin:
                    hook(index, {})
            if own:
                logs = steps.user_step(model, model.train_step, batch)
            else:
                loss, y_pred = step(*batch)
                meter.add(loss, batch[1], y_pred, batch[2])
            if end and (index + 1) % group == 0 and (bar is None or bar.is_due()):
                _tell(end, model, index, logs)
            if run.stop:
                break
        else:
            if end and (index + 1) % group:
                _tell(end, model, index, logs)
    if bar is not None and index >= 0:
        bar.note(index + 1)
    results = _read_logs(model, logs)
    if is_nan(results) and meter.chunks:
        meter.warn_of_nan(epoch)
    return results


def _tell(hooks: Iterable[Any], model: Any, index: int, logs: Any) -> None:
    """Calls the hooks after a batch, with logs that are read when somebody looks."""
    running = Logs(lambda: _read_logs(model, logs))
    for hook in hooks:
        hook(index, running)


def _whole_epoch(model: Any, batches: Batches, meter: Meter) -> Any:
    """Runs the whole batches in one call, if that is asked for and can be; see `CompiledEpoch.run`."""
    if model.steps_per_execution != "epoch" or model.run_eagerly or not model._compiled.parameters:
        return None
    if model._fit.epoch_engine is None:
        model._fit.epoch_engine = CompiledEpoch(model, model.jit_compile)
    return model._fit.epoch_engine.run(batches, meter)


def _chosen_step(model: Any, ahead: int, watchful: bool, hooked: bool) -> Callable[[Any, Any, Any], tuple[Tensor, Any]]:
    """Returns the function that runs the steps of an epoch; for the arguments see `RecordedStep.begin`."""
    how = model.jit_compile
    if model.run_eagerly or not how or not model._compiled.parameters:
        return functools.partial(steps.train_step, model)
    step = model._fit.step_engine
    if step is None:
        step = RecordedStep(model, asked=how == "record") if how in ("auto", "record") else CompiledStep(model, how)
        model._fit.step_engine = step
    step.begin(ahead, watchful, hooked)
    return step


def train_batch(model: Any, x: Any, y: Any, weight: Any) -> tuple[Tensor, Any]:
    """One step for one batch; recorded, once there were many. Returns: The loss and the output."""
    if model.run_eagerly or model.jit_compile not in ("auto", "record"):
        return steps.train_step(model, x, y, weight)
    step: Any = _chosen_step(model, 0, watchful=False, hooked=True)
    run = run_by(model)
    assert run is not None
    with steps.straight(run, ()):
        result = step(x, y, weight)
    if isinstance(step, RecordedStep):
        step.end()
    return result


def run_evaluate(model: Any, batches: Batches, callbacks: CallbackList) -> dict[str, Any]:
    """Loss and metrics over the batches, in inference mode."""
    begin, end = callbacks.hooks("on_test_batch_begin"), callbacks.hooks("on_test_batch_end")
    own = model.overrides("test_step", "compute_metrics")
    logs: Any = None
    model._fit.stop_evaluating = False
    first = batches.first_check
    with Run(model, "evaluating", first) as run, torch.no_grad(), _quick(run, (*begin, *end)):
        model = run.model
        steps.note_losses(model)
        callbacks.on_test_begin()
        model.reset_metrics()
        run.meter = meter = Meter(model._compiled, None if own else functools.partial(steps.late_loss, model))
        for index, batch in enumerate(batches.epoch()):
            for hook in begin:
                hook(index, {})
            if own:
                with passing(False):
                    logs = steps.user_step(model, model.test_step, batch)
            else:
                x, y, weight = batch
                y_pred = steps.forward(model, x, y, weight)
                waits = meter.late_loss is not None and is_small(y_pred) and not steps.has_losses(model)
                meter.add(None if waits else steps.test_loss(model, x, y, y_pred, weight), y, y_pred, weight)
            if end:
                _tell(end, model, index, logs)
            if run.stop:
                break
        results = _read_logs(model, logs)
        callbacks.on_test_end(results)
    return results


@contextlib.contextmanager
def _quick(run: Run, hooks: Iterable[Any]) -> Iterator[None]:
    """Runs the model straight, or compiled."""
    with steps.straight(run, hooks), compiled_forward(run, hooks):
        yield


def _call(model: Any, x: Any) -> Any:
    return nn.Module.__call__(model, x) if type(x) is Tensor else model(x)


def is_small(outputs: Any) -> bool:
    """Whether outputs of a batch may wait for their loss."""
    leaves = (outputs,) if type(outputs) is Tensor else tree.flatten(outputs)
    return sum([leaf.nbytes for leaf in leaves]) <= LATE_BYTES


def run_predict(model: Any, batches: Batches, callbacks: CallbackList) -> Any:
    """The outputs for all batches, joined, as arrays."""
    begin, end = callbacks.hooks("on_predict_batch_begin"), callbacks.hooks("on_predict_batch_end")
    own = model.overrides("predict_step")
    collected = Outputs()
    model._fit.stop_predicting = False
    # not inference_mode: the states of stateful layers would be of no use in training
    with Run(model, "predicting") as run, torch.no_grad(), _quick(run, (*begin, *end)):
        model, call = run.model, running
        callbacks.on_predict_begin()
        forward = functools.partial(run.forward, model) if run.forward else functools.partial(_call, model)
        for index, batch in enumerate(batches.epoch()):
            for hook in begin:
                hook(index, {})
            before = call.mode, call.inside
            call.mode, call.inside = False, True  # not while hooks and the user's data run
            try:
                outputs = steps.user_step(model, model.predict_step, batch) if own else forward(batch[0])
            finally:
                call.mode, call.inside = before
            collected.add(outputs)
            for hook in end:
                hook(index, {"outputs": outputs})
            if run.stop:
                break
        joined = collected.joined()
        callbacks.on_predict_end()
    return joined


def predict_batch(model: Any, x: Any) -> Any:
    """The outputs for one batch that no callback looks at, as arrays."""
    own = model.overrides("predict_step")
    with Run(model, "predicting") as run, torch.no_grad(), steps.straight(run, ()):
        model = run.model
        if own:
            with passing(False):
                outputs = steps.user_step(model, model.predict_step, (x, None, None))
        else:
            outputs = steps.run_model(model, x, training=False)
    return tree.map_structure(_array, outputs)


def _array(leaf: Any) -> np.ndarray:
    tensor = torch.as_tensor(leaf).detach()
    array = to_array(tensor)
    return array.copy() if tensor.device.type == "cpu" else array  # never the user's own memory


class Outputs:
    """Outputs of several batches, kept on the device until there are many."""

    def __init__(self) -> None:
        self.nest: Any = None
        self.columns: list[list[Tensor]] = []
        self.on_host: list[list[np.ndarray]] = []
        self.bytes = 0

    def add(self, outputs: Any) -> None:
        """Takes the outputs of a batch."""
        leaves = [outputs] if type(outputs) is Tensor else tree.flatten(outputs)
        if not self.columns:
            self.nest = outputs
            self.columns = [[] for _ in leaves]
            self.on_host = [[] for _ in leaves]
        for column, leaf in zip(self.columns, leaves, strict=True):
            column.append(leaf if type(leaf) is Tensor and not leaf.requires_grad else torch.as_tensor(leaf).detach())
            self.bytes += column[-1].nbytes
        if self.bytes > HOST_BYTES:
            self._to_host()

    def _to_host(self) -> None:
        for column, arrays in zip(self.columns, self.on_host, strict=True):
            if column:
                arrays.append(to_array(torch.cat(column)))
                column.clear()
        self.bytes = 0

    def joined(self) -> Any:
        """All outputs, in the nest that the model gives.

        Raises: ValueError: if there was no batch.
        """
        if not self.columns:
            raise ValueError("predict() got no batches.")
        self._to_host()
        arrays = [arrays[0] if len(arrays) == 1 else np.concatenate(arrays) for arrays in self.on_host]
        return tree.pack_sequence_as(self.nest, arrays)


def _read_logs(model: Any, logs: Any) -> dict[str, Any]:
    """What a step of the user's returned, or the metrics so far; as numbers."""
    return read(logs if isinstance(logs, dict) else model.get_metrics_result())


def _with_validation(logs: dict[str, Any], tested: dict[str, Any]) -> dict[str, Any]:
    """Both, those of the validation as `val_...`; in the order of the keys, as in Keras: `weighted_mae` comes last."""
    last = {key: value for key, value in logs.items() if key > "val_"}
    rest = {key: value for key, value in logs.items() if key not in last}
    return {**rest, **{f"val_{key}": value for key, value in tested.items()}, **last}


def _validates(epoch: int, frequency: Any) -> bool:
    return (epoch + 1) % frequency == 0 if isinstance(frequency, int) else epoch + 1 in frequency


@contextlib.contextmanager
def _finishing(model: Any, callbacks: CallbackList) -> Iterator[None]:
    """Whatever happens inside: no leftovers on the parameters, the bar's line ended."""
    try:
        yield
    finally:
        if model._fit.step_engine is not None:
            model._fit.step_engine.end()
        for parameter in model._compiled.parameters:
            parameter.grad = None
        for callback in callbacks.callbacks:
            if isinstance(callback, ProgbarLogger):
                callback.abandon()
