"""The whole step as one compiled graph: forward, loss, backward and optimizer; weights and state are changed in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kstyle_torch import tree
from kstyle_torch.optimizers.pure import settings_of, step_size, why_not_pure
from kstyle_torch.training import step as steps
from kstyle_torch.training.effects import MASK
from kstyle_torch.training.guards import fingerprint, marks, summary, watched, why_not
from kstyle_torch.training.pure import CannotCompileError, StepFunction, went_elsewhere
from kstyle_torch.training.record import restore, state_of

MAX_COMPILED = 4  # models, as it were, that one model was made into by changing it


class WholeSteps:
    """Training steps of which each is one graph, for as long as nothing changes that the graphs take for granted.

    Args:
        model: Compiled in Keras' sense.
        compiler: Makes a function faster: `torch.compile` with its arguments.
    """

    def __init__(self, model: Any, compiler: Callable[[Any], Any]):
        self.model, self.compiler = model, compiler
        self.calls: dict[Any, WholeStep | None] = {}  # by layout of the batch; None where it cannot be
        self.function: StepFunction | None = None
        self.noted: Any = None
        self.fingerprint: Any = None
        self.marks = (-1, -1)
        self.watchful = True
        self.made = 0

    def begin(self, watchful: bool) -> None:
        """Before an epoch; see `RecordedStep.begin`."""
        self.watchful = watchful
        if self.function is not None:
            if not self._unchanged(look=True):
                self.function, self.calls = None, {}

    def get(self, key: Any) -> WholeStep | None:
        """The step for batches of this layout, if there is one and nothing has changed."""
        step = self.calls.get(key)
        return step if step is not None and self._unchanged(look=self.watchful) else None

    def first(self, key: Any, x: Any, y: Any, weight: Any) -> tuple[Tensor, Any] | None:
        """A step in both ways. Returns: The loss and the output; None, with nothing changed, if it cannot be one graph."""
        if key in self.calls or self.made >= MAX_COMPILED:
            return None
        self.calls[key] = None
        if self.function is None:
            try:
                self.function = StepFunction(self.model)
            except CannotCompileError:
                return None
            self.noted, self.marks, self.fingerprint = self._now(), marks(), fingerprint(self.model)
        state = self.function.state()
        changing = [*state.weights, *state.slots, *state.buffers]
        before = state_of(changing)
        try:
            step = WholeStep(self.function, self.compiler, (x, y, weight))
            loss, _ = step(x, y, weight)
            got = [tensor.clone() for tensor in state.weights]
        except Exception:
            restore(changing, before)
            return None
        self.made += 1
        restore(changing, before)
        self.model._compiled.optimizer.back(1)
        expected, y_pred = steps.train_step(self.model, x, y, weight)
        same = torch.allclose(loss.float(), expected.detach().float(), rtol=1e-3, atol=1e-5, equal_nan=True)
        if same and not went_elsewhere(before[-len(changing) :][: len(got)], state.weights, got):
            self.calls[key] = step
        return expected, y_pred

    def _unchanged(self, look: bool) -> bool:
        if marks() == self.marks and not look:
            return True
        if self._now() != self.noted:
            return False
        if marks() != self.marks:
            if why_not(self.model, asked=True) is not None or fingerprint(self.model) != self.fingerprint:
                return False
            self.marks = marks()  # it was something else that changed, or nothing that counts
        return True

    def _now(self) -> Any:
        """All that the graphs take for granted, as far as it can be told quickly."""
        optimizer = self.model._compiled.optimizer
        settings = why_not_pure(optimizer) or settings_of(optimizer)
        return id(self.model._compiled), settings, watched(), summary(self.model)


class WholeStep:
    """A compiled step for batches of one layout.

    Args:
        function: The step.
        compiler: See `WholeSteps`.
        example: Such a batch.
    Raises: CannotCompileError: if the step depends on anything else than the batch and what `function` knows.
    """

    def __init__(self, function: StepFunction, compiler: Callable[[Any], Any], example: tuple[Any, Any, Any]):
        self.function, self.example = function, example
        self.is_plain = not any(map(tree.is_nested, example))
        self.outputs: Any = None  # the nest of them
        self.masked: list[int] = []  # which outputs have masks
        state = function.state()

        def pure(batch: list[Tensor], sizes: Tensor, fixed: list[Tensor], flat: list[Tensor]) -> list[Tensor]:
            return self._pure(batch, sizes, fixed, flat)  # make_fx counts the arguments, and takes no method

        with torch.no_grad():
            graph = function.traced(pure, self._leaves(*example), torch.zeros(4), function.frozen, state.flat)
        number = len(state.flat)

        def whole(batch: list[Tensor], sizes: Tensor, fixed: list[Tensor], flat: list[Tensor]) -> list[Tensor]:
            results = graph(batch, sizes, fixed, flat)
            for old, new in zip(flat, results[:number]):
                old.copy_(new)
            return results[number:]

        self.call = compiler(whole)

    def _pure(self, batch: list[Tensor], sizes: Tensor, fixed: list[Tensor], flat: list[Tensor]) -> list[Tensor]:
        loss, y_pred, after = self.function(self._packed(batch), sizes, fixed, self.function.state().like(flat))
        leaves = tree.flatten(y_pred)
        if not all(isinstance(leaf, Tensor) for leaf in leaves):
            raise CannotCompileError("an output is no tensor")
        self.outputs = tree.map_structure(lambda leaf: None, y_pred)
        self.masked = [place for place, leaf in enumerate(leaves) if hasattr(leaf, MASK)]
        masks = [getattr(leaves[place], MASK) for place in self.masked]
        return [*after.flat, loss, *(leaf.detach() for leaf in leaves), *masks]

    def _leaves(self, *batch: Any) -> list[Tensor]:
        return [leaf for leaf in (batch if self.is_plain else tree.flatten(batch)) if leaf is not None]

    def _packed(self, leaves: list[Tensor]) -> Any:
        left = iter(leaves)
        return tree.pack_sequence_as(
            self.example, [leaf if leaf is None else next(left) for leaf in tree.flatten(self.example)]
        )

    @torch.no_grad()
    def __call__(self, x: Any, y: Any, weight: Any) -> tuple[Tensor, Any]:
        """One step. Returns: The loss and the output."""
        function = self.function
        sizes = torch.tensor(step_size(function.optimizer))
        loss, *leaves = self.call(self._leaves(x, y, weight), sizes, function.frozen, function.state().flat)
        function.optimizer._iterations.number += 1
        if self.outputs is None and not self.masked:
            return loss, leaves[0]
        number = len(leaves) - len(self.masked)
        for place, mask in zip(self.masked, leaves[number:]):
            setattr(leaves[place], MASK, mask)
        return loss, tree.pack_sequence_as(self.outputs, leaves[:number])
