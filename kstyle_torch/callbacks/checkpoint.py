"""Saving during training."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

from kstyle_torch.callbacks.monitor import Monitor

SUFFIXES = (".safetensors", ".pt", ".pth")


class ModelCheckpoint(Monitor):
    """Saves the weights after each epoch, or only the best.

    Args:
        filepath: Name of a weights file, `.safetensors` or `.pt`; may hold `{epoch}` and metrics, `{val_loss:.3f}`.
        monitor: The metric's key in the logs, for `save_best_only`.
        verbose: 1 says so when it saves.
        save_best_only: Whether only an improvement is saved.
        save_weights_only: Must be True: files of whole models are not there yet.
        mode: `"min"`, `"max"`, or `"auto"`: by what the metric is.
        save_freq: `"epoch"`, or a number of batches.
        initial_value_threshold: A value that must be beaten before anything is saved.
    Raises: ValueError: for another kind of file, or an unknown `save_freq`.
    Example:
        >>> ModelCheckpoint("best-{epoch:02d}.safetensors", save_best_only=True, save_weights_only=True).monitor
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
    ):
        super().__init__(monitor, mode)
        self.filepath = os.fspath(filepath)
        if save_freq != "epoch" and not isinstance(save_freq, int):
            raise ValueError(f"save_freq must be 'epoch' or a number of batches; got {save_freq!r}.")
        if not save_weights_only or not self.filepath.endswith(SUFFIXES):
            raise ValueError(
                "ModelCheckpoint saves weights for now: pass save_weights_only=True and a file that ends in "
                f".safetensors or .pt; got {self.filepath!r} with save_weights_only={save_weights_only}."
            )
        self.best = initial_value_threshold
        self.verbose, self.save_best_only, self.save_freq = verbose, save_best_only, save_freq
        self._epoch = self._batches = 0
        if save_freq != "epoch":  # only then is the hook there, and called
            self.on_train_batch_end = self._after_batch  # type: ignore[method-assign]

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.save_freq == "epoch":
            self._save(epoch, {}, logs or {})

    def _after_batch(self, batch: int, logs: Any = None) -> None:
        self._batches += 1
        if self._batches >= int(self.save_freq):
            self._batches = 0
            self._save(self._epoch, {"batch": batch + 1}, logs or {})

    def _save(self, epoch: int, batch: dict[str, int], logs: Any) -> None:
        if self.save_best_only and not self._is_best(epoch, logs):
            return
        try:
            path = self.filepath.format(epoch=epoch + 1, **batch, **logs)
        except KeyError as error:
            raise KeyError(f"ModelCheckpoint: {self.filepath!r} wants {error}, which is not in the logs.") from None
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self.model.save_weights(path)
        if self.verbose:
            print(f"\nEpoch {epoch + 1}: saved to {path}")

    def _is_best(self, epoch: int, logs: Any) -> bool:
        if self.monitor not in logs and self.save_freq != "epoch":
            warnings.warn(f"ModelCheckpoint: {self.monitor!r} is not known within an epoch; saving.", stacklevel=3)
            return True
        value = self.current(logs, "The model is saved.")
        if value is None:
            return True
        better = self.is_improvement(value, self.best)
        if self.verbose:
            before = "none" if self.best is None else f"{self.best:.5f}"
            change = f"improved from {before} to {value:.5f}" if better else f"did not improve from {before}"
            print(f"\nEpoch {epoch + 1}: {self.monitor} {change}")
        if better:
            self.best = value
        return better
