"""Backups of a running training, from which it resumes after the process was killed."""

from __future__ import annotations

import itertools
import os
import warnings
import weakref
import zipfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from kstyle_torch.callbacks import snapshot
from kstyle_torch.callbacks.base import Callback, hook_if
from kstyle_torch.callbacks.progress import ProgbarLogger
from kstyle_torch.draws import random_state, set_random_state
from kstyle_torch.saving import torch_file
from kstyle_torch.saving.atomic import replacing

VERSION = 1
LATEST, PREVIOUS = "latest.pt", "latest.pt.bkp"


class BackupAndRestore(Callback):
    """Callback that saves the state of the training, and resumes from it when the same program is run again.

    The resumed training ends with the same weights, bit for bit on a CPU, as without the interruption. The backup holds
    weights, optimizers and schedules, all random numbers (torch's, NumPy's, Python's, seed generators), the
    order of the data, the metrics of the running epoch, the `History` and the state of the other callbacks. The file is
    replaced atomically, and holds plain data and tensors only.

    Arrays, tensors, frames, map-style `Dataset`s and `DataLoader`s are restored completely: their order is drawn again
    from the same random numbers. Of a generator, the batches that were used are skipped, so it must yield the same ones
    again. A dataset that shuffles itself must use torch's, NumPy's or Python's random numbers during the iteration.

    Args:
        backup_dir: A folder for this training only; created if it does not exist.
        save_freq: `"epoch"`, or a number of batches.
        double_checkpoint: Whether to keep the previous backup too, in case the last one cannot be read.
        delete_checkpoint: Whether to delete the backup at the end of training.
    Raises: ValueError: for an empty `backup_dir` or an unknown `save_freq`; in `fit`, if the backup is of another model.

    Example:
        >>> BackupAndRestore("backup", save_freq=100).save_freq
        100
    """

    def __init__(
        self,
        backup_dir: str | os.PathLike[str],
        save_freq: str | int = "epoch",
        double_checkpoint: bool = False,
        delete_checkpoint: bool = True,
    ):
        super().__init__()
        if not backup_dir:
            raise ValueError("BackupAndRestore: backup_dir is empty; pass the path of a folder.")
        if save_freq != "epoch" and (not isinstance(save_freq, int) or (save_freq is True or save_freq < 0)):
            raise ValueError(f"BackupAndRestore: save_freq must be 'epoch' or a number of batches; got {save_freq!r}.")
        self.backup_dir, self.save_freq = backup_dir, save_freq
        self.double_checkpoint, self.delete_checkpoint = double_checkpoint, delete_checkpoint
        self._attached: weakref.ref[Any] | None = None  # weak, since the list holds this callback
        self._changes: Any = None
        self._pending: dict[str, Any] | None = None  # state of an unfinished epoch
        self._began: dict[str, Any] | None = None
        self._arrival: dict[str, Any] | None = None
        self._epoch = self._batch = self._unsaved = 0

    def attach(self, callbacks: Any) -> None:
        """Attaches it to the `CallbackList`, which calls this callback last, so that the backup has the others' final state."""
        self._attached = weakref.ref(callbacks)

    @property
    def _list(self) -> Any:
        return None if self._attached is None else self._attached()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_attached": None}

    def _sources(self) -> list[tuple[str, Any]]:
        return [(name, source) for name, source in self._list.sources.items() if source is not None]

    def _generators(self) -> list[torch.Generator]:
        found = [each for _, source in self._sources() for each in source.generators]
        return list({id(each): each for each in found}.values())

    # ---------------------------------------------------------------------------------------------------------- hooks

    def on_train_begin(self, logs: Any = None) -> None:
        self._epoch = self._batch = self._unsaved = 0
        self._pending = None
        self._arrival = random_state(self._generators())
        others = [each for each in self._list.callbacks if not isinstance(each, (BackupAndRestore, ProgbarLogger))]
        modules = {f"module {name}": module for name, module in self.model.named_modules()}
        self._changes = snapshot.Changes({**snapshot.numbered(others), **modules})
        state = self._read()
        if state is not None:
            self._resume(state)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch, self._batch = epoch, 0
        if self._pending is not None:
            self._restore(self._pending, within_epoch=True)
            self._began, self._batch = self._pending["began"], self._pending["batch"]
            self._list.resumed = self._rest
        elif self.save_freq != "epoch":
            self._began = random_state()

    @hook_if(lambda self: self.save_freq not in ("epoch", False))
    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._unsaved += batch + 1 - self._batch
        self._batch = batch + 1
        if self._unsaved >= int(self.save_freq):
            self._unsaved = 0
            self._save()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._epoch, self._batch = epoch + 1, 0
        if self.save_freq == "epoch":
            self._save()

    def on_train_end(self, logs: Any = None) -> None:
        if self.delete_checkpoint:
            self._delete()
        elif self._path(LATEST).exists():  # a later fit continues from these weights, but is another training
            state = _loaded(self._path(LATEST))
            self._write({**state, "finished": True})

    # --------------------------------------------------------------------------------------------------------- saving

    def _path(self, name: str) -> Path:
        return Path(self.backup_dir) / name

    def _save(self) -> None:
        model = self.model
        model.get_metrics_result()  # computes the metrics of pending batches
        self._write(
            {
                "version": VERSION,
                "epoch": self._epoch,
                "batch": self._batch,
                "unsaved": self._unsaved,
                "steps": self._list.sources["train"].steps,
                "stopped": bool(model.stop_training),
                "finished": False,
                "data": {name: snapshot.saved(source.position(), name) for name, source in self._sources()},
                "began": self._began,
                "random": random_state(self._generators()),
                "tensors": {name: snapshot.read_cell(cell) for name, cell in snapshot.tensors_of(model).items()},
                "cells": {name: snapshot.read_cell(cell) for name, cell in snapshot.cells_of(model).items()},
                "trainable": {name: layer.trainable for name, layer in _layers(model)},
                "optimizers": [snapshot.take_optimizer(model, each) for each in snapshot.optimizers_of(model)],
                "metrics": [snapshot.take_metric(each) for each in model.metrics],
                "changes": self._changes.take(),
            }
        )

    def _write(self, state: dict[str, Any]) -> None:
        Path(self.backup_dir).mkdir(parents=True, exist_ok=True)
        latest = self._path(LATEST)
        with replacing(latest) as unfinished:
            torch.save(state, unfinished)
            if self.double_checkpoint and latest.exists():
                os.replace(latest, self._path(PREVIOUS))

    def _delete(self) -> None:
        """Removes the files of this callback, and the folder if it is empty then."""
        folder = Path(self.backup_dir)
        for file in [*folder.glob(f"{LATEST}*"), *folder.glob(f".{LATEST}.*.tmp")]:
            file.unlink()
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()

    # ------------------------------------------------------------------------------------------------------ restoring

    def _read(self) -> dict[str, Any] | None:
        for unfinished in Path(self.backup_dir).glob(f".{LATEST}.*.tmp"):  # from processes killed while writing
            unfinished.unlink()
        there = [path for path in (self._path(LATEST), self._path(PREVIOUS)) if path.exists()]
        for number, path in enumerate(there):
            try:
                return _loaded(path)
            except OSError as error:
                if number + 1 == len(there):
                    raise
                warnings.warn(f"{error} The backup before it is used.", stacklevel=4)
        return None

    def _resume(self, state: dict[str, Any]) -> None:
        model = self.model
        for run in model._fit.runs:
            if run.first_check is not None:
                run.first_check.try_rows()  # metrics must be built before they can be restored
        for optimizer, own in zip(snapshot.optimizers_of(model), state["optimizers"], strict=False):
            snapshot.build_optimizer(model, optimizer, own)
        _check(model, state, self._path(LATEST))
        steps = self._list.sources["train"].steps
        if state["batch"] and steps != state["steps"]:
            raise ValueError(
                f"The backup in {str(self.backup_dir)!r} was made in an epoch of {state['steps']} batches; there are "
                f"{steps} now. Pass the same data and batch_size, or delete the folder to start over."
            )
        self._unsaved = state["unsaved"]
        self._list.first_epoch = state["epoch"]
        self._restore(state, within_epoch=False)
        if state["batch"]:
            self._pending = state
            return
        self._move(state)
        set_random_state(state["random"], self._generators())
        if state["stopped"] and not state["finished"]:
            self._list.first_epoch = max(state["epoch"], self.params["epochs"])

    @torch.no_grad()
    def _restore(self, state: dict[str, Any], within_epoch: bool) -> None:
        model = self.model
        for name, layer in _layers(model):
            if layer.trainable != state["trainable"][name]:
                layer.trainable = state["trainable"][name]
        for name, tensor in snapshot.tensors_of(model).items():
            tensor.copy_(state["tensors"][name])
        for name, cell in snapshot.cells_of(model).items():
            snapshot.write_cell(cell, state["cells"][name])
        for optimizer, own in zip(snapshot.optimizers_of(model), state["optimizers"], strict=True):
            snapshot.give_optimizer(optimizer, own)
        if within_epoch:
            for metric, own in zip(model.metrics, state["metrics"], strict=True):
                snapshot.give_metric(metric, own)
        if not state["finished"]:
            self._changes.give_back(state["changes"])

    def _move(self, state: dict[str, Any]) -> None:
        """Restores the position in the data, and the random state of the beginning of the epoch."""
        for name, source in reversed(self._sources()):
            position = state["data"].get(name)
            if name == "train" and position is None and state["batch"]:
                position = {"began": state["began"], "given": 0}
            if position is not None and not position.get("began", True):
                position = {**position, "began": self._arrival}  # an iterator, which this process has started again
            source.go_to(snapshot.revived(position))

    def _rest(self, batches: Any) -> Iterator[tuple[int, Any]]:
        """Returns the remaining batches of the resumed epoch, in its original order."""
        state, self._pending = self._pending, None
        assert state is not None
        self._move(state)
        left = iter(batches.epoch())
        deque(itertools.islice(left, state["batch"]), maxlen=0)
        set_random_state(state["random"], self._generators())
        if state["stopped"]:
            self.model.stop_training = True
            return iter(())
        return zip(itertools.count(state["batch"]), left)


def _layers(model: Any) -> list[tuple[str, Any]]:
    return [(name, module) for name, module in model.named_modules() if hasattr(type(module), "trainable")]


def _loaded(path: Path) -> dict[str, Any]:
    """Returns the content of a backup.

    Raises: OSError: if it is damaged.
    """
    try:
        state = torch_file.load(path)
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # after the check of sizes, since it decompresses everything
    except (RuntimeError, EOFError, ValueError, zipfile.BadZipFile, KeyError) as error:
        raise OSError(f"The backup {str(path)!r} cannot be read ({error}); delete it to start over.") from error
    if damaged is not None or not isinstance(state, dict):
        raise OSError(f"The backup {str(path)!r} is damaged; delete it to start over.")
    return state


def _check(model: Any, state: dict[str, Any], path: Path) -> None:
    """Raises a ValueError if the backup does not fit the model, before anything changes."""
    problems = []
    if state.get("version") != VERSION:
        problems.append(f"it is of version {state.get('version')}, this is {VERSION}")
    own = {name: tuple(tensor.shape) for name, tensor in snapshot.tensors_of(model).items()}
    saved = {name: tuple(tensor.shape) for name, tensor in state.get("tensors", {}).items()}
    problems += [
        f"{name} has shape {saved.get(name)} there, {own.get(name)} here"
        for name in own | saved
        if own.get(name) != saved.get(name)
    ]
    optimizers = snapshot.optimizers_of(model)
    if len(optimizers) != len(state.get("optimizers", ())):
        problems.append("it has a different number of optimizers")
    for optimizer, saved_state in zip(optimizers, state.get("optimizers", ()), strict=False):
        if not snapshot.fits(optimizer, saved_state):
            problems.append(f"its optimizer is not a {type(optimizer).__name__} of this model's weights")
    if len(model.metrics) != len(state.get("metrics", ())):
        problems.append("it has a different number of metrics")
    elif state.get("batch") and not all(map(snapshot.fits_metric, model.metrics, state["metrics"])):
        problems.append("its metrics have different variables")
    cells = {name: snapshot.shape_of(cell) for name, cell in snapshot.cells_of(model).items()}
    others = {name: getattr(value, "shape", None) for name, value in state.get("cells", {}).items()}
    problems += [
        f"{name} is a different variable there" for name in cells if cells[name] != others.get(name, "missing")
    ]
    if {name for name, _ in _layers(model)} - state.get("trainable", {}).keys():
        problems.append("it does not say which layers are trained")
    if problems:
        raise ValueError(
            f"The backup {str(path)!r} was made by another program: {'; '.join(problems[:8])}. Delete it to start over."
        )
