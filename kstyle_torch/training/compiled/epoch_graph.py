"""The compiled epoch: all whole batches of data in memory in one call, including optimizer and metrics.

This file decides when it is possible and whether it is still valid; `scanned_steps` makes the call. Single steps are the
fallback.
"""

from __future__ import annotations

import gc
import warnings
from functools import partial
from typing import Any

import torch

from kstyle_torch import tree
from kstyle_torch._torch import why_missing
from kstyle_torch.data.batches import ArrayBatches
from kstyle_torch.optimizers.functional_update import settings_of, why_not_pure
from kstyle_torch.training.compiled.functional_step import CannotCompileError, StepFunction
from kstyle_torch.training.compiled.scanned_steps import EpochCall
from kstyle_torch.training.compiled.torch_compile import (
    MAX_COMPILED,
    compiler,
    compiler_is_taken,
    graph_options,
    one_graph,
)
from kstyle_torch.training.compiled.verify import Later, Trial, reason_of
from kstyle_torch.training.engines.invalidation import Standing
from kstyle_torch.training.epoch_metrics import Meter
from kstyle_torch.training.fit_state import OfModel
from kstyle_torch.training.protocols import Trainable
from kstyle_torch.training.run import sole_run


class CompiledEpoch(OfModel):
    """Engine that runs epochs in one call where possible.

    Args:
        model: Compiled in Keras' sense.
        how: `jit_compile`: True, a mode of `torch.compile`, or a dict of its arguments.
    """

    def __init__(self, model: Trainable, how: Any):
        super().__init__(model)
        self.how = how
        self.calls: list[tuple[Standing, EpochCall | None]] = []  # last used first; None for data without a whole batch
        self.failed = False

    def run(self, batches: Any, meter: Meter) -> tuple[int, list[tuple[int, Any]]] | None:
        """Trains on all whole batches.

        Returns: The number of whole batches, and a list with the number and data of the remaining short batch, if there is
            one; None if the epoch cannot be compiled: nothing has run then, and a warning has given the reason.
        """
        if self.failed:
            return None
        facts = self._now(batches)
        known = next((place for place, (standing, _) in enumerate(self.calls) if standing.holds(facts)), None)
        if known is None:
            with sole_run(self.model) as alone, compiler() as free:
                if not (alone and free) or not self._tried(batches):
                    return None
        else:
            self.calls.insert(0, self.calls.pop(known))
        call = self.calls[0][1]
        return None if call is None else self._run(call, batches, meter)

    def _tried(self, batches: Any) -> bool:
        """Compiles and verifies the epoch. Returns whether that succeeded; if not, a warning gives the reason."""
        model, optimizer = self.model, self.model._compiled.optimizer
        trial = Trial(model, [*model.parameters(), *model.buffers(), *optimizer.changing()])
        with trial:
            self._check(batches)
            self.calls.insert(0, self._compiled_for(batches, trial))
        if trial.error is not None:
            self._give_up(trial.reason)
        return trial.error is None

    def _now(self, batches: Any) -> Any:
        """Returns the assumptions of a compiled epoch about anything but the model."""
        if not isinstance(batches, ArrayBatches):
            return None
        compiled = self.model._compiled
        tensors = batches.tensors if batches.resident else []
        shapes = [(tensor.shape, tensor.stride(), tensor.dtype) for tensor in tensors]
        metrics = [entry.metric for entry in compiled.metrics.entries]
        settings = why_not_pure(compiled.optimizer) or settings_of(compiled.optimizer)
        data = (shapes, batches.kept, batches.batch_size, batches.limit, batches.device)
        return data, metrics, settings

    def _check(self, batches: Any) -> None:
        model, compiled = self.model, self.model._compiled
        reason = why_missing("compiling", "compiled epochs")
        known = 1 + compiled.metrics.given + len(compiled.trackers)
        if model.overrides("compute_metrics") or len(model.metrics) != known:
            reason = "it has metrics in addition to those of compile()"
        if not isinstance(batches, ArrayBatches) or not batches.resident:
            reason = "the data is not all in memory"
        elif batches.limit not in (None, batches.num_batches):
            reason = "steps_per_epoch uses only a part of the data"
        elif batches.device.type != "cpu" or any(w.device.type != "cpu" for w in compiled.parameters):
            reason = "it is not on the CPU"
        if reason is not None:
            raise CannotCompileError(reason)

    def _compiled_for(self, batches: ArrayBatches, trial: Trial) -> tuple[Standing, EpochCall | None]:
        """Returns the compiled epoch for data of this shape (None if there is no whole batch), and its validity check."""
        if len([call for _, call in self.calls if call is not None]) >= MAX_COMPILED:
            raise CannotCompileError("the model or the shape of its data keeps changing")
        standing, call = Standing(self.model), None
        standing.note(self._now(batches), [entry.metric for entry in self.model._compiled.metrics.entries])
        if batches.rows >= batches.batch_size:
            arguments = graph_options(self.how, batches.device.type, loops=True)
            call = EpochCall(StepFunction(self.model, packs=True), batches, partial(one_graph, arguments=arguments))
            call.verify(trial, batches)
            gc.collect()  # torch's compiler leaves cycles that hold the weights of a loop
            if not standing.holds(self._now(batches)):
                raise CannotCompileError("a step changes what layers, losses or metrics read")
        return standing, call

    def _run(self, call: EpochCall, batches: ArrayBatches, meter: Meter) -> tuple[int, list[tuple[int, Any]]] | None:
        rows, number = batches.batch_size, batches.rows // batches.batch_size
        drawn = batches._order()
        order = torch.arange(batches.rows) if drawn is None else drawn
        whole, rest = order[: number * rows].view(number, rows), order[number * rows :]
        state = call.function.state()
        with Later(self.model, [*state.weights, *state.slots, *state.buffers]) as later:
            bad_step, bad_loss = call.run(batches.tensors, whole)
        if later.error is not None:
            if not compiler_is_taken():
                self._give_up(reason_of(later.error))
            return None
        if bad_step >= 0:
            meter.chunks.append(torch.where(torch.arange(number) == bad_step, bad_loss, 0.0))
        if not len(rest):
            return number, []
        short = tree.refilled(batches.nest, [tensor.index_select(0, rest) for tensor in batches.tensors])
        return number, [(number, short)]

    def _give_up(self, reason: str) -> None:
        self.failed = True
        warnings.warn(
            f'steps_per_execution="epoch": {self.model.name} is trained step by step, because {reason}.', stacklevel=7
        )
