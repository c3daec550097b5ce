"""The compiled epoch: all whole batches of data in memory in one call, the optimizer and the metrics included.

One step is traced as a function of the weights, the optimizer's state, the metrics' state and a batch; a loop over it is
compiled. Nothing changes until the call is back, so that what cannot be traced or compiled is left to ordinary steps.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kstyle_torch.data.batches import ArrayBatches
from kstyle_torch.draws import random_state, set_random_state
from kstyle_torch.optimizers.pure import settings_of, step_sizes, why_not_pure
from kstyle_torch.training import step as steps
from kstyle_torch.training.compile import epoch_options, with_own_code
from kstyle_torch.training.guards import fingerprint, marks, summary, watched, why_not
from kstyle_torch.training.meter import Meter
from kstyle_torch.training.pure import CannotCompileError, State, StepFunction, went_elsewhere

MAX_COMPILED = 4  # models, as it were, that one model was made into by changing it


class CompiledEpoch:
    """Epochs of a model that run in one call where that can be.

    Args:
        model: Compiled in Keras' sense.
        how: `jit_compile`: True, a mode of `torch.compile`, or a dict of its arguments.
    """

    def __init__(self, model: Any, how: Any):
        self.model = model
        self.options = epoch_options(how)
        self.compiled: dict[Any, Callable[..., Any]] = {}
        self.call: Callable[..., Any] | None = None  # the one for what is noted
        self.function: StepFunction | None = None
        self.noted: Any = None
        self.fingerprint: Any = None
        self.marks = (-1, -1)
        self.failed = False

    def run(self, batches: Any, meter: Meter) -> tuple[int, list[tuple[int, Any]]] | None:
        """Trains on all whole batches.

        Returns: How many there were, and the short batch that is left, with its number, if there is one; None if nothing
            was done, since it cannot be: a warning has said why.
        """
        if self.failed:
            return None
        if self.call is None or not self._as_before(batches):
            random = random_state()
            try:
                self._check(batches)
                self.call = self._compiled_for(batches)
            except Exception as error:
                self._give_up(error)
                return None
            finally:
                set_random_state(random)
            self.noted, self.marks = self._now(batches), marks()
            self.fingerprint = fingerprint(self.model)
        return None if self.call is None else self._run(self.call, batches, meter)

    def _as_before(self, batches: Any) -> bool:
        """Whether the compiled epoch is still one of this model and these batches."""
        if self._now(batches) != self.noted:
            return False
        if marks() == self.marks:
            return True
        if why_not(self.model, asked=True) is not None or fingerprint(self.model) != self.fingerprint:
            return False
        self.marks = marks()  # it was something else that changed, or nothing that counts
        return True

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
        model = self.model
        reason = None
        if model.overrides("compute_metrics") or len(model.metrics) != 1 + model._compiled.metrics.given:
            reason = "it has metrics beside those of compile()"
        if not isinstance(batches, ArrayBatches) or not batches.resident or batches.limit is not None:
            reason = "the data is not all in memory, or steps_per_epoch is given"
        elif not batches.is_plain or not all(batches.kept[:2]):
            reason = "there is not one input and one target"
        elif batches.device.type != "cpu" or any(w.device.type != "cpu" for w in model._compiled.parameters):
            reason = "it is not on the CPU"
        if reason is not None:
            raise CannotCompileError(reason)
        self.function = StepFunction(model)

    def _compiled_for(self, batches: ArrayBatches) -> Callable[..., Any] | None:
        """The compiled epoch for data of this shape; None if there is no whole batch."""
        if batches.rows < batches.batch_size:
            return None
        data, metrics, settings, *_ = self._now(batches)
        key = repr((data, metrics, settings, fingerprint(self.model)))
        if key not in self.compiled:
            if len(self.compiled) >= MAX_COMPILED:
                raise CannotCompileError("it, or the shape of its data, changes again and again")
            self.compiled[key] = self._compile(batches)
        return self.compiled[key]

    def _compile(self, batches: ArrayBatches) -> Callable[..., Any]:
        from torch._higher_order_ops.while_loop import while_loop

        state = self._state()
        graph = self._traced(batches, state)

        def epoch(
            columns: list[Tensor], order: Tensor, sizes: Tensor, number: Tensor, fixed: list[Tensor], *state: Tensor
        ) -> Any:
            def ahead(index: Tensor, *state: Tensor) -> Tensor:
                return index < number

            def body(index: Tensor, *state: Tensor) -> Any:
                place = index.view(1)
                rows = order.index_select(0, place).squeeze(0)
                batch = [column.index_select(0, rows) for column in columns]
                return (index + 1, *graph(batch, index, sizes.index_select(0, place).squeeze(0), fixed, list(state)))

            return while_loop(ahead, body, (torch.zeros((), dtype=torch.int64), *state))[1:]

        call = torch.compile(with_own_code(epoch), fullgraph=True, dynamic=False, **self.options)
        self._compare(call, batches, state)
        return call

    def _compare(self, call: Callable[..., Any], batches: ArrayBatches, state: State) -> None:
        """Compiles, and takes the first step in both ways; nothing of it stays.

        Raises: CannotCompileError: if they go to different places. Rounding alone moves weights that have next to no gradient.
        """
        optimizer, rows, number = self.model.optimizer, batches.batch_size, batches.rows // batches.batch_size
        order = torch.arange(number * rows).view(number, rows)
        with torch.no_grad():
            flat = call(
                batches.tensors, order, step_sizes(optimizer, number), torch.tensor(1), self._fixed(), *state.flat
            )
        changing = [*state.weights, *state.slots, *state.buffers]
        before = [tensor.clone() for tensor in changing]
        columns = iter([tensor[:rows] for tensor in batches.tensors])
        try:
            loss, _ = steps.train_step(self.model, *(next(columns) if kept else None for kept in batches.kept))
            after = [tensor.clone() for tensor in state.weights]
            optimizer.back(1)
        finally:
            for tensor, value in zip(changing, before, strict=True):
                tensor.copy_(value)
        got = state.like(flat)
        expected, total = loss.detach().float() * rows, got.loss[0]
        same = torch.allclose(total, expected, rtol=1e-3, atol=1e-5, equal_nan=True)
        if not same or went_elsewhere(before[: len(after)], after, got.weights):
            raise CannotCompileError("the compiled step gives other numbers")

    def _traced(self, batches: ArrayBatches, state: State) -> Any:
        """One step as a graph, the metrics included."""

        def one_step(batch: list[Tensor], index: Tensor, sizes: Tensor, fixed: list[Tensor], flat: list[Tensor]) -> Any:
            columns = iter(batch)
            x, y, weight = [next(columns) if kept else None for kept in batches.kept]
            return self._step(x, y, weight, index, sizes, fixed, state.like(flat)).flat

        assert self.function is not None
        batch = [tensor[: batches.batch_size].clone() for tensor in batches.tensors]
        return self.function.traced(one_step, batch, torch.tensor(0), torch.zeros(2), self.function.frozen, state.flat)

    def _step(
        self, x: Any, y: Any, weight: Any, index: Tensor, sizes: Tensor, fixed: list[Tensor], state: State
    ) -> State:
        """The state after a step, the metrics' and the loss's included; a pure function."""
        assert self.function is not None
        loss, y_pred, after = self.function(x, y, weight, sizes, fixed, state._replace(cells=[], loss=[]))
        if type(y_pred) is not Tensor or hasattr(y_pred, "_keras_mask"):
            raise CannotCompileError("the output is not one tensor without a mask")
        total, bad_step, bad_loss = state.loss
        found = (bad_step < 0) & ~loss.isfinite()
        watch = [total + loss * len(x), torch.where(found, index, bad_step), torch.where(found, loss, bad_loss)]
        return after._replace(cells=self._counted(state.cells, y, y_pred.detach(), weight), loss=watch)

    def _counted(self, counts: list[Tensor], y: Any, y_pred: Tensor, weight: Any) -> list[Tensor]:
        """The metrics' state after a batch."""
        after: list[Tensor] = []
        for entry in self.model._compiled.metrics.entries:
            held = counts[len(after) : len(after) + len(entry.metric.variables)]
            weights = (weight,) if entry.weighted else ()
            after += entry.metric.stateless_update_state(held, y, y_pred, *weights)
        return after

    def _fixed(self) -> list[Tensor]:
        assert self.function is not None
        return self.function.frozen

    def _metric_variables(self) -> list[Any]:
        entries = self.model._compiled.metrics.entries
        return [variable for entry in entries for variable in entry.metric.variables]

    def _state(self) -> State:
        assert self.function is not None
        counts = [variable.value for variable in self._metric_variables()]
        state, watch = self.function.state(), [torch.zeros(()), torch.tensor(-1), torch.zeros(())]
        return state._replace(weights=[weight.detach() for weight in state.weights], cells=counts, loss=watch)

    def _run(self, epoch: Callable[..., Any], batches: ArrayBatches, meter: Meter) -> tuple[int, list[tuple[int, Any]]]:
        rows, number = batches.batch_size, batches.rows // batches.batch_size
        compiled, optimizer, state = self.model._compiled, self.model.optimizer, self._state()
        drawn = batches._order()
        order = torch.arange(batches.rows) if drawn is None else drawn
        whole, rest = order[: number * rows].view(number, rows), order[number * rows :]
        sizes = step_sizes(optimizer, number)
        with torch.no_grad():
            after = epoch(batches.tensors, whole, sizes, torch.tensor(number), self._fixed(), *state.flat)
            result = state.like(after)
            kept = [*state.weights, *state.slots, *state.buffers]
            torch._foreach_copy_(kept, [*result.weights, *result.slots, *result.buffers])
        for variable, value in zip(self._metric_variables(), result.cells, strict=True):
            variable.assign(value)
        optimizer._iterations.number += number
        total, bad_step, bad_loss = result.loss
        compiled.loss_tracker.total.assign_add(total)
        compiled.loss_tracker.count.assign_add(float(number * rows))
        meter.chunks.append(torch.where(torch.arange(number) == bad_step, bad_loss, 0.0))
        if not len(rest):
            return number, []
        columns = iter([tensor.index_select(0, rest) for tensor in batches.tensors])
        return number, [(number, tuple(next(columns) if kept else None for kept in batches.kept))]

    def _give_up(self, error: Exception) -> None:
        self.failed = True
        reason = str(error)
        if not isinstance(error, CannotCompileError):
            first = " ".join(reason.split())[:200]
            reason = f"that fails ({type(error).__name__}: {first})"
        warnings.warn(
            f'steps_per_execution="epoch": {self.model.name} is trained step by step, because {reason}.', stacklevel=6
        )
