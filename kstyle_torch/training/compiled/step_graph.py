"""The step graph: forward, loss, backward and optimizer in one compiled graph, which updates the state in place."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor

from kstyle_torch import tree
from kstyle_torch.optimizers.functional_update import settings_of, step_size, why_not_pure
from kstyle_torch.training.compiled.functional_step import (
    CannotCompileError,
    StepFunction,
    TooLargeError,
    give_losses,
    traced,
)
from kstyle_torch.training.compiled.torch_compile import (
    MAX_COMPILED,
    graph_options,
    has_cuda_graphs,
    keep_in_place,
    one_graph,
)
from kstyle_torch.training.compiled.verify import FailedError, Later, Trial, rolled, verify_step
from kstyle_torch.training.engines.invalidation import Standing
from kstyle_torch.training.fit_state import OfModel
from kstyle_torch.training.protocols import Trainable
from kstyle_torch.training.recorded.side_effects import MASK


class WholeSteps(OfModel):
    """Step graphs of a model by batch layout, invalidated together when one of their assumptions fails.

    Args:
        model: Compiled in Keras' sense.
        how: `jit_compile`: True, a mode of `torch.compile`, or a dict of its arguments.
    """

    def __init__(self, model: Trainable, how: Any):
        super().__init__(model)
        self.how = how
        self.calls: dict[Any, WholeStep | None] = {}  # by batch layout; None if it cannot be compiled
        self.function: StepFunction | None = None
        self.standing = Standing(model)
        self.looked_after: set[Any] = set()  # layouts that ran a step since the last full check
        self.watchful = True
        self.made = 0

    def begin(self, watchful: bool) -> None:
        """Prepares for an epoch; see `Engine.begin`."""
        self.watchful = True
        if self.function is not None:
            if not self._unchanged(look=True):
                self.function, self.calls, self.looked_after = None, {}, set()
        self.watchful = watchful

    def end(self) -> None:
        """Ends a fit; see `Engine.end`."""
        self.watchful = True

    def get(self, key: Any) -> WholeStep | None:
        """Returns the step for batches of this layout, if there is one and nothing has changed."""
        step = self.calls.get(key)
        if step is None or not self._unchanged(look=self.watchful or key not in self.looked_after):
            return None
        self.looked_after.add(key)  # the eager first step may have changed state that it reads
        return step

    def first(self, key: Any, x: Any, y: Any, weight: Any) -> WholeStep | None:
        """Compiles the step, for later batches like this one.

        Returns: The step; None if it cannot be one graph.
        Raises: TooLargeError: if compiling it in any way would take minutes. FailedError: if the compiler fails, or its code
            gives different numbers. In all of these cases, no state has changed.
        """
        function = None if key in self.calls else self._function()
        self.calls[key] = None
        if function is None:
            return None
        state, batch = function.state(), (x, y, weight)
        trial = Trial(self.model, [*state.weights, *state.slots, *state.buffers])
        with trial:
            step = WholeStep(function, batch)
        if isinstance(trial.error, TooLargeError):
            raise trial.error
        if trial.error is not None:  # it cannot be traced
            return None
        with trial:
            step.compile(self.how)
            other = rolled(batch)
            verify_step(trial, function, lambda: step(*other), other)
            step.later = Later(self.model, state.buffers, [*state.weights, *state.slots])
        if trial.error is not None:
            raise FailedError(trial.reason) from trial.error
        self.calls[key] = step
        return step

    def _function(self) -> StepFunction | None:
        """Returns the step as a pure function; None if it is not one."""
        if self.function is None and self.made < MAX_COMPILED:
            self.made += 1
            with contextlib.suppress(CannotCompileError):
                self.function = StepFunction(self.model)
                self.standing.note(self._now())
        return self.function

    def _unchanged(self, look: bool) -> bool:
        return (not look and self.standing.is_unmarked) or self.standing.holds(self._now(), self.watchful)

    def _now(self) -> Any:
        """Returns the assumptions of the graphs about the optimizer."""
        optimizer = self.model._compiled.optimizer
        return why_not_pure(optimizer) or settings_of(optimizer)


class WholeStep:
    """A compiled step for batches of one layout.

    Args:
        function: The step.
        example: A batch of that layout.
    Raises: CannotCompileError: if the step depends on anything but the batch and the state of `function`.
    """

    def __init__(self, function: StepFunction, example: tuple[Any, Any, Any]):
        self.function, self.example = function, example
        self.later: Any = None  # a `Later`, once verified
        self.is_plain = not any(map(tree.is_nested, example))
        self.outputs: Any = None  # the nest of them
        self.masked: list[int] = []  # which outputs have masks
        self.adding: list[tuple[int, int]] = []  # see `StepFunction`
        state = function.state()
        self.device = state.weights[0].device

        def pure(batch: list[Tensor], sizes: Tensor, key: Tensor, fixed: list[Tensor], flat: list[Tensor]) -> Any:
            return self._pure(batch, sizes, key, fixed, flat)  # make_fx counts parameters, and rejects methods

        sizes, key = torch.zeros(4, device=self.device), function.no_key[0].to(self.device)
        with torch.no_grad(), function.on_copy():
            graph = traced(function.model, pure, self._leaves(*example), sizes, key, function.frozen, state.flat)
        self.graph, self.changed = graph, len(state.flat) - len(state.cells)

    def compile(self, how: Any) -> None:
        """Compiles the graph; see `WholeSteps`."""
        graph, number = self.graph, self.changed
        arguments = graph_options(how, self.device.type)
        self.on_cuda_graphs = has_cuda_graphs(arguments, self.device.type)

        def compiled_step(
            batch: list[Tensor], sizes: Tensor, key: Tensor, fixed: list[Tensor], flat: list[Tensor]
        ) -> Any:
            results = graph(batch, sizes, key, fixed, flat)
            for old, new in zip(flat[:number], results[:number]):
                old.copy_(new)
            return results[number:]

        self.call = one_graph(compiled_step, arguments)

    def _pure(
        self, batch: list[Tensor], sizes: Tensor, key: Tensor, fixed: list[Tensor], flat: list[Tensor]
    ) -> list[Tensor]:
        loss, y_pred, after = self.function(
            tree.refilled(self.example, batch), sizes, key, fixed, self.function.state().like(flat)
        )
        leaves = tree.flatten(y_pred)
        if not all(isinstance(leaf, Tensor) for leaf in leaves):
            raise CannotCompileError("an output is not a tensor")
        self.outputs = tree.map_structure(lambda leaf: None, y_pred)
        self.masked = [place for place, leaf in enumerate(leaves) if hasattr(leaf, MASK)]
        masks = [getattr(leaves[place], MASK) for place in self.masked]
        self.adding = self.function.adding
        return [*after.flat, loss, *(leaf.detach() for leaf in leaves), *masks, *after.added]

    def _leaves(self, *batch: Any) -> list[Tensor]:
        return [leaf for leaf in (batch if self.is_plain else tree.flatten(batch)) if leaf is not None]

    @torch.no_grad()
    def __call__(self, x: Any, y: Any, weight: Any) -> tuple[Tensor, Any]:
        """Runs one step. Returns: The loss and the output."""
        function = self.function
        sizes, key, state = torch.tensor(step_size(function.optimizer)), function.keys(1)[0], function.state()
        if self.device.type != "cpu":
            sizes, key = (each.to(self.device, non_blocking=True) for each in (sizes, key))
        if self.on_cuda_graphs:
            torch.compiler.cudagraph_mark_step_begin()
            keep_in_place((*function.frozen, *state.weights, *state.slots, *state.buffers))
        results = self.call(self._leaves(x, y, weight), sizes, key, function.frozen, state.flat)
        if self.on_cuda_graphs:  # the next step reuses their memory
            results = [tensor.clone() for tensor in results]
        function.optimizer._iterations.number += 1
        return self._given(results)

    def _given(self, results: list[Tensor]) -> tuple[Tensor, Any]:
        """Returns loss and output as an eager step does, and sets the loss trackers."""
        if self.outputs is None and not self.masked and len(results) == 2:
            return results[0], results[1]
        cells = self.function.cells
        for cell, value in zip(cells, results):
            cell._tensor = value
        loss, *leaves = results[len(cells) :]
        if self.adding:
            end = len(leaves) - sum(number for _, number in self.adding)
            give_losses(self.function.model, self.adding, leaves[end:])
            del leaves[end:]
        number = len(leaves) - len(self.masked)
        for place, mask in zip(self.masked, leaves[number:]):
            setattr(leaves[place], MASK, mask)
        return loss, tree.pack_sequence_as(self.outputs, leaves[:number])
