"""The compiled step: `torch.compile` of the forward pass and the loss, and through them of the backward pass."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from kstyle_torch._torch import load_inductor_patch, why_missing
from kstyle_torch.layer.users_calls import users_call
from kstyle_torch.mode import passing
from kstyle_torch.training import step as steps
from kstyle_torch.training.compiled.functional_step import TooLargeError
from kstyle_torch.training.compiled.step_graph import WholeSteps
from kstyle_torch.training.compiled.torch_compile import compiler, compiler_is_taken, with_own_code
from kstyle_torch.training.compiled.verify import (
    EagerStep,
    FailedError,
    Later,
    Trial,
    as_compiled,
    attempts,
    outputs_of,
    reason_of,
    refuse_difference,
    rolled,
)
from kstyle_torch.training.engines.batch_layout import layout_of
from kstyle_torch.training.engines.collectives import all_modules, exchanging_module
from kstyle_torch.training.engines.torch_functions import torch_functions, users_function
from kstyle_torch.training.fit_state import OfModel
from kstyle_torch.training.protocols import Trainable
from kstyle_torch.training.run import innermost, sole_run

OFTEN = 20  # batches of a shape, except the first shape, before compiling for it pays


class CompiledStep(OfModel):
    """Engine of compiled training steps.

    A step is one graph including the optimizer where possible (see `step_graph`), else its forward and backward pass are
    compiled. Rare batch shapes run eagerly.

    Args:
        model: Compiled in Keras' sense.
        how: `jit_compile`: True, a mode of `torch.compile` such as `"max-autotune"`, or a dict of its arguments.
    """

    def __init__(self, model: Trainable, how: Any):
        super().__init__(model)
        self.options = how if isinstance(how, dict) else {} if how is True else {"mode": how}
        self.whole = WholeSteps(model, how)
        self.forward: Any = None  # created on first use: torch.compile imports the compiler, which takes seconds
        self.seen: dict[Any, int] = {}
        self.compiled_for: set[Any] = set()
        self.functions: Any = None  # torch's and users' functions, for which the compiled code is valid
        self.replaced: str | None = None  # one of them that is the user's
        self.watchful = False
        self.failed = False

    def begin(self, ahead: int, watchful: bool, hooked: bool) -> None:
        """Prepares for an epoch; see `RecordedStep.begin`."""
        if self.model.overrides("train_step") and not self.failed:
            self._give_up("it overrides train_step(); call torch.compile there if it pays")
        exchanging = exchanging_module(self.model)
        missing = None if self.failed else why_missing("recording", "compiling")
        if missing is not None:
            self._give_up(missing)
        elif exchanging is not None and not self.failed:
            self._give_up(f"{type(exchanging).__name__} exchanges data with other processes")
        self.watchful = watchful
        self._look_at_functions()
        if not self.failed:
            self.whole.begin(watchful)

    def end(self) -> None:
        """Ends a fit; see `Engine.end`."""
        self.whole.end()
        self.watchful = True

    def _look_at_functions(self) -> None:
        """Discards code compiled with other functions of torch or calls of modules, which `torch.compile` does not check."""
        now = torch_functions(), users_call(all_modules(self.model))
        if now != self.functions:
            self.functions, self.replaced, self.forward = now, users_function() or now[1], None
            self.compiled_for.clear()
            if self.replaced is not None and not self.failed:
                self._warn(f"{self.replaced}() is the user's")

    def __call__(self, x: Any, y: Any, weight: Any) -> tuple[Tensor, Any]:
        """Runs one step. Returns: The loss and the output."""
        if self.watchful:
            self._look_at_functions()
        key = None if self.replaced else layout_of(x, y, weight, [])
        if key is None or ((run := innermost.run) is not None and run.first_check is not None):
            return steps.train_step(self.model, x, y, weight)
        step = None if self.failed else self.whole.get(key)
        if step is not None:
            with step.later as later:
                return step(x, y, weight)
            return self._failed_later(later, x, y, weight)
        if not self.failed and key in self.compiled_for:
            with (later := Later(self.model, [*self.model.buffers()])):
                loss, y_pred, gradients = self._passes(x, y, weight)
            if later.error is not None:
                return self._failed_later(later, x, y, weight)
            self.model._compiled.optimizer.step(gradients)
            return loss, y_pred
        self.seen[key] = self.seen.get(key, 0) + 1
        if self.failed or ((self.compiled_for or self.whole.calls) and self.seen[key] < OFTEN):
            return steps.train_step(self.model, x, y, weight)
        with sole_run(self.model) as alone, compiler() as free:
            try:
                if alone and free and self.whole.first(key, x, y, weight) is None:
                    self._first(key, x, y, weight)
            except (TooLargeError, FailedError) as error:
                self._give_up(str(error))
        return steps.train_step(self.model, x, y, weight)

    def _first(self, key: Any, x: Any, y: Any, weight: Any) -> None:
        """Compiles the forward and backward pass and compares it with the eager one.

        Raises: FailedError: if the compiler fails or its code gives different numbers; no state has changed then.
        """
        trial = Trial(self.model, [*self.model.parameters(), *self.model.buffers()])
        with trial:
            self._verify(trial, (x, y, weight))
        if trial.error is not None:
            self.forward = None
            raise FailedError(trial.reason) from trial.error
        self.compiled_for.add(key)

    def _verify(self, trial: Trial, batch: tuple[Any, Any, Any]) -> None:
        other = rolled(batch)
        eager = EagerStep(trial, other, as_compiled)

        def compared(attempt: int) -> None:
            eager.measure(attempt)
            eager.begin()
            if self.forward is None:
                self.forward = torch.compile(with_own_code(_forward), **{"dynamic": False, **self.options})
            with load_inductor_patch()(fallback_random=True):  # else dropout uses the compiler's own generator
                loss, y_pred, gradients = self._passes(*other)
            facts = {"the loss": loss.detach(), **outputs_of(y_pred), **eager.state_facts()}
            refuse_difference(facts, eager.facts, eager.others)
            eager.refuse_gradients(gradients)

        attempts(compared)

    def _failed_later(self, later: Later, x: Any, y: Any, weight: Any) -> tuple[Tensor, Any]:
        """Runs the eager step after a compiled one failed; errors in user code are raised again by it.

        Raises: RuntimeError: if the compiled step may have changed some of the weights.
        """
        steps.take_gradients(self.model)
        if not later.is_intact:
            raise self._unknown_state(later, (x, y, weight))
        result = steps.train_step(self.model, x, y, weight)
        if not compiler_is_taken():
            self.whole.calls.clear()
            self.compiled_for.clear()
            self._give_up(reason_of(later.error))
        return result

    def _unknown_state(self, later: Later, batch: tuple[Any, Any, Any]) -> RuntimeError:
        """Returns the error for weights that may have been changed; that of the eager forward pass explains it better."""
        with (trial := Trial(self.model, [*self.model.buffers()])):
            steps.forward_backward(self.model, *batch)
        error = trial.error or later.error
        found = RuntimeError(
            f"jit_compile: a compiled step of {self.model.name} failed midway, and may have changed some of its weights; "
            f"load them again and train with jit_compile=False. The error is {type(error).__name__}: {error}"
        )
        found.__cause__ = error
        return found

    def _passes(self, x: Any, y: Any, weight: Any) -> tuple[Tensor, Any, list[Tensor | None]]:
        steps.clear_losses(self.model)
        loss, y_pred = self.forward(self.model, x, y, weight)
        optimizer = self.model._compiled.optimizer
        steps.backward(optimizer.scale_loss(loss) if optimizer.scales_loss else loss)
        return loss, y_pred, steps.take_gradients(self.model)

    def _give_up(self, reason: str) -> None:
        self.failed = True
        self._warn(reason)

    def _warn(self, reason: str) -> None:
        warnings.warn(
            f"jit_compile: {self.model.name} is trained without being compiled, because {reason}", stacklevel=7
        )


def _forward(model: Trainable, x: Any, y: Any, weight: Any) -> tuple[Tensor, Any]:
    """Returns loss and output; compiled. Not a method: the engine holds the compiled function, which would be a cycle."""
    with passing(True):
        y_pred = model(x)
    return model.compute_loss(x, y, y_pred, weight), y_pred
