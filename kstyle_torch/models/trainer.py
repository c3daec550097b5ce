"""compile, fit, evaluate, predict: signatures and delegation. The loops are in `training`."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch

from kstyle_torch import config, optimizers, tree
from kstyle_torch.callbacks import History
from kstyle_torch.callbacks.list import as_list
from kstyle_torch.callbacks.progress import resolve_verbose
from kstyle_torch.compat import keras2
from kstyle_torch.data.arrays import num_samples
from kstyle_torch.data.batches import Batch, Batches
from kstyle_torch.data.sources import (
    as_arrays,
    check_own_batches,
    checked_batch_size,
    is_iterable_data,
    is_one_batch,
    make_batches,
)
from kstyle_torch.data.split import check_split, split_off, split_source, unpack
from kstyle_torch.data.stream import StreamBatches
from kstyle_torch.data.weights import class_weigher
from kstyle_torch.layer.base import Layer
from kstyle_torch.layer.casts import uncached_casts
from kstyle_torch.layer.containers import metrics_in
from kstyle_torch.layer.module_walk import first_parameter, modules_of, set_unnoticed
from kstyle_torch.layer.weight_holder import own_property
from kstyle_torch.mode import passing
from kstyle_torch.models.fit_attributes import FitAttribute, StopFlag
from kstyle_torch.models.named_data import NamedData
from kstyle_torch.models.step_hooks import StepHooks
from kstyle_torch.training import fit, predict, step
from kstyle_torch.training.engines.collectives import check_replicas
from kstyle_torch.training.objective import Objective, read
from kstyle_torch.training.run import Run, run_by
from kstyle_torch.training.validation import first_batch, streams
from kstyle_torch.training.validation.arguments import check_epochs, check_switches, check_validation_freq


class Trainer(NamedData, StepHooks):
    """Base class of models: compile, fit, evaluate and predict."""

    _compile_arguments: dict[str, Any] | None = None  # for saving
    _device: torch.device | None = None  # argument of compile()
    _optimizer_before_compile: Any = None  # set by the user
    _loss_as_given: Any = None
    _says_where_masks_end = False  # its layers determine it

    history = FitAttribute("history", "The `History` of the last fit.")
    stop_training = StopFlag("training", "Whether `fit` ends after this batch; a callback may set it.")
    stop_evaluating = StopFlag("evaluating", "Whether `evaluate` ends after this batch.")
    stop_predicting = StopFlag("predicting", "Whether `predict` ends after this batch.")

    def __setattr__(self, name: str, value: Any) -> None:
        known = getattr(type(self), name, None)
        is_fixed = isinstance(known, property) and known.fset is None and not name.startswith("_")
        if isinstance(known, FitAttribute) or is_fixed:
            object.__setattr__(self, name, value)  # bypasses __setattr__, which invalidates steps
        else:
            super().__setattr__(name, value)

    # -------------------------------------------------------------------------------------------------------- compile

    def compile(  # replaces nn.Module.compile; torch.compile(model) still works
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: Any = 1,
        jit_compile: Any = "auto",
        auto_scale_loss: bool = True,
        *,
        device: str | torch.device | None = None,
    ) -> None:
        """Configures training.

        Args:
            optimizer: Name, object or class; also of `torch.optim`.
            loss: Name, object, function `(y_true, y_pred) -> values`, or a torch loss; a list or dict by output for
                several outputs.
            loss_weights: Factor of each output's loss.
            metrics: List of names, objects or functions; by output for several outputs.
            weighted_metrics: Likewise, weighted by `sample_weight` and `class_weight`.
            run_eagerly: Whether every step is plain Python, for debugging.
            steps_per_execution: Number of batches between calls of batch-level callbacks. `"epoch"`, with
                `jit_compile=True`: all full batches of an epoch are one compiled call, if no callback has batch-level hooks,
                the arrays are in memory on the CPU, and the optimizer is SGD, RMSprop, Adam or AdamW without gradient
                accumulation; otherwise a warning gives the reason, and steps are single.
            jit_compile: `"auto"`: if enough steps follow, one is recorded and replayed without modules and autograd,
                with the same numbers. `"record"` requests that for user-defined layers and losses too, whose Python control
                flow is then fixed; not with callbacks with batch-level hooks, and not in `train_on_batch`.
                True, a mode of `torch.compile` or a dict of its arguments: a step is compiled to one graph, with SGD,
                RMSprop, Adam or AdamW in it; its Python control flow is fixed. With another optimizer, forward and
                backward pass are compiled. Layers without a seed draw other numbers than in eager steps, but the same ones
                after the same `torch.manual_seed`. `evaluate` and `predict` run a compiled forward pass for batch shapes
                that recur. False: neither.
                Before each epoch, the values that user code reads are compared: attributes, containers, arrays of up to 1 MiB,
                closures, globals, class attributes, and those of the functions that it calls. A recorded step is also
                compared with an eager one, once in each epoch. Values that code reads from elsewhere (files, clocks, large
                arrays, objects of other libraries' compiled code, names computed at run time) are those of the start of
                the epoch in recorded steps; compiled ones do not notice changes.
            auto_scale_loss: Whether to wrap the optimizer of a `mixed_float16` model in a `LossScaleOptimizer`.
            device: Device to which the model is moved; None for no move.
        Raises: ValueError: for an unknown name; the message suggests the nearest. TypeError: for unsupported objects.
        """
        given = {name: value for name, value in locals().items() if name != "self"}  # for saving
        check_switches(jit_compile, steps_per_execution)
        compiled = Objective(optimizer, loss, loss_weights, metrics, weighted_metrics)
        if auto_scale_loss and self.dtype_policy.name == "mixed_float16":
            compiled.optimizer = optimizers.with_loss_scale(compiled.optimizer)
        if device is not None:
            self.to(device)
        whole = steps_per_execution == "epoch"
        set_unnoticed(
            self,
            _compile_arguments=given,
            _compiled=compiled,
            _device=None if device is None else torch.device(device),
            run_eagerly=bool(run_eagerly),
            jit_compile=jit_compile,
            steps_per_execution="epoch" if whole else int(steps_per_execution),
        )
        if loss is not None:
            set_unnoticed(self, _loss_as_given=loss)
        self._fit.forget_engines()
        self._fit.train_function = self._fit.test_function = self._fit.predict_function = None
        self._fit.stop_training = False

    @property
    def compiled(self) -> bool:
        """True if `compile` was called."""
        return self._compiled is not None

    @property
    def optimizer(self) -> Any:
        """The optimizer: that of `compile`, or the one set since; before `compile` the one that was set, or None."""
        return self._optimizer_before_compile if self._compiled is None else self._compiled.optimizer

    @optimizer.setter
    def optimizer(self, value: Any) -> None:
        if self._compiled is None:
            set_unnoticed(self, _optimizer_before_compile=value)
        else:
            self._compiled.optimizer = optimizers.get(value)
            self._fit.forget_engines()

    @property
    def loss(self) -> Any:
        """The loss of `compile`. As in Keras, `fit` ignores another one that is set here."""
        return self._loss_as_given

    @loss.setter
    def loss(self, value: Any) -> None:
        set_unnoticed(self, _loss_as_given=value)

    @property
    def metrics(self) -> list[Any]:
        """The metrics: of the loss, of `compile` (as one), and those in attributes of the model and its layers."""
        found: list[Any] = []
        if self._compiled is not None:
            metrics = self._compiled.metrics
            found = [self._compiled.loss_tracker, *([metrics] if metrics.given else []), *self._compiled.trackers]
        for module in modules_of(self):
            if module._holds_metrics if isinstance(module, Layer) else not type(module).__module__.startswith("torch."):
                found += metrics_in(module)
        return found

    @property
    def metrics_variables(self) -> list[Any]:
        """The state of the metrics."""
        return [variable for metric in self.metrics for variable in metric.variables]

    @property
    def metrics_names(self) -> list[str]:
        """The names of the metrics."""
        return [metric.name for metric in self.metrics]

    def compiled_metrics(self) -> list[tuple[str, Any]]:
        """Pairs of key in the logs and metric object."""
        return [] if self._compiled is None else [(entry.key, entry.metric) for entry in self._compiled.metrics.entries]

    def reset_metrics(self) -> None:
        """Resets all metrics."""
        run = run_by(self)
        if run is not None and run.meter is not None:
            run.meter.clear()
        device = self._where()
        for metric in self.metrics:
            metric.to(device)
            metric.reset_state()

    def get_metrics_result(self) -> dict[str, Any]:
        """Returns `{name: value so far}`, on the device."""
        run = run_by(self)
        if run is not None and run.meter is not None:
            run.meter.fold()
        results: dict[str, Any] = {}
        for metric in self.metrics:
            value = metric.result()
            results.update(value if isinstance(value, dict) else {metric.name: value})
        return results

    # ------------------------------------------------------------------------------------------------------- the loops

    @keras2.takes_older("fit", {"nb_epoch": "epochs", **keras2.OF_WORKERS})
    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: Any = True,
        class_weight: dict[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: Any = 1,
    ) -> History:
        """Trains the model.

        Args:
            x: Array, tensor, DataFrame; a list or dict of them for several inputs; or a `Dataset`, `DataLoader` or
                generator of `(x, y)` or `(x, y, sample_weight)`. Dicts, batches that are dicts, and data sets of the
                library `datasets` may hold the targets as `labels` or `label`.
            y: Targets.
            batch_size: Samples per step; 32 if None.
            epochs: The number of the last epoch.
            verbose: 0 silent, 1 progress bar, 2 one line per epoch; "auto" is 1.
            callbacks: Callback objects.
            validation_split: Share of the data, the last samples before shuffling, for validation; in [0, 1).
            validation_data: `(x, y)` or `(x, y, sample_weight)`, or a `Dataset` or `DataLoader`.
            shuffle: Whether each epoch has a new order.
            class_weight: `{class number: weight}`.
            sample_weight: A weight for each sample.
            initial_epoch: Number of epochs that were trained before.
            steps_per_epoch: Batches per epoch; all if None.
            validation_steps: Batches per validation; all if None.
            validation_batch_size: That of `fit` if None.
            validation_freq: Number of epochs between validations, or a list of epochs.
        Returns: The `History`: `.history` is `{name: value of each epoch}`.
        Raises: ValueError: if the model is not compiled, or the data does not fit it; nothing changes then.
        """
        self._require_compiled("fit")
        check_replicas(self)
        verbose = resolve_verbose(verbose)
        check_split(validation_split)
        check_epochs(epochs=epochs, initial_epoch=initial_epoch)
        check_validation_freq(validation_freq)
        epochs = config.limited(epochs, config.max_epochs(), "epochs")
        weigh = class_weigher(class_weight)
        x, y = self._with_targets(x, y)
        if is_iterable_data(x):
            check_own_batches(x, batch_size)
            if validation_split and validation_data is None:
                x, validation_data = split_source(x, validation_split)
        else:
            arrays = as_arrays(self.without_text(x, lazily=True), y, sample_weight, self._floats())
            if validation_split and validation_data is None:
                arrays, validation_data = split_off(arrays, validation_split, num_samples(arrays[0]))
            x, y, sample_weight = arrays
        train = self._batches(x, y, sample_weight, batch_size, shuffle, steps_per_epoch, weigh)
        validation = None
        if validation_data is not None:
            x, y, sample_weight = (
                (validation_data, None, None) if is_iterable_data(validation_data) else unpack(validation_data)
            )
            x, y = self._with_targets(x, y)
            check_own_batches(x, validation_batch_size, "validation_batch_size")
            rows = validation_batch_size or batch_size
            validation = self._batches(x, y, sample_weight, rows, False, validation_steps, restarts=True)
        listed = as_list(callbacks, self, add_history=True, verbose=verbose, epochs=epochs, steps=train.steps)
        fit.run_fit(
            self, train, validation, listed, epochs=epochs, initial_epoch=initial_epoch, validation_freq=validation_freq
        )
        assert listed.history is not None
        return listed.history

    @keras2.takes_older("evaluate", keras2.OF_WORKERS)
    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Computes loss and metrics on data, in inference mode.

        Args:
            x: As for `fit`.
            y: Targets.
            batch_size: Samples per step; 32 if None.
            verbose: As for `fit`.
            sample_weight: A weight for each sample.
            steps: Number of batches; all if None.
            callbacks: Callback objects.
            return_dict: Whether to return a dict.
            kwargs: Not supported.
        Returns: The loss, `[loss, metrics...]` if there are metrics, or a dict of all.
        Raises: ValueError: like `fit`, or for an unknown argument.
        """
        kwargs.pop("_use_cached_eval_dataset", None)  # subclasses with Keras' own `fit` pass it
        if kwargs:
            raise ValueError(f"evaluate() got the unknown argument {next(iter(kwargs))!r}.")
        self._require_compiled("evaluate")
        verbose = resolve_verbose(verbose)
        x, y = self._with_targets(x, y)
        batches = self._batches(x, y, sample_weight, batch_size, False, steps)
        listed = as_list(callbacks, self, verbose=verbose, epochs=1, steps=batches.steps)
        return self._as_results(fit.run_evaluate(self, batches, listed), return_dict)

    @keras2.takes_older("predict", keras2.OF_WORKERS)
    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: Any = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        """Returns the outputs for data as arrays, in inference mode. The model does not have to be compiled.

        Args:
            x: As for `fit`.
            batch_size: Samples per step; 32 if None.
            verbose: As for `fit`.
            steps: Number of batches; all if None.
            callbacks: Callback objects.
        Returns: An array (samples, ...); a list or dict of them for several outputs.
        Raises: ValueError: if the data does not fit the model.
        """
        verbose = resolve_verbose(verbose)
        if not verbose and callbacks is None and steps is None and is_one_batch(x, batch_size):
            return self._predict_batch(x)
        x, _ = self._with_targets(x, None, needs_targets=False)
        batches = make_batches(
            x,
            None,
            None,
            batch_size=batch_size,
            shuffle=False,
            device=self._where(),
            steps=steps,
            prepare=self._checked_x,
            floats=self._floats(),
            without_text=self._converter(),
            naming=self._naming(needs_targets=False),
        )
        batches.inspect = streams.batch_inspector(self, with_targets=False)
        listed = as_list(callbacks, self, verbose=verbose, epochs=1, steps=batches.steps)
        return predict.run_predict(self, batches, listed)

    def train_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, class_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """Runs one training step on one batch.

        Returns: The loss and metrics of this batch, in the form of `evaluate`.
        Raises: ValueError: like `fit`.
        """
        self._require_compiled("train_on_batch")
        check_replicas(self)
        data, first = self._one_batch(x, y, sample_weight, class_weigher(class_weight))
        casts = uncached_casts(self._where().type)
        with step.gradients("train_on_batch"), casts, Run(self, "training", first, True) as run:
            model = run.model
            step.prepare(model)
            model.reset_metrics()
            if step.owns_step(self, "train"):
                step.make_function(self, "train")
                logs = read(step.called_step(run, "train", data))
            else:
                x, y, weight = data
                logs = read(step.noted(model, *fit.train_batch(model, *data), x, y, weight))
        return self._as_results(logs, return_dict)

    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False) -> Any:
        """Computes loss and metrics of one batch.

        Returns: The same as `evaluate`.
        Raises: ValueError: like `fit`.
        """
        self._require_compiled("test_on_batch")
        data, first = self._one_batch(x, y, sample_weight, None)
        with Run(self, "evaluating", first) as run, torch.no_grad():
            step.note_losses(run.model)
            run.model.reset_metrics()
            with passing(False, inside=False):
                step.make_function(self, "test")
                logs = read(step.called_step(run, "test", data))
        return self._as_results(logs, return_dict)

    def predict_on_batch(self, x: Any) -> Any:
        """Returns the outputs for one batch, as arrays."""
        return self._predict_batch(x, in_tuple=True)

    # ---------------------------------------------------------------------------------------------------------- inside

    @own_property
    def trainable_weights(self) -> list[Any]:
        """The weights that training changes: one for each of `parameters()` that requires a gradient.

        Custom loops read it at every step, so the list is cached until the weights change.
        """
        now, known = step.what_counts(modules_of(self)), self._fit.known_weights
        if known is None or known[0] != now:
            views: list[Any] = super().trainable_weights  # type: ignore[misc]
            known = self._fit.known_weights = now, views
        return [*known[1]]

    def overrides(self, *names: str) -> bool:
        """Returns whether the user's class, or this very model, has another function in the place of one of these methods.

        Nothing is cached: users may set a method of an object or of a class at any time.
        """
        fields, get = self.__dict__, operator.attrgetter(*names)
        for name in names:
            if name in fields:
                return True
        return bool(get(type(self)) != get(_METHODS))

    def _require_compiled(self, method: str) -> None:
        if self._compiled is None:
            raise ValueError(
                f"{method}() was called before compile(); call model.compile(optimizer=..., loss=...) first."
            )

    def _where(self) -> torch.device:
        weight = first_parameter(self)
        return (self._device or config.device()) if weight is None else weight.device

    def _floats(self) -> torch.dtype | None:
        """Returns the dtype of floating-point data: float64 for models in float64, so that no digits are lost."""
        return torch.float64 if self._compute_dtype is torch.float64 else None

    def _batches(
        self,
        x: Any,
        y: Any,
        sample_weight: Any,
        batch_size: int | None,
        shuffle: Any,
        steps: int | None,
        weigh: Callable[..., Any] | None = None,
        restarts: bool = False,
    ) -> Batches:
        """Returns batches on the model's device, checked against model and loss."""
        waiting: list[first_batch.FirstBatch] = []
        prepare = functools.partial(self._checked, waiting, batch_size=checked_batch_size(batch_size))
        batches = make_batches(
            x,
            y,
            sample_weight,
            batch_size=batch_size,
            shuffle=shuffle,
            device=self._where(),
            steps=steps,
            restarts=restarts,
            weigh=weigh,
            prepare=prepare,
            floats=self._floats(),
            without_text=self._converter(),
            naming=self._naming(needs_targets=True),
        )
        if isinstance(batches, StreamBatches):
            self._checked(waiting, *batches.first())
        batches.first_check = waiting[-1] if waiting else None
        batches.inspect = streams.batch_inspector(self)
        return batches

    def _checked(
        self,
        waiting: list[first_batch.FirstBatch],
        x: Any,
        y: Any,
        sample_weight: Any,
        batch_size: int | None = None,
    ) -> Batch:
        """Converts the data to the form of the model and its loss; a check that needs the first step is stored in `waiting`."""
        needs_loss = not step.owns_step(self, "train", "compute_loss")
        if needs_loss and self._compiled is not None:
            first_batch.check_given(self._compiled, x, y)
        self._checked_x(x, y, sample_weight)
        device = self._where()
        with config.device_scope(device):
            first = first_batch.check_data(self, (x, y, sample_weight), device, batch_size, needs_loss)
        waiting += [] if first is None else [first]
        return x, first_batch.targets_as_needed(self, y), sample_weight

    def _checked_x(self, x: Any, y: Any, sample_weight: Any) -> Batch:
        self.check_inputs(x)
        if getattr(self, "built", False):
            streams.check_tables(self, x)
        return x, y, sample_weight

    def check_inputs(self, x: Any) -> None:
        """Raises a ValueError if x does not fit the model."""

    def without_text(self, x: Any, lazily: bool = False, on_host: bool = False) -> Any:
        """Returns x with numbers in the place of text, for a model whose inputs include text."""
        return x

    @property
    def _takes_text(self) -> bool:
        """Returns whether an input is text."""
        return False

    def _converter(self) -> Callable[..., Any] | None:
        """Returns `without_text` for batches; None if no input of the model is text."""
        return functools.partial(self.without_text, on_host=True) if self._takes_text else None

    def integer_readers(self) -> dict[int, Any]:
        """Returns the inputs, by position, that are read by layers of integers only."""
        return {}

    def _predict_batch(self, x: Any, in_tuple: bool = False) -> Any:
        x, _, _ = self._checked_x(*as_arrays(self.without_text(x), floats=self._floats()))
        return predict.predict_batch(self, _moved(x, self._where()), in_tuple)

    def _one_batch(
        self, x: Any, y: Any, sample_weight: Any, weigh: Callable[..., Any] | None
    ) -> tuple[Batch, first_batch.FirstBatch | None]:
        x, y = self._with_targets(x, y)
        x, y, sample_weight = as_arrays(self.without_text(x), y, sample_weight, self._floats())
        if weigh is not None:
            sample_weight = weigh(y, sample_weight)
        waiting: list[first_batch.FirstBatch] = []
        batch = _moved(self._checked(waiting, x, y, sample_weight), self._where())
        return batch, waiting[-1] if waiting else None

    def _as_results(self, logs: dict[str, float], return_dict: bool) -> Any:
        """Returns a dict, or a list in Keras' order: that of `metrics`, followed by other keys, sorted."""
        if return_dict:
            return logs
        names = [part.name for metric in self.metrics for part in getattr(metric, "metrics", [metric])]
        first = [name for name in names if name in logs]
        ordered = [logs[name] for name in (*first, *sorted(logs.keys() - set(first)))]
        return ordered[0] if len(ordered) == 1 else ordered


_METHODS = SimpleNamespace(  # originals; users may replace them
    train_step=Trainer.train_step,
    test_step=Trainer.test_step,
    predict_step=Trainer.predict_step,
    make_train_function=Trainer.make_train_function,
    make_test_function=Trainer.make_test_function,
    make_predict_function=Trainer.make_predict_function,
    compute_loss=Trainer.compute_loss,
    compute_metrics=Trainer.compute_metrics,
)


def _moved(structure: Any, device: torch.device) -> Any:
    return tree.map_structure(lambda leaf: leaf if leaf is None else leaf.to(device), structure)
