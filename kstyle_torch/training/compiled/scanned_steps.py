"""The loop over the steps of an epoch as one compiled function: a step, including metrics, is traced once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from kstyle_torch import tree
from kstyle_torch._torch import load_while_loop
from kstyle_torch.data.batches import ArrayBatches
from kstyle_torch.layer.seed_states import held
from kstyle_torch.optimizers.functional_update import step_sizes
from kstyle_torch.optimizers.packing import Packing
from kstyle_torch.training.compiled.functional_step import (
    CannotCompileError,
    State,
    StepFunction,
    give_losses,
    traced,
    tracker_cells,
)
from kstyle_torch.training.compiled.verify import Trial, refuse_difference, verify_step
from kstyle_torch.training.epoch_metrics import Meter
from kstyle_torch.training.objective import Objective, update
from kstyle_torch.training.recorded.side_effects import MASK
from kstyle_torch.variables import Variable


class Packs:
    """Packed state of an epoch. It refers to no tensor of the model, so that the compiled epoch keeps none alive.

    Args:
        packing: Packing of the weights, and of each kind of slot.
        rest: Packing of all other state.
        slots: Slots of each weight.
        cells: Number of variables.
    """

    def __init__(self, packing: Packing, rest: Packing, slots: int, cells: int):
        self.packing, self.rest, self.slots, self.cells = packing, rest, slots, cells

    def packed(
        self, weights: list[Tensor], slots: list[Tensor], buffers: list[Tensor], values: list[Tensor]
    ) -> list[Tensor]:
        """Returns the packs that the loop starts from."""
        number = len(weights)
        watch = [torch.tensor(-1), torch.zeros(())]
        packs = self.packing.packed(weights)
        for start in range(0, len(slots), number):
            packs += self.packing.packed(slots[start : start + number])
        return packs + self.rest.packed([*buffers, *values, *watch])

    def unpacked(self, packs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Returns the new weights, slots and buffers; and the values of the variables, with the first bad step and loss."""
        number = self.packing.size
        changed: list[Tensor] = []
        for place in range(1 + self.slots):
            changed += self.packing.unpacked(packs[place * number : (place + 1) * number])
        rest = self.rest.unpacked(packs[(1 + self.slots) * number :])
        end = len(rest) - self.cells - 2
        return changed + rest[:end], rest[end:]


class EpochCall:
    """Many steps in one call, which changes weights, optimizer state and metrics in place.

    Args:
        function: The step, with packs.
        batches: Data of the shape to compile for.
        compiler: `torch.compile` with its arguments.
    Raises: CannotCompileError: if a step depends on anything but the batch and the state.
    """

    def __init__(self, function: StepFunction, batches: ArrayBatches, compiler: Callable[[Any], Any]):
        self.function, self.compiled, self.nest = function, function.model._compiled, batches.nest
        self.cells = _cells_of(self.compiled)
        state = function.state()
        self.slots = len(state.slots) // len(state.weights)  # of each weight
        # the first step whose loss is not finite (-1: none), and that loss
        watch = [torch.tensor(-1), torch.zeros(())]
        rest = Packing.of_small([*state.buffers, *(cell.value for cell in self.cells), *watch])
        self.packs = Packs(function.packing, rest, self.slots, len(self.cells))
        self.last = Packing.of_small([])  # results of the last step: loss, added losses, outputs and their masks
        self.outputs: Any = None  # the nest of them
        self.masked: list[int] = []  # which outputs have masks
        self.graph = self._traced(batches)
        self.call = compiler(self._loop())

    def run(self, columns: list[Tensor], order: Tensor) -> tuple[int, Tensor]:
        """Trains on batches.

        Args:
            columns: Inputs, targets and sample weights.
            order: Indices of rows: (batches, rows in a batch).
        Returns: The first batch whose loss is NaN or infinite, or -1; and that loss.
        """
        (bad_step, bad_loss), left = self._run(columns, order, len(order))
        give_losses(self.function.model, self.function.adding, left[1:])
        return int(bad_step), bad_loss

    @torch.no_grad()
    def _run(self, columns: list[Tensor], order: Tensor, number: int) -> tuple[list[Tensor], list[Tensor]]:
        """Returns the first batch with a loss that is not finite and that loss, and the results of the last step."""
        optimizer, (weights, slots, buffers, *_) = self.function.optimizer, self.function.state()
        sizes, values = step_sizes(optimizer, len(order)), [cell.value for cell in self.cells]
        fixed = self.function.frozen
        keys = self.function.keys(len(order)).contiguous()
        results = self.call(columns, order, sizes, keys, torch.tensor(number), fixed, weights, slots, buffers, values)
        for cell, value in zip(self.cells, results):
            cell._tensor = value
        optimizer._iterations.number += number
        own = len(self.cells)
        return results[own : own + 2], results[own + 2 :]

    # ------------------------------------------------------------------------------------------------------ making it

    def _traced(self, batches: ArrayBatches) -> Any:
        """Traces a step as a graph of the batch, its index, step sizes, random key, fixed weights and packs of state."""

        def pure(
            batch: list[Tensor], index: Tensor, sizes: Tensor, key: Tensor, fixed: list[Tensor], packs: list[Tensor]
        ) -> Any:
            return self._step(batch, index, sizes, key, fixed, packs)

        batch = [tensor[: batches.batch_size].clone() for tensor in batches.tensors]
        state, values = self.function.state(), [cell.value for cell in self.cells]
        packs = self.packs.packed([weight.detach() for weight in state.weights], state.slots, state.buffers, values)
        example = (batch, torch.tensor(0), torch.zeros(4), self.function.no_key[0], self.function.frozen, packs)
        with self.function.on_copy():
            compiled = self.function.copy._compiled
            known = [*map(id, _cells_of(compiled))]
            graph = traced(self.function.model, pure, *example)
            if [*map(id, _cells_of(compiled))] != known:
                raise CannotCompileError("a metric creates its state at its first update")
        return graph

    def _step(
        self, leaves: list[Tensor], index: Tensor, sizes: Tensor, key: Tensor, fixed: list[Tensor], packs: list[Tensor]
    ) -> list[Tensor]:
        """Returns the packs after a step; a pure function."""
        batch = tree.refilled(self.nest, leaves)
        number = self.function.packing.size
        weights, slots, rest = (
            packs[:number],
            packs[number : number * (1 + self.slots)],
            packs[number * (1 + self.slots) :],
        )
        *rest, bad_step, bad_loss = self.packs.rest.unpacked(rest)
        buffers, values = rest[: -len(self.cells)], rest[-len(self.cells) :]
        own = len(self.function.cells)
        loss, y_pred, after = self.function(batch, sizes, key, fixed, State(weights, slots, buffers, values[:own]))
        found = (bad_step < 0) & ~loss.isfinite()
        watch = [torch.where(found, index, bad_step), torch.where(found, loss, bad_loss)]
        compiled = self.function.copy._compiled
        cells = _cells_of(compiled)
        with held(cells, [*after.cells, *values[own:]]):
            _count(compiled, batch, loss, y_pred)
            values = [cell.value for cell in cells]
        packs = [*after.weights, *after.slots, *self.packs.rest.packed([*after.buffers, *values, *watch])]
        return [*packs, *self._left(loss, y_pred, after.added)]

    def _left(self, loss: Tensor, y_pred: Any, added: Sequence[Tensor]) -> list[Tensor]:
        """Returns packs of the results of a step other than state; only those of the last step are read."""
        outputs = tree.flatten(y_pred)
        if not all(isinstance(output, Tensor) for output in outputs):
            raise CannotCompileError("an output is not a tensor")
        self.outputs = tree.map_structure(lambda leaf: None, y_pred)
        self.masked = [place for place, output in enumerate(outputs) if hasattr(output, MASK)]
        left = [loss, *added, *outputs, *(getattr(outputs[place], MASK) for place in self.masked)]
        left = [each.detach().clone(memory_format=torch.contiguous_format) for each in left]
        self.last = Packing.of_small(left)
        return self.last.packed(left)

    def _loop(self) -> Callable[..., list[Tensor]]:
        while_loop = load_while_loop()
        graph, pack, unpack, last = self.graph, self.packs.packed, self.packs.unpacked, self.last
        blank = last.forms()
        carried = self.function.packing.size * (1 + self.slots) + self.packs.rest.size

        def epoch(
            columns: list[Tensor],
            order: Tensor,
            sizes: Tensor,
            keys: Tensor,
            number: Tensor,
            fixed: list[Tensor],
            weights: list[Tensor],
            slots: list[Tensor],
            buffers: list[Tensor],
            values: list[Tensor],
        ) -> list[Tensor]:
            def ahead(index: Tensor, *packs: Tensor) -> Tensor:  # noqa: ARG001
                return index < number

            def body(index: Tensor, *packs: Tensor) -> Any:
                place = index.view(1)
                rows = order.index_select(0, place).squeeze(0)
                batch = [column.index_select(0, rows) for column in columns]
                size, key = (each.index_select(0, place).squeeze(0) for each in (sizes, keys))
                return (index + 1, *graph(batch, index, size, key, fixed, list(packs[:carried])))

            start = torch.zeros((), dtype=torch.int64)
            packs = [
                *pack(weights, slots, buffers, values),
                *(torch.zeros(shape, dtype=dtype) for shape, dtype in blank),
            ]
            packs = while_loop(ahead, body, (start, *packs))[1:]
            changed, results = unpack(packs[:carried])
            results = [*results, *last.unpacked(packs[carried:])]
            for old, new in zip([*weights, *slots, *buffers], changed, strict=True):
                old.copy_(new)
            return [result.clone() for result in results]

        return epoch

    def verify(self, trial: Trial, batches: ArrayBatches) -> None:
        """Compiles, and verifies a step on rows other than those that it was traced with, without lasting effect.

        Raises: RefusedError: if the compiled step gives different numbers.
        """
        number = batches.rows // batches.batch_size
        order = torch.arange(batches.rows).flip(0)[: number * batches.batch_size].view(number, batches.batch_size)
        batch = tree.refilled(self.nest, [tensor.index_select(0, order[0]) for tensor in batches.tensors])

        def counted(batch: Any, loss: Tensor, y_pred: Any) -> None:
            meter = Meter(self.compiled)
            meter.add(loss, batch[1], y_pred, batch[2])
            meter.fold()

        def run() -> tuple[Tensor, Any]:
            loss, *left = self._run(batches.tensors, order, 1)[1]
            outputs = left[len(left) - len(tree.flatten(self.outputs)) - len(self.masked) :]
            number = len(outputs) - len(self.masked)
            for place, mask in zip(self.masked, outputs[number:]):
                setattr(outputs[place], MASK, mask)
            return loss, tree.pack_sequence_as(self.outputs, outputs[:number])

        self._verify_sizes(number)
        verify_step(trial, self.function, run, batch, counted)

    def _verify_sizes(self, steps: int) -> None:
        """Compares step sizes within an epoch with the first one of an epoch that begins at the same step."""
        optimizer, first = self.function.optimizer, self.function.optimizer._iterations.number
        sizes = step_sizes(optimizer, steps)
        for place in {0, 1, steps // 2, steps - 1} & {*range(steps)}:
            optimizer._iterations.number = first + place
            expected = step_sizes(optimizer, steps)[0]
            optimizer._iterations.number = first
            refuse_difference(
                {f"the rates of step {place}": sizes[place]}, {f"the rates of step {place}": expected}, []
            )


def _cells_of(compiled: Objective) -> list[Variable]:
    """Returns the variables of loss trackers and metrics."""
    metrics = [compiled.loss_tracker, *(entry.metric for entry in compiled.metrics.entries)]
    return [*tracker_cells(compiled), *(variable for metric in metrics for variable in metric.variables)]


def _count(compiled: Objective, batch: Any, loss: Tensor, y_pred: Any) -> None:
    """Updates the metrics with a batch."""
    targets, outputs, weights = compiled.by_output(batch[1], y_pred, batch[2])
    plain = []
    for output in outputs:
        plain.append(output.detach())
        if hasattr(output, MASK):
            setattr(plain[-1], MASK, getattr(output, MASK))
    rows, tracker = len(outputs[0]), compiled.loss_tracker
    tracker.total.assign_add(loss * rows)
    tracker.count.assign_add(float(rows))
    update(compiled.metrics.entries, targets, plain, weights)
