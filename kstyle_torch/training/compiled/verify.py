"""Verification of compiled code against the eager step, and the only place that catches failures of the compiler.

A compiled step is accepted if two checks hold. First, its loss, outputs, masks, metric state and statistics equal those of
the eager step within the rounding noise of each tensor, with random layers under the same key. Second, its weights and
slots are what the model's own optimizer computes from gradients within the noise of the eager ones. This verifies gradients
and optimizer together, adds no cost to the compiled step, and does not need the inverse of an optimizer's formula. A fixed
tolerance on updated weights would not work: where a gradient is zero up to rounding, as that of a bias before
BatchNormalization, Adam may step in either direction; the interval from the optimizer is wide there and nowhere else.

Noise is measured by further eager evaluations: one with the rows in another order (if the model treats rows separately),
and some with inputs and weights changed in their last digit, which also covers random layers and models that mix rows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from traceback import walk_tb
from typing import Any

import torch
from torch import Tensor

from kstyle_torch import tree
from kstyle_torch._torch import COMPILER, compiling
from kstyle_torch.draws import random_state, set_random_state
from kstyle_torch.layer.base import Layer
from kstyle_torch.optimizers.variables import HostNumber
from kstyle_torch.training import step as steps
from kstyle_torch.training.compiled.functional_step import CannotCompileError, StepFunction, tracker_cells
from kstyle_torch.training.compiled.stateless_random import keyed
from kstyle_torch.training.protocols import Trainable
from kstyle_torch.training.recorded.engine import Undo
from kstyle_torch.training.recorded.side_effects import MASK, Cells

ATTEMPTS = 3  # rounding may flip a relu or a maximum in one attempt; wrong code differs in all of them
SMALL_STATE = 2**14  # numbers; copying them costs some percent of a step
MARGIN = 10  # times the measured noise
ULPS = 8  # of a tensor's largest number: fused code rounds less often than eager code, where both have no noise
RELATIVE = 1e-6  # of the largest change that the optimizer makes to a tensor
LOUD = 2.0**10  # learning rate at which small gradients exceed the last digit of the weights
PHASES = ((0, False), (2, True), (1000, False))  # (steps ahead, to cover schedules; whether with the rate `LOUD`)
NUDGES = 2
SAME_ROWS = 100  # last digits; if outputs differ by more after reordering rows, the model depends on their order
OUTPUT = "output"
COMPILED = "compiled_step"  # name of the function that is compiled to a step graph

Facts = dict[str, Tensor]


class RefusedError(CannotCompileError):
    """Error of compiled code whose results differ from the eager ones."""


class FailedError(Exception):
    """Error of compiled code that is not used: the compiler failed, or the results differ."""


class Trial:
    """Context in which code is compiled and tried: on exit all state is restored, and an exception is kept in `error`.

    This is the only place that catches exceptions of torch's compiler, which can be of any type. The caller falls back to
    the eager path, where errors in user code are raised again.

    Args:
        model: Compiled in Keras' sense.
        tensors: Tensors that a step may change in place; if there are any, metric state and gradients are restored too.
            Empty in inference, where another thread may train the same model: then only the random state is restored.
    """

    def __init__(self, model: Trainable, tensors: Sequence[Tensor]):
        self.model = model
        self.tensors = [*{id(tensor): tensor for tensor in tensors}.values()]
        self.error: Exception | None = None

    def __enter__(self) -> Trial:
        fields = [value for module in self.model.modules() for value in vars(module).values()]
        self.generators = [*{id(value): value for value in fields if isinstance(value, torch.Generator)}.values()]
        self.random, self.cells = random_state(self.generators), Cells(self.model)
        self.values = [tensor.detach().clone() for tensor in self.tensors]
        self.gradients = [(each, each.grad) for each in self.model.parameters()] if self.tensors else []
        return self

    def restore(self) -> None:
        """Restores all state."""
        put(self.tensors, self.values)
        set_random_state(self.random, self.generators)
        if self.tensors:
            self.cells.undo()
        for parameter, gradient in self.gradients:
            parameter.grad = gradient
        steps.clear_losses(self.model)

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> bool:
        self.restore()
        self.error = error.with_traceback(None) if isinstance(error, Exception) else None  # frames hold tensors
        return self.error is not None

    @property
    def reason(self) -> str:
        """The reason for the failure, for a warning."""
        return reason_of(self.error)


def reason_of(error: Exception | None) -> str:
    """Returns why compiled code is not used, for a warning."""
    if isinstance(error, CannotCompileError):
        return str(error)
    original = getattr(error, "inner_exception", error)  # torch wraps exceptions of a backend
    first = next(iter(str(original).strip().splitlines()), "")[:200]
    return f"that fails ({type(original).__name__}: {first})"


class Attempt:
    """Context for compiled code that changes no state: an exception is kept in `error`."""

    error: Exception | None = None
    has_run = False  # unless torch's compiler failed, before any compiled code ran

    def __enter__(self) -> Attempt:
        self.error, self.has_run = None, False
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> bool:
        if not isinstance(error, Exception):
            return False
        self.has_run = _has_run(error, traceback)
        self.error = error.with_traceback(None)  # frames hold tensors
        return True


def _has_run(error: Exception, traceback: Any) -> bool:
    """Returns whether compiled code may have run before an error.

    It has not if the compiler raised the error while it compiled, or checked its guards: then Python never entered the
    compiled function, which keeps its name.
    """
    if type(error).__module__.startswith(COMPILER):
        return False
    frames = [frame for frame, _ in walk_tb(traceback)]
    entered = any(frame.f_code.co_name == COMPILED for frame in frames)
    return entered or not str(frames[-1].f_globals.get("__name__")).startswith(COMPILER)


class Later(Attempt):
    """Context for a verified step: on failure the state is rolled back, and the exception is kept in `error`.

    The weights of a large model are not copied at each step; `is_intact` then tells whether they may have changed.

    Args:
        model: Compiled in Keras' sense.
        kept: Tensors that the code changes in place, and that are cheap to copy.
        rest: Other tensors that it changes in place, after all computation.
    """

    def __init__(self, model: Trainable, kept: Sequence[Tensor], rest: Sequence[Tensor] = ()):
        small = sum(tensor.numel() for tensor in (*kept, *rest)) <= SMALL_STATE
        self.undo = Undo([*kept, *rest] if small else [*kept], [torch.default_generator])
        self.is_whole = small or not rest
        self.cells = tracker_cells(model._compiled)
        self.optimizer = model._compiled.optimizer

    def __enter__(self) -> Later:
        super().__enter__()
        self.undo.note()
        self.before = [cell.value for cell in self.cells], self.optimizer._iterations.number
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> bool:
        if not super().__exit__(kind, error, traceback):
            return False
        self.undo.restore()
        for cell, value in zip(self.cells, self.before[0], strict=True):
            cell._tensor = value
        self.optimizer._iterations.number = self.before[1]
        return True

    @property
    def is_intact(self) -> bool:
        """True if the state is certainly unchanged: it was rolled back, or the compiler failed before anything ran."""
        return self.is_whole or not self.has_run


@torch.no_grad()
def put(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Copies values into tensors."""
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)


# ------------------------------------------------------------------------------------------------------------ comparing


def refuse_difference(got: Facts, wanted: Facts, others: Sequence[Facts], base: Facts | None = None) -> None:
    """Compares tensors by name, each within its own noise.

    Args:
        got: Results of compiled code.
        wanted: Results of an eager evaluation.
        others: Results of further evaluations, which differ by noise.
        base: Reference for the noise, if not `wanted`: an error that all of `others` share must not count as noise.
    Raises: RefusedError: for the first that differs.
    """
    for name, expected in wanted.items():
        spread = noise((base or wanted)[name], [other[name] for other in others])
        _refuse(name, got[name], expected, torch.full_like(expected, spread, dtype=torch.float64))


def noise(expected: Tensor, others: Sequence[Tensor]) -> float:
    """Returns the tolerance for a tensor, from evaluations that differ by rounding alone; 0 for integers."""
    if not expected.is_floating_point() or not expected.numel():
        return 0.0
    exact = expected.detach().double().nan_to_num(0, 0, 0)
    seen = [float((other.detach().double().nan_to_num(0, 0, 0) - exact).abs().max()) for other in others]
    return MARGIN * max(seen, default=0.0) + ULPS * torch.finfo(expected.dtype).eps * float(exact.abs().max())


def _refuse(name: str, got: Tensor, expected: Tensor, tolerance: Tensor) -> None:
    """Raises a RefusedError if a number exceeds its tolerance."""
    if got.shape != expected.shape or got.dtype != expected.dtype:
        raise RefusedError(
            f"the compiled code gives other numbers: {name} is {got.dtype} of shape {tuple(got.shape)}, "
            f"expected {expected.dtype} of shape {tuple(expected.shape)}"
        )
    got, expected = got.detach().double(), expected.detach().double()
    error = (got - expected).abs().where(got.ne(expected) & ~(got.isnan() & expected.isnan()), 0.0)
    excess = (error.nan_to_num(torch.inf) - tolerance).reshape(-1)
    if not excess.numel() or not bool((excess > 0).any()):  # host waits for the device here
        return
    worst = int(excess.argmax())
    one, other, most = (float(each.reshape(-1)[worst]) for each in (got, expected, tolerance))
    raise RefusedError(
        f"the compiled code gives other numbers: {name}[{worst}] is {one:.9g}, expected {other:.9g}, "
        f"tolerance {most:.2g}"
    )


def last_digit(model: Trainable) -> float:
    """Returns the relative rounding error of the least precise arithmetic in a model."""
    dtypes = {weight.dtype for weight in model.parameters() if weight.is_floating_point()}
    dtypes |= {module._compute_dtype for module in model.modules() if isinstance(module, Layer)}
    digits = [torch.finfo(dtype).eps for dtype in dtypes if dtype.is_floating_point]
    if any(weight.is_cuda for weight in model.parameters()):
        cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn  # type: Any, Any
        if "tf32" in (cuda.fp32_precision, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision):
            digits.append(2.0**-11)
    return max(digits, default=torch.finfo(torch.float32).eps)


def nudged(tensor: Tensor, share: float, seed: int) -> Tensor:
    """Returns a tensor with a random half of its numbers scaled by `1 - share`; integer tensors are unchanged."""
    if not tensor.is_floating_point():
        return tensor
    return like(tensor, tensor.detach() * (1 - share * (_signs(tensor, seed) > 0)))


def nudged_batch(batch: Any, share: float, seed: int) -> Any:
    """Returns a batch with its tensors perturbed; see `nudged`."""
    return each_leaf(lambda leaf: nudged(leaf, share, seed), batch)


def _signs(tensor: Tensor, seed: int) -> Tensor:
    """Returns a random sign, 1 or -1, for each number of a tensor."""
    drawn = torch.randint(2, tensor.shape, generator=torch.Generator().manual_seed(seed), device="cpu")
    return drawn.mul_(2).sub_(1).to(tensor.device, tensor.dtype)


def like(tensor: Tensor, values: Tensor) -> Tensor:
    """Returns values with the strides of a tensor, which compiled code relies on."""
    if any(stride == 0 and size > 1 for size, stride in zip(tensor.shape, tensor.stride(), strict=True)):
        return tensor.detach()  # expanded: its numbers share memory
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device).copy_(values)


def each_leaf(change: Callable[[Tensor], Tensor], batch: Any) -> Any:
    """Maps the tensors of a batch; a tensor that occurs twice stays one object."""
    made: dict[int, Any] = {}

    def changed(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        if id(leaf) not in made:
            made[id(leaf)] = change(leaf)
        return made[id(leaf)]

    return tree.map_structure(changed, batch)


def rolled(batch: Any, by: int = 1) -> Any:
    """Returns a batch with its rows rotated, to detect code that has the traced batch baked in."""
    return each_leaf(lambda leaf: like(leaf, leaf.roll(by, 0)) if leaf.ndim else leaf, batch)


def rows_of(batch: Any) -> int:
    """Returns the number of rows of a batch; 0 if its tensors do not agree."""
    sizes = {len(leaf) if leaf.ndim else 0 for leaf in tree.flatten(batch) if isinstance(leaf, Tensor)}
    return sizes.pop() if len(sizes) == 1 else 0


def outputs_of(y_pred: Any) -> Facts:
    """Returns the outputs of a model and their masks, by name."""
    found: Facts = {}
    for place, leaf in enumerate(tree.flatten(y_pred)):
        found[f"{OUTPUT} {place}"] = leaf.detach()
        if hasattr(leaf, MASK):
            found[f"{OUTPUT} {place}, its mask"] = getattr(leaf, MASK)
    return found


def verify_forward(
    run: Callable[[Any], Any],
    plain: Callable[[Any], Any],
    pure: Callable[[Any, float, int], Any],
    example: Any,
    size: float,
) -> None:
    """Compares a compiled forward pass with the model.

    Args:
        run: The compiled forward pass.
        plain: The model.
        pure: The model as a function of inputs and of `nudged`'s arguments for the weights; measures the noise.
        example: Inputs that it was traced with.
        size: See `last_digit`.
    Raises: RefusedError: if they differ in every attempt.
    """

    def compared(attempt: int) -> None:
        batch = rolled(nudged_batch(example, 1e-3 * bool(attempt), attempt))
        exact = outputs_of(pure(batch, 0.0, 0))
        others = [outputs_of(pure(nudged_batch(batch, size, seed), size, seed)) for seed in range(NUDGES)]
        refuse_difference(outputs_of(run(batch)), outputs_of(plain(batch)), others, exact)

    attempts(compared)


# --------------------------------------------------------------------------------------------------------------- steps


@contextlib.contextmanager
def as_compiled() -> Iterator[None]:
    """Makes layers draw random numbers with the same calls as in compiled code."""
    with compiling():
        yield


class EagerStep:
    """The forward and backward pass of the eager step, and its noise.

    Args:
        trial: The surrounding trial, which restores state that an evaluation has changed.
        batch: Inputs, targets and sample weights.
        context: Context in which random layers draw the same numbers in each evaluation.
        count: Updates the metrics with batch, loss and output, if the compiled code does so.
    """

    def __init__(
        self,
        trial: Trial,
        batch: Any,
        context: Callable[[], Any] = contextlib.nullcontext,
        count: Callable[[Any, Tensor, Any], None] | None = None,
    ):
        self.trial, self.model, self.batch, self.context, self.count = trial, trial.model, batch, context, count
        self.weights = [weight for weight in self.model.parameters() if weight.is_floating_point()]

    def measure(self, attempt: int) -> None:
        """Evaluates the step several times. All attempts but the first start from perturbed weights."""
        self.attempt, size = attempt, last_digit(self.model)
        self.facts, self.gradients = self._evaluated(self.batch)
        self.y_pred = [name for name in self.facts if name.startswith(OUTPUT)]
        if not bool(self.facts["the loss"].isfinite()):
            raise RefusedError("the loss is not finite, so there is nothing to compare")
        inputs, *rest = self.batch
        found = [self._evaluated((nudged_batch(inputs, size, seed), *rest), size, seed) for seed in range(NUDGES)]
        found += self._turned(size)
        self.others = [facts for facts, _ in found]
        gradients = zip(*(each for _, each in found), strict=True)
        self.noise = [noise(one, others) for one, others in zip(self.gradients, gradients, strict=True)]

    def refuse_gradients(self, gradients: Sequence[Tensor | None]) -> None:
        """Raises a RefusedError if gradients of compiled code differ from those of the eager step."""
        names = {id(weight): name for name, weight in self.model.named_parameters()}
        rows = zip(self.model._compiled.parameters, gradients, self.gradients, self.noise, strict=True)
        for weight, gradient, expected, spread in rows:
            got = torch.zeros_like(expected) if gradient is None else gradient
            tolerance = torch.full_like(expected, spread, dtype=torch.float64)
            _refuse(f"the gradient of {names[id(weight)]}", got, expected, tolerance)

    def begin(self, size: float = 0.0, seed: int = 0) -> None:
        """Sets the model to the initial state of the attempt."""
        self.trial.restore()
        if self.attempt:
            put(self.weights, [nudged(weight, 1e-3, self.attempt) for weight in self.weights])
        if size:
            put(self.weights, [nudged(weight, size, seed + place) for place, weight in enumerate(self.weights)])

    def state_facts(self) -> Facts:
        """Returns metric state and statistics, by name."""
        found = {f"statistic {name}": buffer.clone() for name, buffer in self.model.named_buffers()}
        for place, cell in enumerate(self.trial.cells.variables):
            found[f"metric state {place} ({getattr(cell, 'path', '')})"] = cell.value.detach().clone()
        return found

    def _evaluated(self, batch: Any, size: float = 0.0, seed: int = 0) -> tuple[Facts, list[Tensor]]:
        self.begin(size, seed)
        with self.context():
            loss, y_pred, gradients = steps.forward_backward(self.model, *batch)
            if self.count is not None:
                self.count(batch, loss, y_pred)
        facts = {"the loss": loss.detach(), **outputs_of(y_pred), **self.state_facts()}
        pairs = zip(gradients, self.model._compiled.parameters, strict=True)
        return facts, [torch.zeros_like(p) if g is None else g.detach() for g, p in pairs]

    def _turned(self, size: float) -> list[tuple[Facts, list[Tensor]]]:
        """Returns an evaluation with the rows in another order; none if that changes more than rounding."""
        rows = rows_of(self.batch)
        if rows < 2:
            return []
        facts, gradients = self._evaluated(rolled(self.batch, rows // 2))
        for name, value in facts.items():
            if name in self.y_pred and value.ndim and len(value) == rows:
                facts[name] = value.roll(-(rows // 2), 0)
        for name in ("the loss", *self.y_pred):
            one, other = facts[name].double(), self.facts[name].double()
            if other.numel() and not bool(((one - other).abs() <= SAME_ROWS * size * other.abs().max()).all()):
                return []
        return [(facts, gradients)]


class UpdateCheck:
    """Check of an optimizer step against the model's own optimizer, for all gradients within the noise of the eager ones.

    Args:
        eager: The eager step, measured.
        function: The compiled step as a function.
    """

    def __init__(self, eager: EagerStep, function: StepFunction):
        self.eager, self.optimizer = eager, function.optimizer
        state = function.state()
        names = {id(weight): name for name, weight in function.model.named_parameters()}
        self.names = [names[id(weight)] for weight in function.parameters]
        self.names += [f"{slot} of {name}" for slot in self.optimizer._current().state for name in self.names]
        self.weights, self.changing = state.weights, [*state.weights, *state.slots]

    def prepare(self, steps_ahead: int, loud: bool) -> None:
        """Sets weights, slots, the step count and the learning rate for the next step.

        Args:
            steps_ahead: Offset of the step count; unless it is 0, two optimizer steps fill the slots first.
            loud: Whether the rate is `LOUD`.
        """
        optimizer = self.optimizer
        self.eager.begin()
        if loud:
            optimizer._learning_rate = HostNumber(LOUD, "float32", "learning_rate")
        if steps_ahead:
            weights = [weight.detach().clone() for weight in self.weights]
            for share in (1.0, 0.5):
                optimizer.step([share * gradient for gradient in self.eager.gradients])
            put(self.weights, weights)
            optimizer._iterations.number += steps_ahead - 2
        self.start = [tensor.detach().clone() for tensor in self.changing]

    def refuse(self) -> None:
        """Raises a RefusedError if weights and slots are not what the optimizer computes from gradients within the noise."""
        got = [tensor.detach().clone() for tensor in self.changing]
        self.optimizer.back(1)
        middle, one, other = ([state.double() for state in self._stepped(sign)] for sign in (0, 1, -1))
        for name, tensor, before, *ends in zip(self.names, got, self.start, middle, one, other, strict=True):
            expected, stacked = ends[0], torch.stack(ends)
            width = stacked.amax(0) - stacked.amin(0)  # doubled, since the update need not be monotone in the gradient
            digit = torch.finfo(tensor.dtype).eps
            change = (expected - before.double()).abs().nan_to_num(0, 0, 0)
            most = float(change.max()) if change.numel() else 0.0
            tolerance = 1.5 * width + max(RELATIVE, ULPS * digit) * most + ULPS * digit * expected.abs()
            _refuse(name, tensor, expected.to(tensor.dtype), tolerance.nan_to_num(torch.inf))

    def _stepped(self, sign: int) -> list[Tensor]:
        """Returns weights and slots after a step with gradients at one end of their noise.

        The sign is random for each number, so that norms of gradients hardly change.
        """
        put(self.changing, self.start)
        pairs = enumerate(zip(self.eager.gradients, self.eager.noise, strict=True))
        self.optimizer.step([gradient + sign * spread * _signs(gradient, seed) for seed, (gradient, spread) in pairs])
        self.optimizer.back(1)
        return [tensor.detach().clone() for tensor in self.changing]


def verify_step(
    trial: Trial,
    function: StepFunction,
    run: Callable[[], tuple[Tensor, Any]],
    batch: Any,
    count: Callable[[Any, Tensor, Any], None] | None = None,
) -> None:
    """Compares a compiled step with the eager one, and its update with the model's own optimizer.

    Args:
        trial: The surrounding trial.
        function: The step as a function.
        run: Runs the compiled step once on `batch` and returns loss and output.
        batch: Inputs, targets and sample weights, other than those that the step was traced with.
        count: See `EagerStep`.
    Raises: RefusedError: if they differ in every attempt.
    """
    optimizer = function.optimizer
    number, rate = optimizer._iterations.number, optimizer._learning_rate

    def keys() -> Any:
        return keyed(function.keys(1)[0].to(function.parameters[0].device)) if function.draws else torch.enable_grad()

    def compared(attempt: int) -> None:
        eager.measure(attempt)
        update = UpdateCheck(eager, function)
        for steps_ahead, loud in PHASES:
            try:
                update.prepare(steps_ahead, loud)
                loss, y_pred = run()
                facts = {"the loss": loss, **outputs_of(y_pred), **eager.state_facts()}
                refuse_difference(facts, {name: eager.facts[name] for name in facts}, eager.others)
                update.refuse()
            finally:
                optimizer._iterations.number, optimizer._learning_rate = number, rate

    eager = EagerStep(trial, batch, keys, count)
    attempts(compared)


def attempts(compared: Callable[[int], None]) -> None:
    """Compares up to `ATTEMPTS` times, until one succeeds. Raises: RefusedError: that of the first attempt."""
    refused: list[RefusedError] = []
    try:
        for attempt in range(ATTEMPTS):
            try:
                return compared(attempt)
            except RefusedError as error:
                refused.append(error)
        raise refused[0]
    finally:
        refused.clear()  # their tracebacks hold this frame: a reference cycle that would keep the model alive
