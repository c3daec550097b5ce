"""Choice of the engine that runs training steps: the only place that knows every tier."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import Tensor

from kstyle_torch.data.batches import Batches
from kstyle_torch.training import step as steps
from kstyle_torch.training.epoch_metrics import Meter
from kstyle_torch.training.protocols import Trainable
from kstyle_torch.training.recorded.engine import RecordedStep
from kstyle_torch.training.run import Run


def whole_epoch(model: Trainable, batches: Batches, meter: Meter) -> Any:
    """Runs all whole batches in one call if that is requested and possible; see `CompiledEpoch.run`."""
    if model.steps_per_execution != "epoch" or model.run_eagerly or not model._compiled.parameters:
        return None
    if model._fit.epoch_engine is None:
        from kstyle_torch.training.compiled.epoch_graph import CompiledEpoch

        model._fit.epoch_engine = CompiledEpoch(model, model.jit_compile)
    return model._fit.epoch_engine.run(batches, meter)


def chosen_step(
    model: Trainable, ahead: int, watchful: bool, hooked: bool
) -> Callable[[Any, Any, Any], tuple[Tensor, Any]]:
    """Returns the function that runs the steps of an epoch; for the arguments see `Engine.begin`."""
    how = model.jit_compile
    if model.run_eagerly or not how or not model._compiled.parameters:
        return functools.partial(steps.train_step, model)
    step = model._fit.step_engine
    if step is None:
        if how in ("auto", "record"):
            step = RecordedStep(model, asked=how == "record")
        else:
            from kstyle_torch.training.compiled.engine import CompiledStep

            step = CompiledStep(model, how)
        model._fit.step_engine = step
    step.begin(ahead, watchful, hooked)
    return step


@contextlib.contextmanager
def fast_forward(run: Run, hooks: Iterable[Any]) -> Iterator[None]:
    """Runs the forward pass of a test or prediction in the fastest way that holds: compiled, or without calls of modules."""
    model = run.model
    with steps.straight(run, hooks):
        if model.jit_compile in (None, False, "auto", "record") or model.run_eagerly or not steps.are_ours(hooks):
            yield
            return
        from kstyle_torch.training.compiled.forward_graph import compiled_forward

        with compiled_forward(run):
            yield
