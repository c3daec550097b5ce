"""Trainable and Engine: the interfaces of models and of engines that training relies on."""

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
    """The interface of models that training uses. Models inherit from it through `models.trainer.Trainer`.

    A class rather than a Protocol, because training passes models to functions that take an `nn.Module`.

    Attributes:
        name: The model's name, for messages.
        run_eagerly: Whether every step runs eagerly.
        jit_compile: The engine that the user asked for; see `Trainer.compile`.
        steps_per_execution: Batches between two calls of a batch-level callback, or `"epoch"`.
        graph: The layer calls that compute the output; None if the user overrides `call`.
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

        def __getattr__(self, name: str) -> Any: ...  # nn.Module declares Tensor | Module

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
    """A layer or model that may add losses to the training step."""

    @property
    def _losses(self) -> list[Any]: ...  # of the current step

    @property
    def activity_regularizer(self) -> Any: ...


class Engine(Protocol):
    """A recorded or compiled way to run training steps. `engines.choose_engine` selects one for each epoch."""

    def begin(self, ahead: int, watchful: bool, hooked: bool) -> None:
        """Prepares for an epoch.

        Args:
            ahead: Remaining steps of this and later epochs; 0 if unknown.
            watchful: Whether user code may change the model between two steps.
            hooked: Whether user code runs between batches: a callback, or a loop around `train_on_batch`.
        """

    def end(self) -> None:
        """Ends a fit. Recorded and compiled code is kept for the next one."""

    def __call__(self, x: Any, y: Any, weight: Any) -> tuple[Tensor, Any]:
        """Runs a training step. Returns: The loss and the output."""
