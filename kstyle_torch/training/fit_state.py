"""FitState: the state that training keeps about a model, in one object."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from kstyle_torch.callbacks.history import History
    from kstyle_torch.layer.weight_holder import ListedWeight
    from kstyle_torch.training.compiled.epoch_graph import CompiledEpoch
    from kstyle_torch.training.compiled.forward_graph import CompiledForward
    from kstyle_torch.training.protocols import Engine, HasLosses, Trainable
    from kstyle_torch.training.run import Run

UNKNOWN: Any = object()


class OfModel:
    """Base of the objects in a `FitState`. The reference to the model is weak, to avoid a reference cycle.

    Args:
        model: The model.
    """

    def __init__(self, model: Trainable):
        self._model = weakref.ref(model)

    @property
    def model(self) -> Trainable:
        """The model."""
        model = self._model()
        assert model is not None  # it owns this object
        return model


class StepFunction(OfModel):
    """Function of a step as a model makes it itself; `fit` and its like do the same in a faster way.

    Args:
        model: The model.
        kind: "train", "test" or "predict".
    """

    def __init__(self, model: Trainable, kind: str):
        super().__init__(model)
        self.kind = kind

    def __call__(self, data: Any) -> Any:
        """Runs a step on the batch in `data`, a list of one. Returns: Logs; of a prediction, the outputs."""
        (batch,) = data
        with torch.set_grad_enabled(self.kind == "train"):
            return getattr(self.model, f"{self.kind}_step")(batch)


class FitState:
    """State that `fit`, `evaluate` and `predict` keep between calls.

    Each model has one, as `model._fit`. Copies and pickles of a model start with a fresh one. Nothing in it changes the
    result of a training step, so the validity checks of recorded and compiled steps leave it out.
    """

    __slots__ = (
        "begun",
        "checked",
        "epoch_engine",
        "forward_engine",
        "history",
        "known_weights",
        "layers_below",
        "penalised",
        "predict_function",
        "runs",
        "step_engine",
        "stop_evaluating",
        "stop_predicting",
        "stop_training",
        "tables",
        "test_function",
        "train_function",
        "trained",
        "trial",
        "tried",
        "weights_key",
    )

    def __init__(self) -> None:
        self.history: History | None = None  # of the last fit
        self.stop_training = self.stop_evaluating = self.stop_predicting = False
        self.train_function: Any = None  # made or set by the user, or a StepFunction
        self.test_function: Any = None
        self.predict_function: Any = None
        self.runs: list[Run] = []  # active ones, of all threads
        self.trial: int | None = None  # thread that is verifying compiled code, which changes weights temporarily
        self.begun = 0  # number of runs so far that change weights or metrics
        self.weights_key: Any = UNKNOWN  # cache key of the next three
        self.trained: list[ListedWeight] = []
        self.penalised: list[ListedWeight] = []
        self.layers_below: list[HasLosses] = []
        self.known_weights: tuple[Any, list[ListedWeight]] | None = None  # cache of `trainable_weights`, with its key
        self.tables: tuple[Any, dict[int, Any]] | None = None  # cache: graph, embeddings by input
        self.checked: Any = None  # Standing of a model without a graph, under which `tried` is valid
        self.tried: set[Any] = set()  # data layouts that the model and its loss have accepted
        self.forget_engines()

    def loss_layers(self, model: Trainable) -> list[HasLosses]:
        """Returns the layers that may add losses: the model, which owns this state, and the layers inside it."""
        return [model, *self.layers_below]

    def forget_engines(self) -> None:
        """Drops recorded and compiled code, and the data layouts that were checked against the old losses."""
        self.tried.clear()
        self.step_engine: Engine | None = None
        self.epoch_engine: CompiledEpoch | None = None
        self.forward_engine: CompiledForward | None = None
