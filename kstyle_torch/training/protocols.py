"""Trainable and Engine: what training asks of a model, and of a way to run its steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from kstyle_torch.symbolic.graph import Graph
    from kstyle_torch.training.fit_state import FitState
    from kstyle_torch.training.objective import Objective


class Trainable(nn.Module):
    """A model as training sees it. Models inherit from it through `models.trainer.Trainer`.

    It is a class and not a Protocol, because training hands models to functions that take an `nn.Module`.

    Attributes:
        name: The model's name, for messages.
        run_eagerly: Whether every step is plain Python.
        jit_compile: The engine that the user asked for; see `Trainer.compile`.
        steps_per_execution: Batches from one call of a batch-level callback to the next, or `"epoch"`.
        graph: The calls of layers that make the output; None of a model whose `call` is the user's.
    """

    _fit: FitState
    _compiled: Objective = cast("Objective", None)  # None before `compile`
    run_eagerly: bool = False
    jit_compile: Any = False
    steps_per_execution: Any = 1
    graph: Graph | None = None

    if TYPE_CHECKING:
        name: str
        activity_regularizer: Any

        @property
        def _losses(self) -> list[Any]: ...

        def __getattr__(self, name: str) -> Any: ...  # nn.Module says that it is a tensor or a module

        @property
        def optimizer(self) -> Any: ...

        @property
        def metrics(self) -> list[Any]: ...

        @property
        def output_names(self) -> list[str] | None: ...

        def train_step(self, data: Any) -> Any: ...

        def test_step(self, data: Any) -> Any: ...

        def predict_step(self, data: Any) -> Any: ...

        def compute_loss(self, *args: Any, **kwargs: Any) -> Any: ...

        def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]: ...

        def get_metrics_result(self) -> dict[str, Any]: ...

        def reset_metrics(self) -> None: ...

        def overrides(self, *names: str) -> bool: ...

        def straight_run(self, eagerly: bool = False) -> Callable[[Any, Any], Any] | None: ...

        def _where(self) -> torch.device: ...


class HasLosses(Protocol):
    """A layer or model that may add losses to that of the training step."""

    @property
    def _losses(self) -> list[Any]: ...  # of the running step

    @property
    def activity_regularizer(self) -> Any: ...


class Engine(Protocol):
    """A way to run training steps: recorded, or compiled. `engines.choose_engine` picks it, and calls it for every batch."""

    def begin(self, ahead: int, watchful: bool, hooked: bool) -> None:
        """Prepares for an epoch.

        Args:
            ahead: Steps that are to come, in this and later epochs; 0 if that is not known.
            watchful: Whether code of the user's may change the model between two steps.
            hooked: Whether a callback of the user's looks at batches.
        """

    def end(self) -> None:
        """Ends a fit. What was recorded or compiled is kept for the next one."""

    def __call__(self, x: Any, y: Any, weight: Any) -> tuple[Tensor, Any]:
        """Runs a training step. Returns: The loss and the output."""
