"""The compiled epoch: all whole batches of data in memory in one call, the optimizer and the metrics included.

One step is traced as a function of the weights, the optimizer's state, the metrics' state and a batch; a loop over it is
compiled. Nothing changes until the call is back, so that what cannot be traced or compiled is left to ordinary steps.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from kstyle_torch.callbacks.snapshot import cells_of
from kstyle_torch.data.batches import ArrayBatches
from kstyle_torch.draws import random_state, set_random_state
from kstyle_torch.optimizers.pure import pure_step, settings_of, step_sizes, why_not_pure
from kstyle_torch.training import step as steps
from kstyle_torch.training.compile import epoch_options, with_own_code
from kstyle_torch.training.guards import fingerprint, marks, summary, watched, why_not
from kstyle_torch.training.meter import Meter
from kstyle_torch.training.pure import CannotCompileError, State, has_drawn, replaced

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
        self.fixed: list[Tensor] = []
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
            self.noted, self.marks, self.fixed = self._now(batches), marks(), self._fixed()
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
        reason = why_not(model, asked=True) or why_not_pure(model.optimizer)
        if model.overrides("compute_metrics") or len(model.metrics) != 1 + model._compiled.metrics.given:
            reason = "it has metrics beside those of compile()"
        if not isinstance(batches, ArrayBatches) or not batches.resident or batches.limit is not None:
            reason = "the data is not all in memory, or steps_per_epoch is given"
        elif not batches.is_plain or not all(batches.kept[:2]):
            reason = "there is not one input and one target"
        elif cells_of(model):
            reason = "a layer has a seed, or variables that are no weights"
        elif batches.device.type != "cpu" or any(w.device.type != "cpu" for w in model._compiled.parameters):
            reason = "it is not on the CPU"
        if reason is not None:
            raise CannotCompileError(reason)

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

        state, fixed = self._state(), self._fixed()
        graph = self._traced(batches, state, fixed)

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
        self._compare(call, batches, state, fixed)
        return call

    def _compare(self, call: Callable[..., Any], batches: ArrayBatches, state: State, fixed: list[Tensor]) -> None:
        """Compiles, and takes the first step in both ways; nothing of it stays.

        Raises: CannotCompileError: if they go to different places. Rounding alone moves weights that have next to no gradient.
        """
        optimizer, rows, number = self.model.optimizer, batches.batch_size, batches.rows // batches.batch_size
        order = torch.arange(number * rows).view(number, rows)
        with torch.no_grad():
            flat = call(batches.tensors, order, step_sizes(optimizer, number), torch.tensor(1), fixed, *state.flat)
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
        change = sum((one - other).double().square().sum() for one, other in zip(after, before))
        error = sum((one - other).double().square().sum() for one, other in zip(after, got.weights, strict=True))
        expected, total = loss.detach().float() * rows, got.loss[0]
        same = error <= 0.1 * change and torch.allclose(total, expected, rtol=1e-3, atol=1e-5)
        if expected.isfinite() and not same:
            raise CannotCompileError("the compiled step gives other numbers")

    def _traced(self, batches: ArrayBatches, state: State, fixed: list[Tensor]) -> Any:
        """One step as a graph of torch's basic operators, its inputs all it depends on."""
        from torch.fx.experimental.proxy_tensor import make_fx

        def one_step(batch: list[Tensor], index: Tensor, sizes: Tensor, fixed: list[Tensor], flat: list[Tensor]) -> Any:
            columns = iter(batch)
            x, y, weight = [next(columns) if kept else None for kept in batches.kept]
            return self._step(x, y, weight, index, sizes, fixed, state.like(flat)).flat

        batch, random = [tensor[: batches.batch_size].clone() for tensor in batches.tensors], random_state()
        try:
            with torch.no_grad():
                graph = make_fx(one_step)(batch, torch.tensor(0), torch.zeros(2), fixed, state.flat)
        finally:
            steps.clear_losses(self.model)
            if has_drawn(random):
                raise CannotCompileError("its layers draw random numbers, as Dropout does")
        graph.graph.eliminate_dead_code()
        graph.recompile()
        own = {tensor.data_ptr() for tensor in (*self.model.parameters(), *self.model.buffers()) if tensor.numel()}
        if any(isinstance(value, Tensor) and value.data_ptr() in own for value in vars(graph).values()):
            raise CannotCompileError("a layer keeps its weights where they cannot be replaced")
        return graph

    def _step(
        self, x: Any, y: Any, weight: Any, index: Tensor, sizes: Tensor, fixed: list[Tensor], state: State
    ) -> State:
        """The state after a step; a pure function."""
        model, compiled = self.model, self.model._compiled
        leaves = [tensor.detach().requires_grad_() for tensor in state.weights]
        buffers = [tensor.clone() for tensor in state.buffers]  # some layers change theirs in place
        pairs = [*zip(compiled.parameters, leaves), *zip(model.buffers(), buffers), *zip(self._frozen(), fixed)]
        with torch.enable_grad(), replaced(model, pairs):
            steps.clear_losses(model)
            y_pred = model(x)
            if type(y_pred) is not Tensor or hasattr(y_pred, "_keras_mask"):
                raise CannotCompileError("the output is not one tensor without a mask")
            loss = model.compute_loss(x, y, y_pred, weight)
            gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
            buffers = [tensor.detach().clone() for tensor in self._buffers_now()]
        if any(gradient is None for gradient in gradients):
            raise CannotCompileError("the loss does not depend on all trainable weights")
        loss = loss.detach()
        weights, slots = self._changed(state, gradients, sizes)
        total, bad_step, bad_loss = state.loss
        found = (bad_step < 0) & ~loss.isfinite()
        watch = [total + loss * len(x), torch.where(found, index, bad_step), torch.where(found, loss, bad_loss)]
        return State(weights, slots, buffers, self._counted(state.counts, y, y_pred.detach(), weight), watch)

    def _changed(self, state: State, gradients: Any, sizes: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Weights and slots after the optimizer's step."""
        optimizer, number = self.model._compiled.optimizer, len(state.weights)
        names = [*optimizer._current().state]
        slots = {name: state.slots[place * number : (place + 1) * number] for place, name in enumerate(names)}
        weights, slots = pure_step(optimizer, state.weights, [*gradients], slots, *sizes.unbind())
        return weights, [tensor for name in names for tensor in slots[name]]

    def _counted(self, counts: list[Tensor], y: Any, y_pred: Tensor, weight: Any) -> list[Tensor]:
        """The metrics' state after a batch."""
        after: list[Tensor] = []
        for entry in self.model._compiled.metrics.entries:
            held = counts[len(after) : len(after) + len(entry.metric.variables)]
            weights = (weight,) if entry.weighted else ()
            after += entry.metric.stateless_update_state(held, y, y_pred, *weights)
        return after

    def _buffers_now(self) -> Iterator[Tensor]:
        for module in self.model.modules():
            yield from (tensor for tensor in module._buffers.values() if tensor is not None)

    def _frozen(self) -> list[Tensor]:
        trained = {id(parameter) for parameter in self.model._compiled.parameters}
        return [parameter for parameter in self.model.parameters() if id(parameter) not in trained]

    def _fixed(self) -> list[Tensor]:
        return [parameter.detach() for parameter in self._frozen()]

    def _metric_variables(self) -> list[Any]:
        entries = self.model._compiled.metrics.entries
        return [variable for entry in entries for variable in entry.metric.variables]

    def _state(self) -> State:
        part, buffers = self.model._compiled.optimizer._current(), [*self._buffers_now()]
        if len(buffers) != len([*self.model.buffers()]):
            raise CannotCompileError("modules share a buffer")
        return State(
            [parameter.detach() for parameter in part.parameters],
            [tensor for tensors in part.state.values() for tensor in tensors],
            buffers,
            [variable.value for variable in self._metric_variables()],
            [torch.zeros(()), torch.tensor(-1), torch.zeros(())],
        )

    def _run(self, epoch: Callable[..., Any], batches: ArrayBatches, meter: Meter) -> tuple[int, list[tuple[int, Any]]]:
        rows, number = batches.batch_size, batches.rows // batches.batch_size
        compiled, optimizer, state = self.model._compiled, self.model.optimizer, self._state()
        drawn = batches._order()
        order = torch.arange(batches.rows) if drawn is None else drawn
        whole, rest = order[: number * rows].view(number, rows), order[number * rows :]
        sizes = step_sizes(optimizer, number)
        with torch.no_grad():
            after = epoch(batches.tensors, whole, sizes, torch.tensor(number), self.fixed, *state.flat)
            result = state.like(after)
            kept = [*state.weights, *state.slots, *state.buffers]
            torch._foreach_copy_(kept, [*result.weights, *result.slots, *result.buffers])
        for variable, value in zip(self._metric_variables(), result.counts, strict=True):
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
