"""The recorded step: bitwise the numbers of the eager step, without the autograd engine and without module calls.

If enough steps remain, one is recorded (see `recorder`), the next is run both ways and compared, and later ones run from
the recording. Steps that cannot be recorded run eagerly: those with user code, hooks, branches on values, or random
generators that are neither torch's nor a layer's. A change of a layer's attribute, a hook, the set of weights or a process
setting suspends the recordings; they are used again if the change is undone.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kstyle_torch import tree
from kstyle_torch._torch import BelowAutograd, foreach_copy_, version_of
from kstyle_torch.training import step as steps
from kstyle_torch.training.engines.batch_layout import layout_of
from kstyle_torch.training.engines.invalidation import Standing, foreign, marks, why_not
from kstyle_torch.training.fit_state import OfModel
from kstyle_torch.training.protocols import Trainable
from kstyle_torch.training.recorded.peephole import shortened
from kstyle_torch.training.recorded.recorder import OPERATOR_ERRORS, CannotRecordError, Recorder, RecordingWriter
from kstyle_torch.training.recorded.side_effects import Cells, Effects
from kstyle_torch.training.run import innermost

PAYS_AFTER = 80  # steps; recording and comparing cost as much as 16 to 28 recorded steps save, 40 at first use
MAX_RECORDINGS = 8  # batch shapes
MAX_LOOKS = 32  # full checks in an epoch that find a change; each costs as much as an eager step
FEW = 5  # steps; fewer between two changes do not pay for a snapshot


class Recording(NamedTuple):
    """A recorded step for batches of one shape."""

    run: Callable[..., list[Any]]
    source: str
    checked: bool
    effects: Effects | None  # None if a step yields just a loss, one output and gradients
    undo: Undo | None = None  # None if a step neither changes statistics nor draws random numbers


class Undo:
    """Copy of the state that a recorded step changes, to roll back a step that fails midway and run it eagerly.

    Args:
        tensors: Weights and buffers that it changes in place.
        sources: Random generators that it draws from.
    """

    def __init__(self, tensors: list[Tensor], sources: list[torch.Generator]):
        self.tensors, self.sources = [tensor.detach() for tensor in tensors], sources
        self.values = [tensor.clone() for tensor in self.tensors]
        self.random: list[Tensor] = []

    def note(self) -> None:
        """Copies the state. Called before each step, so it makes as few calls as possible."""
        if self.tensors:
            foreach_copy_(self.values, self.tensors)
        if self.sources:
            self.random = [source.get_state() for source in self.sources]

    def restore(self) -> None:
        """Restores the state."""
        if self.tensors:
            foreach_copy_(self.tensors, self.values)
        for source, state in zip(self.sources, self.random, strict=True):
            source.set_state(state)


class RecordedStep(OfModel):
    """Engine of recorded training steps, with the eager step as fallback.

    Args:
        model: Compiled.
        asked: Whether the user requested recording (`jit_compile="record"`). If so, user-written layers and losses are
            recorded too, and a warning gives the reason if a step cannot be.
    """

    def __init__(self, model: Trainable, asked: bool = False):
        super().__init__(model)
        self.asked = asked
        self.recordings: dict[Any, Recording | None] = {}  # None if it cannot be recorded
        self.seen: dict[Any, int] = {}
        self.ahead = 0
        self.reason: str | None = None
        self.warned: set[str] = set()  # reasons
        self.standing = Standing(model, asked)
        self.has_user_code = False  # in the recordings
        self.unproven: set[Any] = set()  # layouts whose recordings must still be compared in this epoch
        self.weights: list[Tensor] = []
        self.generators: list[torch.Generator] = []  # of layers with a seed
        self.watchful, self.hooked = True, False
        self.looks = 0
        self.foreign: str | None = None
        self.foreign_at = (-1, -1)
        self.futile = 0  # consecutive invalidations after fewer than FEW steps

    def begin(self, ahead: int, watchful: bool = True, hooked: bool = False) -> None:
        """Prepares for an epoch.

        Args:
            ahead: Remaining steps of the fit.
            watchful: Whether user code runs between the steps, which may change anything.
            hooked: Whether it runs between all of them: a callback, or a loop around `train_on_batch`.
        """
        self.ahead, self.watchful, self.hooked, self.looks = ahead, watchful, hooked, 0
        if (run := innermost.run) is not None and run.first_check is not None:
            return  # losses and metrics are built in the first step
        if self.futile > MAX_LOOKS or self._still_foreign():
            return
        if self.reason is not None or not self.standing.holds():
            self.reason = why_not(self.model, self.asked)
            if self.reason is None:
                self._look()
        if self.has_user_code and hooked:
            self.reason = "code between the batches may change values that user-written layers or losses read"
        self._warn(self.reason)
        self.unproven = {*self.recordings} if self.has_user_code else set()

    def end(self) -> None:
        """Ends a fit. The steps of an outer fit, if there is one, continue with user code between them."""
        self.watchful = self.hooked = True

    def _still_foreign(self) -> bool:
        """Returns whether the model has user code; cached, since `train_on_batch` asks at every call."""
        now = marks()
        if not self.asked and self.foreign_at != now:
            self.foreign, self.foreign_at = foreign(self.model), now
            self.reason = self.foreign or self.reason
        return self.foreign is not None

    def __call__(self, x: Any, y: Any, weight: Any) -> tuple[Tensor, Any]:
        """Runs one step. Returns: The loss and the output."""
        self.ahead -= 1
        if (run := innermost.run) is not None and run.first_check is not None:
            result = steps.train_step(self.model, x, y, weight)
            self.begin(self.ahead, self.watchful, self.hooked)
            return result
        if self.reason is not None:
            return steps.train_step(self.model, x, y, weight)
        flat: list[Tensor] = []
        key = layout_of(x, y, weight, flat)
        if key is None:
            return steps.train_step(self.model, x, y, weight)
        recording = self.recordings.get(key, MISSING)
        if recording is MISSING:
            return self._first(key, flat, x, y, weight)
        if recording is None or not self._unchanged():
            return steps.train_step(self.model, x, y, weight)
        if not recording.checked or key in self.unproven:
            return self._check(key, recording, flat, x, y, weight)
        if recording.undo is not None:
            recording.undo.note()
        if recording.effects is not None:
            return self._with_effects(recording, recording.effects, key, flat, x, y, weight)
        try:
            with BelowAutograd():  # costs half as much as no_grad, and calls inside are faster
                loss, y_pred, *gradients = recording.run(*flat)
        except OPERATOR_ERRORS:
            return self._failed(recording, key, x, y, weight)
        self._model()._compiled.optimizer.step(gradients)  # type: ignore[union-attr]
        return loss, y_pred

    def _with_effects(
        self, recording: Recording, effects: Effects, key: Any, flat: list[Tensor], x: Any, y: Any, weight: Any
    ) -> tuple[Tensor, Any]:
        try:
            with BelowAutograd():
                loss, values, *gradients = recording.run(*flat, *[cell.value for cell in effects.cells])
        except OPERATOR_ERRORS:
            return self._failed(recording, key, x, y, weight)
        y_pred = effects.given(values)
        self.model._compiled.optimizer.step(gradients)
        return loss, y_pred

    def _failed(self, recording: Recording, key: Any, x: Any, y: Any, weight: Any) -> tuple[Tensor, Any]:
        """Rolls back and runs the eager step instead, whose error message describes the batch better."""
        if recording.undo is not None:
            recording.undo.restore()
        result = steps.train_step(self.model, x, y, weight)
        self.recordings[key] = None  # the eager step succeeded: the recording was at fault
        return result

    def _first(self, key: Any, flat: list[Tensor], x: Any, y: Any, weight: Any) -> tuple[Tensor, Any]:
        """Runs an eager step for a new shape, and records it if enough of the same shape are expected."""
        self.seen[key] = self.seen.get(key, 0) + 1
        if self.seen[key] < 2 or not (self.asked or self._pays(key)):
            return steps.train_step(self.model, x, y, weight)
        if len(self.recordings) >= MAX_RECORDINGS or not self._unchanged():
            return steps.train_step(self.model, x, y, weight)
        if len({*map(id, flat)}) < len(flat):  # x is y here, which need not be so in the next batch
            flat, (x, y, weight) = [], tree.map_structure(_another, (x, y, weight))
            layout_of(x, y, weight, flat)
        recorder, cells, weights = Recorder(), Cells(self.model), self.weights
        before = state_of(weights, self.generators)
        try:
            with recorder:
                loss, y_pred, gradients = steps.forward_backward(self.model, x, y, weight, captured=True)
        except NotImplementedError:  # an operator that dispatch modes do not support
            self.recordings[key] = None
            restore(weights, before, self.generators)
            cells.undo()
            return steps.train_step(self.model, x, y, weight)
        self.recordings[key] = self._written(recorder, cells, flat, loss, y_pred, gradients)
        self.model._compiled.optimizer.step(gradients)
        return loss, y_pred

    def _pays(self, key: Any) -> bool:
        """Returns whether enough batches of this shape remain, or have come so far if their number is unknown."""
        share = self.seen[key] / sum(self.seen.values())
        return self.ahead * share >= PAYS_AFTER or self.seen[key] > PAYS_AFTER

    def _written(
        self, recorder: Recorder, cells: Cells, flat: list[Tensor], loss: Tensor, y_pred: Any, gradients: Any
    ) -> Recording | None:
        try:
            if recorder.is_full:
                raise CannotRecordError("a step takes so much memory that recording would gain nothing")
            if recorder.reads.met:
                raise CannotRecordError("Python reads values of tensors, and may branch on them")
            calls, used = shortened(recorder.calls), cells.used(recorder.calls)
            effects = Effects(self.model, y_pred, [cell for cell, _ in used])
            state = [*self.weights]
            state += [each.weight for each in self.model._compiled.loss.entries if isinstance(each.weight, Tensor)]
            constants = [steps.one(loss.dtype, loss.device)]
            writer = RecordingWriter([*flat, *(old for _, old in used)], state, constants, self.generators)
            outputs = y_pred if effects.are_few else effects.taken(y_pred)
            run, source = writer.write(calls, [loss, outputs, *gradients])
        except CannotRecordError as error:
            self._warn(str(error))
            return None
        return Recording(run, source, False, None if effects.are_few else effects)

    def _check(
        self, key: Any, recording: Recording, flat: list[Tensor], x: Any, y: Any, weight: Any
    ) -> tuple[Tensor, Any]:
        """Runs a step both ways from the same state, and keeps the recording if every bit is equal.

        The result is the eager one: user code runs once, and changes by the recorded step are rolled back.
        """
        self.unproven.discard(key)
        weights, effects = self.weights, recording.effects  # a layer may replace a parameter while it runs
        before, drawn = state_of(weights, self.generators), _draws_of_python()
        cells = [] if effects is None else [cell.value for cell in effects.cells]
        versions = [*map(version_of, weights)]
        expected = steps.forward_backward(self.model, x, y, weight)
        after = state_of(weights, self.generators)
        undo = self._undo(before, after, [version_of(each) != old for each, old in zip(weights, versions, strict=True)])
        restore(weights, before, self.generators)
        try:
            with BelowAutograd():
                got = recording.run(*flat, *cells)
        except (RuntimeError, TypeError):
            got = []
        loss, y_pred, gradients = expected
        outputs = y_pred if effects is None else effects.taken(y_pred)
        wanted = [loss, outputs, *gradients, *after]
        same = _equal(wanted, [*got, *state_of(weights, self.generators)])
        restore(weights, after, self.generators)
        if self.has_user_code:  # it may append to a list, or use other random generators; a recording does neither
            same = same and self.standing.holds() and drawn == _draws_of_python()
        else:
            same = same and self._unchanged()
        self.recordings[key] = recording._replace(checked=True, undo=undo) if same else None
        if not same:
            self._warn("a recorded step and an ordinary one gave different results")
        self.model._compiled.optimizer.step(gradients)
        return loss, y_pred

    def _undo(self, before: list[Tensor], after: list[Tensor], written: list[bool]) -> Undo | None:
        """Returns the state to save before each step, from the states before and after one; see `state_of`.

        Args:
            written: For each weight, whether its version counter moved; some of torch's kernels do not move it.
        """
        changed = [not _same_bits(one, other) for one, other in zip(before, after, strict=True)]
        sources = _sources(self.generators)
        drawn = [source for source, differs in zip(sources, changed) if differs]
        facts = zip(self.weights, written, changed[len(sources) :], strict=True)
        tensors = [weight for weight, told, differs in facts if told or differs]
        return Undo(tensors, drawn) if tensors or drawn else None

    def _unchanged(self) -> bool:
        """Returns whether the assumptions of the recordings still hold."""
        if not self.watchful and self.standing.is_unmarked:  # only the step itself has run since the last check
            return True
        if self.standing.holds(functions=self.watchful):
            return True
        self.looks += 1
        if self.looks > MAX_LOOKS:
            self.reason = "its attributes change at every step"
            self._warn(self.reason)
        return False

    def _look(self) -> None:
        """Takes a new snapshot if the assumptions have changed, and drops the recordings made under the old ones."""
        if not self.standing.holds():
            self.futile = self.futile + 1 if sum(self.seen.values()) < FEW else 0
            if self.futile > MAX_LOOKS:
                self.reason = "its attributes change all the time"
            self.recordings.clear()
            self.seen.clear()
            self.standing.note()
            self.has_user_code = self.asked and foreign(self.model) is not None
        self.weights = [*self.model.parameters(), *self.model.buffers()]
        fields = [value for module in self.model.modules() for value in vars(module).values()]
        self.generators = [*{id(value): value for value in fields if isinstance(value, torch.Generator)}.values()]

    def _warn(self, reason: str | None) -> None:
        if reason is not None and self.asked and reason not in self.warned:
            self.warned.add(reason)
            warnings.warn(f'jit_compile="record": {self.model.name} runs step by step, because {reason}.', stacklevel=6)


MISSING: Any = object()


def _another(leaf: Any) -> Any:
    """Returns another object for the same tensor."""
    return leaf.detach() if isinstance(leaf, Tensor) else leaf


def state_of(weights: list[Tensor], generators: Iterable[torch.Generator] = ()) -> list[Tensor]:
    """Returns copies of the random states, including those of further generators, and of the weights."""
    random = [source.get_state() for source in _sources(generators)]
    return [*random, *(weight.detach().clone() for weight in weights)]


def restore(weights: list[Tensor], state: list[Tensor], generators: Iterable[torch.Generator] = ()) -> None:
    """Restores random states and weights from the result of `state_of`."""
    values = iter(state)
    for source in _sources(generators):
        source.set_state(next(values))
    with torch.no_grad():
        for weight in weights:
            weight.copy_(next(values))


def _draws_of_python() -> Any:
    """Returns the random states of Python and NumPy."""
    numpy: Any = np.random.get_state(legacy=False)
    return random.getstate(), numpy["state"]["key"].tobytes(), numpy["state"]["pos"], numpy["gauss"]


def _sources(generators: Iterable[torch.Generator]) -> list[torch.Generator]:
    of_devices = torch.cuda.default_generators if torch.cuda.is_initialized() else ()
    return [torch.default_generator, *of_devices, *generators]


def _equal(wanted: list[Any], got: list[Any]) -> bool:
    """Returns whether all tensors are equal in every bit; the host waits for the device here."""
    return len(wanted) == len(got) and all(_same_bits(one, other) for one, other in zip(wanted, got, strict=True))


def _same_bits(one: Any, other: Any) -> bool:
    if isinstance(one, list):
        return _equal(one, other)
    if one is None or other is None:
        return one is other
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    raw = [tensor.detach().contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other)]
    return torch.equal(*raw)
