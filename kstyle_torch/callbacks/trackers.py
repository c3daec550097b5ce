"""Callbacks that report to experiment trackers and hyperparameter searches, whose packages they import when they are made."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import numpy as np

from kstyle_torch.callbacks.base import Callback


class MLflowLogger(Callback):
    """Logger of the metrics of each epoch to MLflow.

    It logs to the run that is active when training begins. If none is, it starts one, and ends it after training.

    Args:
        **run: Arguments of `mlflow.start_run`, such as `run_name`.
    Raises: ImportError: without mlflow.
    """

    def __init__(self, **run: Any):
        super().__init__()
        _imported("mlflow", self)
        self.run = run
        self._is_own = False

    def on_train_begin(self, logs: Any = None) -> None:
        mlflow = _imported("mlflow", self)
        self._is_own = mlflow.active_run() is None
        if self._is_own:
            mlflow.start_run(**self.run)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        _imported("mlflow", self).log_metrics(_numbers(logs), step=epoch)

    def on_train_end(self, logs: Any = None) -> None:
        if self._is_own:
            _imported("mlflow", self).end_run()

    def state_dict(self) -> dict[str, Any]:
        """Returns nothing: a resumed training has a run of its own."""
        return {}


class WandbLogger(Callback):
    """Logger of the metrics of each epoch to Weights & Biases.

    It logs to the active run, `wandb.run`. If there is none, it starts one when training begins, and finishes it afterwards.

    Args:
        **run: Arguments of `wandb.init`, such as `project`.
    Raises: ImportError: without wandb.
    """

    def __init__(self, **run: Any):
        super().__init__()
        _imported("wandb", self)
        self.run = run
        self._is_own = False

    def on_train_begin(self, logs: Any = None) -> None:
        wandb = _imported("wandb", self)
        self._is_own = wandb.run is None
        if self._is_own:
            wandb.init(**self.run)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        # "epoch" as a value: wandb's own step only rises, so that a second `fit` in a run would lose its metrics
        _imported("wandb", self).run.log({"epoch": epoch, **_numbers(logs)})

    def on_train_end(self, logs: Any = None) -> None:
        if self._is_own:
            _imported("wandb", self).run.finish()

    def state_dict(self) -> dict[str, Any]:
        """Returns nothing: a resumed training has a run of its own."""
        return {}


class OptunaPruning(Callback):
    """Pruning by Optuna: reports a metric of each epoch to a trial, and ends the training of trials that are pruned.

    Args:
        trial: The trial.
        monitor: The metric's key in the logs.
    Raises: ImportError: without optuna. optuna.TrialPruned: in training, if the trial is pruned; the study catches it.

    Example: `study.optimize(lambda trial: max(make(trial).fit(x, y, callbacks=[OptunaPruning(trial, "loss")])["loss"]))`
    """

    def __init__(self, trial: Any, monitor: str = "val_loss"):
        super().__init__()
        _imported("optuna", self)
        self.trial, self.monitor = trial, monitor
        self._reported = False

    def on_train_begin(self, logs: Any = None) -> None:
        self._reported = False

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.monitor not in (logs or {}):  # with `validation_freq`, epochs without validation
            return
        self._reported = True
        self.trial.report(float(logs[self.monitor]), step=epoch)
        if self.trial.should_prune():
            raise _imported("optuna", self).TrialPruned(f"The trial was pruned at epoch {epoch + 1}.")

    def on_train_end(self, logs: Any = None) -> None:
        if not self._reported:
            warnings.warn(
                f"OptunaPruning monitors {self.monitor!r}, which no epoch had, so that nothing was reported. The logs have "
                f"{', '.join(logs or ()) or 'nothing'}.",
                stacklevel=2,
            )


def _imported(package: str, callback: Callback) -> Any:
    """Returns a package. Callbacks do not keep it, since modules cannot be pickled.

    Raises: ImportError: if it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(f"{type(callback).__name__} needs {package}: pip install {package}.") from error


def _numbers(logs: Any) -> dict[str, float]:
    """Returns the logs as numbers; one for each entry of a metric that gives several: `f1_0`, `f1_1`."""
    found: dict[str, float] = {}
    for name, value in (logs or {}).items():
        values = np.asarray(value, dtype=float)
        if values.ndim == 0:
            found[name] = float(values)
        else:
            found.update({f"{name}_{number}": float(each) for number, each in enumerate(values.ravel())})
    return found
