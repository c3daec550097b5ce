"""Training step as a pure function of batch and state, for tracing."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kstyle_torch._torch import TorchDispatchMode
from kstyle_torch.callbacks.snapshot import cells_of
from kstyle_torch.draws import random_state
from kstyle_torch.layer.seed_states import held
from kstyle_torch.mode import passing
from kstyle_torch.optimizers.functional_update import clipped, pure_step, why_not_pure
from kstyle_torch.optimizers.packing import SMALL_IN_LOOPS, Packing
from kstyle_torch.optimizers.variables import layout_of, parameter_of
from kstyle_torch.training import step as steps
from kstyle_torch.training.compiled.stateless_random import draw_keys, keyed
from kstyle_torch.training.compiled.tracing_copy import replaced, tracing_copy
from kstyle_torch.training.engines.invalidation import marks, why_not
from kstyle_torch.training.fit_state import OfModel
from kstyle_torch.training.objective import Objective
from kstyle_torch.training.protocols import Trainable
from kstyle_torch.variables import Variable

MAX_CALLS, MAX_CALLS_A_WEIGHT = 3000, 20  # of torch's operators; an LSTM over 50 time steps has 2,900


class CannotCompileError(Exception):
    """Error of a model whose step or epoch cannot be one graph, with the reason as its message."""


class TooLargeError(CannotCompileError):
    """Error of a step with so many operations that compiling would take minutes."""


class State(NamedTuple):
    """State that a step changes, or tensors that replace it while tracing."""

    weights: list[Tensor]
    slots: list[Tensor]  # of the optimizer
    buffers: list[Tensor]
    cells: list[Tensor]  # of metrics, and others
    added: Sequence[Tensor] = ()  # losses from `add_loss` in the step that led to this state

    @property
    def flat(self) -> list[Tensor]:
        """All tensors in order, except `added`."""
        return [tensor for group in self[:4] for tensor in group]

    def like(self, flat: Any) -> State:
        """Returns other tensors in the same groups."""
        ends = accumulate([len(group) for group in self[:4]], initial=0)
        return State(*(list(flat[start:stop]) for start, stop in pairwise(ends)))


class StepFunction(OfModel):
    """A training step of a model as a function without side effects.

    Args:
        model: Compiled, and prepared for an epoch.
        packs: Whether small weights are packed into large tensors, and their optimizer state likewise.
    Raises: CannotCompileError: if a step depends on anything but the batch and the tensors of `state`.
    """

    def __init__(self, model: Trainable, packs: bool = False):
        compiled = model._compiled
        reason = why_not(model, asked=True) or why_not_pure(compiled.optimizer)
        if cells_of(model):
            reason = reason or "a layer has variables or generators that are not weights"
        if reason is not None:
            raise CannotCompileError(reason)
        super().__init__(model)
        self.no_key = torch.zeros(1, dtype=torch.int64, device="cpu")
        self.optimizer, self.parameters = compiled.optimizer, compiled.parameters
        trained = {id(parameter) for parameter in self.parameters}
        self.frozen = [parameter for parameter in model.parameters() if id(parameter) not in trained]
        self.buffers = _places_of_buffers(model)
        self.copy: Any = None  # of the model, while the step is traced
        if len(self.buffers) != len([*model.buffers()]):
            raise CannotCompileError("modules share a buffer")
        self.packing = Packing.of_small(self.parameters, SMALL_IN_LOOPS if packs else 0)
        self.draws = False  # whether layers draw random numbers; known after the first run
        self.adding: list[tuple[int, int]] = []  # (index of layer, number of losses that it added)
        self.cells = tracker_cells(compiled)

    def state(self) -> State:
        """Returns the tensors that a step changes, in their current state."""
        slots = self.optimizer._current().state.values()
        return State(
            self.parameters,
            [tensor for tensors in slots for tensor in tensors],
            self.buffers_now(),
            [cell.value for cell in self.cells],
        )

    def keys(self, steps: int) -> Tensor:
        """Returns random keys for steps; does not use the random state if no layer draws random numbers."""
        return draw_keys(steps) if self.draws else self.no_key.expand(steps)

    @contextlib.contextmanager
    def on_copy(self) -> Iterator[None]:
        """Makes a copy of the model for the block, in which the step is traced."""
        self.copy = tracing_copy(self.model)
        try:
            yield
        finally:
            self.copy = None

    def buffers_now(self) -> list[Tensor]:
        """Returns the buffers that the modules hold now."""
        return [owner[name] for owner, name in self.buffers]

    def __call__(
        self, batch: tuple[Any, Any, Any], sizes: Tensor, key: Tensor, fixed: list[Tensor], state: State
    ) -> tuple[Tensor, Any, State]:
        """Runs one step, within `on_copy`.

        Args:
            batch: Inputs as for the model, targets, sample weights.
            sizes: Step sizes of the optimizer; see `step_sizes`.
            key: Random key of the step.
            fixed: Tensors that replace the weights that are not trained.
            state: State before the step, with weights and slots in packs; the model's own state does not change.
        Returns: The loss, the output, and the state after the step.
        Raises: CannotCompileError: if the loss does not depend on all weights.
        """
        model, places = self.copy, _places_of_buffers(self.copy)
        weights = self.packing.unpacked(state.weights)
        leaves = [tensor.detach().requires_grad_() for tensor in weights]
        buffers = [tensor.clone() for tensor in state.buffers]  # some layers change theirs in place
        pairs = [*zip(self.parameters, leaves), *zip(self.buffers_now(), buffers), *zip(self.frozen, fixed)]
        cells = tracker_cells(model._compiled)
        with torch.enable_grad(), replaced(model, pairs), held(cells, state.cells), keyed(key) as draws:
            steps.clear_losses(model)
            with passing(True):
                y_pred = model(batch[0])
            loss = model.compute_loss(batch[0], batch[1], y_pred, batch[2])
            added = self._taken_losses()
            gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
            buffers = [owner[name].detach().clone() for owner, name in places]
            values = [cell.value.detach() for cell in cells]
        self.draws = self.draws or draws.calls > 0
        if any(gradient is None for gradient in gradients):
            raise CannotCompileError("the loss does not depend on all trainable weights")
        weights, slots = self._changed(state, [*gradients], sizes)
        return loss.detach(), y_pred, State(weights, slots, buffers, values, added)

    def _taken_losses(self) -> list[Tensor]:
        by_layer = [[*layer._losses] for layer in self.copy._fit.loss_layers(self.copy)]
        found = [torch.as_tensor(each).detach() for losses in by_layer for each in losses]
        self.adding = [(place, len(losses)) for place, losses in enumerate(by_layer) if losses]
        return found

    def _changed(self, state: State, gradients: list[Tensor], sizes: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Returns weights and slots after the optimizer's step, in packs."""
        part, number = self.optimizer._current(), len(state.weights)
        slots = {name: state.slots[place * number : (place + 1) * number] for place, name in enumerate(part.state)}
        decayed = {id(parameter) for parameter in part.decayed}
        flags = self.packing.flags([id(parameter) in decayed for parameter in part.parameters])
        packs = self.packing.packed(clipped(self.optimizer, gradients))
        weights, slots = pure_step(self.optimizer, state.weights, packs, slots, sizes, flags)
        if part.constraints:
            weights = self.packing.packed(self._constrained(self.packing.unpacked(weights)))
        return weights, [tensor for name in part.state for tensor in slots[name]]

    def _constrained(self, weights: list[Tensor]) -> list[Tensor]:
        part = self.optimizer._current()
        rules = {id(parameter_of(variable)): (layout_of(variable), rule) for variable, rule in part.constraints}
        for place, parameter in enumerate(part.parameters):
            if id(parameter) in rules:
                layout, rule = rules[id(parameter)]
                weights[place] = layout.to_torch(rule(layout.to_keras(weights[place])))
        return weights


def tracker_cells(compiled: Objective) -> list[Variable]:
    """Returns the variables of the trackers of individual losses."""
    return [variable for tracker in compiled.trackers for variable in tracker.variables]


def _places_of_buffers(model: nn.Module) -> list[tuple[Any, str]]:
    return [
        (module._buffers, name) for module in model.modules() for name, buffer in module._buffers.items()
        if buffer is not None
    ]  # fmt: skip


def give_losses(model: Trainable, adding: list[tuple[int, int]], losses: Iterable[Tensor]) -> None:
    """Sets the losses of a compiled step on their layers; see `StepFunction.adding`."""
    layers, rest = model._fit.loss_layers(model), iter(losses)
    for place, number in adding:
        layers[place]._losses[:] = [next(rest) for _ in range(number)]


class Counted(TorchDispatchMode):
    """Dispatch mode that limits the number of operator calls.

    Args:
        most: The limit.
    Raises: TooLargeError: at the first call beyond it.
    """

    def __init__(self, most: int):
        super().__init__()
        self.left = most

    def __torch_dispatch__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.left -= 1
        if self.left < 0:
            raise TooLargeError(
                "it has too many operations, for example over long sequences: compiling would take minutes"
            )
        return call(*args, **(kwargs or {}))


def traced(model: Trainable, function: Any, *example: Any) -> Any:
    """Traces a function that runs a model into a graph of torch's basic operators that depends on its inputs alone.

    Args:
        model: The model.
        function: Function of tensors and lists of tensors.
        example: Arguments to trace it with.
    Raises: CannotCompileError: if it depends on anything but its arguments.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    most = MAX_CALLS + MAX_CALLS_A_WEIGHT * len([*model.parameters()])

    @functools.wraps(function)
    def counted(*args: Any) -> Any:
        with Counted(most):
            return function(*args)

    random, before = random_state(), marks()
    fused = torch.backends.mkldnn.set_flags(False)[0]  # oneDNN's LSTM cannot be traced
    try:
        with torch.no_grad():
            graph = make_fx(counted)(*example)
    finally:
        torch.backends.mkldnn.set_flags(fused)
        steps.clear_losses(model)
        if has_drawn(random):
            raise CannotCompileError("its layers draw random numbers in a way that cannot be traced")
    if marks() != before:
        raise CannotCompileError("a layer changes its attributes in each step")
    graph.graph.eliminate_dead_code()
    graph.recompile()
    own = {tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers()) if tensor.numel()}
    if any(isinstance(value, Tensor) and value.data_ptr() in own for value in vars(graph).values()):
        raise CannotCompileError("a layer keeps its weights where they cannot be replaced")
    return graph


def has_drawn(before: dict[str, Any]) -> bool:
    """Returns whether torch's, NumPy's or Python's random state has changed since `before`, from `random_state()`."""
    now = random_state()
    torch_same = torch.equal(now["torch"], before["torch"])
    numpy_same = torch.equal(now["numpy"][1], before["numpy"][1]) and now["numpy"][2:] == before["numpy"][2:]
    return not (torch_same and numpy_same and now["python"] == before["python"])
