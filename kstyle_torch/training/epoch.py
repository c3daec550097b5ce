"""The compiled epoch: all whole batches of data in memory in one call, the optimizer and the metrics included.

Here is when that can be, and for how long; `scan` makes the call. What cannot be compiled is left to ordinary steps.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import torch

from kstyle_torch import tree
from kstyle_torch.data.batches import ArrayBatches
from kstyle_torch.draws import random_state, set_random_state
from kstyle_torch.optimizers.pure import settings_of, why_not_pure
from kstyle_torch.training.graphs import graph_options, one_graph
from kstyle_torch.training.guards import Standing, fingerprint, summary, watched
from kstyle_torch.training.meter import Meter
from kstyle_torch.training.pure import CannotCompileError, StepFunction
from kstyle_torch.training.scan import EpochCall

MAX_COMPILED = 4  # models, as it were, that one model was made into by changing it


class CompiledEpoch:
    """Epochs of a model that run in one call where that can be.

    Args:
        model: Compiled in Keras' sense.
        how: `jit_compile`: True, a mode of `torch.compile`, or a dict of its arguments.
    """

    def __init__(self, model: Any, how: Any):
        self.model = model
        self.how = how
        self.compiled: dict[Any, EpochCall] = {}
        self.call: EpochCall | None = None  # the one for what is noted
        self.standing = Standing(model)
        self.failed = False

    def run(self, batches: Any, meter: Meter) -> tuple[int, list[tuple[int, Any]]] | None:
        """Trains on all whole batches.

        Returns: How many there were, and the short batch that is left, with its number, if there is one; None if nothing
            was done, since it cannot be: a warning has said why.
        """
        if self.failed:
            return None
        if self.call is None or not self.standing.holds(self._now(batches)):
            random = random_state()
            try:
                self._check(batches)
                self.call = self._compiled_for(batches)
            except Exception as error:
                self._give_up(error)
                return None
            finally:
                set_random_state(random)
            self.standing.note(self._now(batches))
        return None if self.call is None else self._run(self.call, batches, meter)

    def _now(self, batches: Any) -> Any:
        """All that a compiled epoch takes for granted, as far as it can be told quickly."""
        if not isinstance(batches, ArrayBatches):
            return None
        compiled = self.model._compiled
        tensors = batches.tensors if batches.resident else []
        shapes = [(tensor.shape, tensor.stride(), tensor.dtype) for tensor in tensors]
        metrics = [id(entry.metric) for entry in compiled.metrics.entries]
        settings = why_not_pure(compiled.optimizer) or settings_of(compiled.optimizer)
        data = (shapes, batches.kept, batches.batch_size, batches.limit, batches.device)
        return data, metrics, settings, watched(), summary(self.model)

    def _check(self, batches: Any) -> None:
        model, compiled = self.model, self.model._compiled
        reason = None
        known = 1 + compiled.metrics.given + len(compiled.trackers)
        if model.overrides("compute_metrics") or len(model.metrics) != known:
            reason = "it has metrics beside those of compile()"
        if not isinstance(batches, ArrayBatches) or not batches.resident:
            reason = "the data is not all in memory"
        elif batches.limit not in (None, batches.num_batches):
            reason = "steps_per_epoch takes a part of the data"
        elif batches.device.type != "cpu" or any(w.device.type != "cpu" for w in compiled.parameters):
            reason = "it is not on the CPU"
        if reason is not None:
            raise CannotCompileError(reason)

    def _compiled_for(self, batches: ArrayBatches) -> EpochCall | None:
        """The compiled epoch for data of this shape; None if there is no whole batch."""
        if batches.rows < batches.batch_size:
            return None
        data, metrics, settings, *_ = self._now(batches)
        key = repr((data, metrics, settings, fingerprint(self.model)))
        if key not in self.compiled:
            if len(self.compiled) >= MAX_COMPILED:
                raise CannotCompileError("it, or the shape of its data, changes again and again")
            function = StepFunction(self.model, packs=True)
            self.compiled[key] = EpochCall(
                function,
                batches,
                partial(one_graph, arguments=graph_options(self.how, batches.device.type, loops=True)),
            )
        return self.compiled[key]

    def _run(self, call: EpochCall, batches: ArrayBatches, meter: Meter) -> tuple[int, list[tuple[int, Any]]]:
        rows, number = batches.batch_size, batches.rows // batches.batch_size
        drawn = batches._order()
        order = torch.arange(batches.rows) if drawn is None else drawn
        whole, rest = order[: number * rows].view(number, rows), order[number * rows :]
        bad_step, bad_loss = call.run(batches.tensors, whole)
        if bad_step >= 0:
            meter.chunks.append(torch.where(torch.arange(number) == bad_step, bad_loss, 0.0))
        if not len(rest):
            return number, []
        short = tree.refilled(batches.nest, [tensor.index_select(0, rest) for tensor in batches.tensors])
        return number, [(number, short)]

    def _give_up(self, error: Exception) -> None:
        self.failed = True
        reason = str(error)
        if not isinstance(error, CannotCompileError):
            first = " ".join(reason.split())[:200]
            reason = f"that fails ({type(error).__name__}: {first})"
        warnings.warn(
            f'steps_per_execution="epoch": {self.model.name} is trained step by step, because {reason}.', stacklevel=6
        )
