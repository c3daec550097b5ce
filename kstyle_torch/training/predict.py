"""Loops of `predict` and `predict_on_batch`, and the collection of their outputs."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kstyle_torch import tree
from kstyle_torch.arrays import to_array
from kstyle_torch.callbacks import CallbackList
from kstyle_torch.data.batches import ArrayBatches, Batches
from kstyle_torch.mode import passing, running
from kstyle_torch.training import step as steps
from kstyle_torch.training.engines.choose_engine import fast_forward
from kstyle_torch.training.protocols import Trainable
from kstyle_torch.training.run import Run

HOST_BYTES = 512 * 2**20  # outputs are copied to the host in chunks of this size


def run_predict(model: Trainable, batches: Batches, callbacks: CallbackList) -> Any:
    """Returns the concatenated outputs for all batches, as arrays."""
    begin, end = callbacks.hooks("on_predict_batch_begin"), callbacks.hooks("on_predict_batch_end")
    collected = Outputs()
    model._fit.stop_predicting = False
    # not inference_mode: states of stateful layers could not be used in training later
    with Run(model, "predicting") as run, torch.no_grad(), fast_forward(run, (*begin, *end)):
        model = run.model
        steps.make_function(run.origin, "predict")
        callbacks.on_predict_begin()
        call = running
        numbered: Iterable[Any] = enumerate(batches.epoch())
        # without user code between batches, mode and forward function need not be looked up for each
        quiet = isinstance(batches, ArrayBatches) and not (begin or end or steps.owns_step(run.origin, "predict"))
        if quiet:
            take = functools.partial(run.forward, model) if run.forward else functools.partial(steps.called, model)
        else:
            take = functools.partial(_predicted, run)
            numbered = steps.watched_batches(run, numbered, (*begin, *end))
        with passing(False) if quiet else contextlib.nullcontext():
            for index, batch in numbered:
                for hook in begin:
                    hook(index, {})
                if call.losses:
                    steps.clear_losses(model)
                outputs = take(batch[0] if quiet else batch)
                collected.add(outputs)
                for hook in end:
                    hook(index, {"outputs": outputs})
                if run.stop:
                    break
        joined = collected.joined()
        callbacks.on_predict_end()
    return joined


def _predicted(run: Run, batch: Any) -> Any:
    if steps.owns_step(run.origin, "predict"):  # users' code between the batches may set a method too
        with passing(False, inside=False):
            return steps.user_step(run, "predict", batch)
    with passing(False):
        return run.forward(run.model, batch[0]) if run.forward else steps.called(run.model, batch[0])


def predict_batch(model: Trainable, x: Any, in_tuple: bool) -> Any:
    """Returns the outputs for one batch as arrays, without calling callbacks.

    Args:
        in_tuple: Whether a step of the user's gets `(x,)`, as from `predict_on_batch`, and not x.
    """
    own = steps.owns_step(model, "predict")
    with Run(model, "predicting") as run, torch.no_grad(), steps.straight(run, ()):
        model = run.model
        if own:
            steps.make_function(run.origin, "predict")
            steps.clear_losses(model)
            with passing(False, inside=False):
                outputs = steps.called_step(run, "predict", (x,) if in_tuple else steps.packed(x))
        else:
            outputs = steps.run_model(model, x, training=False)
    return tree.map_structure(_array, outputs)


def _array(leaf: Any) -> np.ndarray:
    tensor = torch.as_tensor(leaf).detach()
    array = to_array(tensor)
    return array.copy() if tensor.device.type == "cpu" else array  # never memory of the user's tensors


class Outputs:
    """Outputs of many batches, collected on the device and copied to the host in chunks."""

    def __init__(self) -> None:
        self.nest: Any = None
        self.columns: list[list[Tensor]] = []
        self.on_host: list[list[np.ndarray]] = []
        self.bytes = 0

    def add(self, outputs: Any) -> None:
        """Adds the outputs of a batch."""
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
        """Returns all outputs as arrays, in the nest of the model's output.

        Raises: ValueError: if there were no batches.
        """
        if not self.columns:
            raise ValueError("predict() got no batches.")
        self._to_host()
        arrays = [arrays[0] if len(arrays) == 1 else np.concatenate(arrays) for arrays in self.on_host]
        return tree.pack_sequence_as(self.nest, arrays)
