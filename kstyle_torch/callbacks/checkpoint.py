"""Checkpoints: saving during training."""

from __future__ import annotations

import os
import string
import warnings
from pathlib import Path
from typing import Any

from kstyle_torch.callbacks.base import hook_if
from kstyle_torch.callbacks.monitor import Monitor
from kstyle_torch.messages import say
from kstyle_torch.registry import did_you_mean
from kstyle_torch.saving.weights import SUFFIXES

MODEL_SUFFIXES = (".keras", ".h5", ".hdf5")


class ModelCheckpoint(Monitor):
    """Callback that saves the model or its weights after each epoch or every few batches, or only the best.

    Args:
        filepath: Ends in `.keras` (or `.h5`, as in older programs); with `save_weights_only` in `.weights.h5`,
            `.safetensors` or `.pt`. It may contain `{epoch}`, `{batch}` and metrics, `"{epoch:02d}-{val_loss:.2f}.keras"`.
            Missing folders are created.
        monitor: The metric's key in the logs, for `save_best_only`.
        verbose: 1 prints a message when it saves.
        save_best_only: Whether only an improvement is saved.
        save_weights_only: Whether the weights are saved, not the whole model.
        mode: `"min"`, `"max"`, or `"auto"`: inferred from the metric.
        save_freq: `"epoch"`, or a number of batches.
        initial_value_threshold: A value that must be beaten before anything is saved.
        period: With `save_freq="epoch"`, number of epochs between checks; an argument of Keras 2.
    Raises: ValueError: for another kind of file, or an unknown `save_freq`. KeyError: in training, if the logs do not have
        what `filepath` asks for.

    Example:
        >>> ModelCheckpoint("best-{epoch:02d}.keras", save_best_only=True).monitor
        'val_loss'
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
        *,
        period: int = 1,
    ):
        super().__init__(monitor, mode, best=initial_value_threshold)
        self.filepath = os.fspath(filepath)
        if save_freq != "epoch" and (isinstance(save_freq, bool) or not isinstance(save_freq, int)):
            raise ValueError(f"ModelCheckpoint: save_freq must be 'epoch' or a number of batches; got {save_freq!r}.")
        endings = SUFFIXES if save_weights_only else MODEL_SUFFIXES
        if not self.filepath.endswith(endings) or (not save_weights_only and self.filepath.endswith(".weights.h5")):
            what = "weights" if save_weights_only else "whole models; for weights pass save_weights_only=True"
            raise ValueError(f"ModelCheckpoint: a file of {what} ends in {', '.join(endings)}; got {self.filepath!r}.")
        if isinstance(period, bool) or not isinstance(period, int) or period < 1:
            raise ValueError(f"ModelCheckpoint: period must be a positive int; got {period!r}.")
        self.verbose, self.save_freq, self.period = verbose, save_freq, period
        self.save_best_only, self.save_weights_only = save_best_only, save_weights_only
        self._epoch = self._unsaved = 0
        self._last_batch = -1

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.save_freq == "epoch" and (epoch + 1) % self.period == 0:
            self._save(epoch, {}, logs or {})

    @hook_if(lambda self: self.save_freq != "epoch")
    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._unsaved += batch - self._last_batch if batch > self._last_batch else batch + 1  # a new epoch
        self._last_batch = batch
        if self._unsaved >= int(self.save_freq):
            self._unsaved = 0
            self._save(self._epoch, {"batch": batch + 1}, logs or {})

    def _save(self, epoch: int, batch: dict[str, int], logs: Any) -> None:
        path = self._path({"epoch": epoch + 1, **batch, **logs})
        if self.save_best_only and not self._is_best(epoch, logs):
            return
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        if Path(path).is_dir():
            raise IsADirectoryError(f"ModelCheckpoint: {path!r} is a folder; a file is saved under that name.")
        (self.model.save_weights if self.save_weights_only else self.model.save)(path, overwrite=True)
        if self.verbose:
            say(f"\nEpoch {epoch + 1}: saved to {path}")

    def _path(self, known: dict[str, Any]) -> str:
        for _, field, _, _ in string.Formatter().parse(self.filepath):
            if field and field not in known:
                hint = did_you_mean(field, known) or f" Available: {', '.join(known)}."
                raise KeyError(f"ModelCheckpoint: {self.filepath!r} contains {field!r}, which the logs lack.{hint}")
        return self.filepath.format(**known)

    def _is_best(self, epoch: int, logs: Any) -> bool:
        if self.monitor not in logs and self.save_freq != "epoch":
            warnings.warn(f"ModelCheckpoint: {self.monitor!r} is not available within an epoch; saving.", stacklevel=4)
            return True
        value = self.current(logs, "The model is saved.")
        if value is None:
            return True
        if getattr(value, "ndim", 0):
            warnings.warn(
                f"ModelCheckpoint: {self.monitor!r} is not a single number; the model is saved.", stacklevel=4
            )
            return True
        better = self.is_improvement(value, self.best)
        if self.verbose:
            before = "none" if self.best is None else f"{self.best:.5f}"
            change = f"improved from {before} to {value:.5f}" if better else f"did not improve from {before}"
            say(f"\nEpoch {epoch + 1}: {self.monitor} {change}")
        if better:
            self.best = value
        return better
