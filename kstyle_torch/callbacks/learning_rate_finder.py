"""LearningRateFinder: the range test for the learning rate."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch

from kstyle_torch.callbacks import snapshot
from kstyle_torch.callbacks.base import Callback
from kstyle_torch.callbacks.control import parts
from kstyle_torch.callbacks.curves import pyplot
from kstyle_torch.draws import random_state, set_random_state

SMOOTHING = 0.9  # share of the past in the running mean of the loss: about ten batches
SKIPPED = 5  # first batches, over which the mean still jumps: they do not count


class LearningRateFinder(Callback):
    """Range test: raises the learning rate from batch to batch, records the loss, and suggests a learning rate.

    The `fit` that it is passed to ends after `steps` batches, or when the loss diverges; give it enough epochs. Then weights,
    the optimizer's state and learning rate, and the random state are as before it.

    Args:
        min_lr: Learning rate of the first batch.
        max_lr: Learning rate of the last batch; it grows by a constant factor.
        steps: Number of batches.
        divergence: The test ends when the smoothed loss exceeds its minimum this many times.
    Attributes: learning_rates: That of each batch. losses: The loss of each batch.
    Raises: ValueError: for arguments that are not a range; in training, if the learning rate follows a schedule.
    Source: Smith (2017), Cyclical Learning Rates for Training Neural Networks.

    Example:
        >>> model = Sequential([Input((2,)), layers.Dense(1)])
        >>> model.compile("adam", "mse")
        >>> finder = LearningRateFinder(steps=40)
        >>> x = torch.rand(64, 2)
        >>> history = model.fit(x, x.sum(1), epochs=100, batch_size=8, verbose=0, callbacks=[finder])
        >>> 1e-6 < finder.suggestion() < 1
        True
    """

    def __init__(self, min_lr: float = 1e-6, max_lr: float = 1.0, steps: int = 100, divergence: float = 4.0):
        super().__init__()
        if not 0 < min_lr < max_lr < math.inf:
            raise ValueError(f"LearningRateFinder needs 0 < min_lr < max_lr; got {min_lr!r} and {max_lr!r}.")
        if steps <= SKIPPED + 1:
            raise ValueError(f"LearningRateFinder needs more than {SKIPPED + 1} steps; got {steps!r}.")
        if not divergence > 1:
            raise ValueError(f"LearningRateFinder: divergence must be above 1; got {divergence!r}.")
        self.min_lr, self.max_lr, self.steps, self.divergence = min_lr, max_lr, steps, divergence
        self.learning_rates: list[float] = []
        self.losses: list[float] = []
        self._before: _Before | None = None
        self._random: dict[str, Any] = {}

    def on_train_begin(self, logs: Any = None) -> None:
        for name, optimizer in parts(self.model.optimizer):
            if callable(getattr(getattr(optimizer, "inner_optimizer", optimizer), "_learning_rate", None)):
                raise ValueError(
                    f"LearningRateFinder: the {name}learning rate follows a schedule or a function; compile with a number."
                )
        self.learning_rates, self.losses, self._before = [], [], None
        self._random = random_state()  # before the data is shuffled

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self._before is None:  # only now the optimizer is built
            self._before = _Before(self.model)
        done = len(self.learning_rates)
        rate = self.min_lr * (self.max_lr / self.min_lr) ** (done / (self.steps - 1))
        self.learning_rates.append(rate)
        for _, optimizer in parts(self.model.optimizer):
            optimizer.learning_rate = rate
        self.model.reset_metrics()  # the logs' loss is then that of this batch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.losses.append(float((logs or {})["loss"]))
        smoothed = self.smoothed()
        settled = smoothed[SKIPPED:]
        diverged = bool(settled) and settled[-1] > self.divergence * min(settled)
        if diverged or not math.isfinite(smoothed[-1]) or len(self.losses) == self.steps:
            self.model.stop_training = True

    def on_train_end(self, logs: Any = None) -> None:
        if self._before is not None:
            self._before.restore(self.model)
            set_random_state(self._random)
            self._before = None

    def smoothed(self) -> list[float]:
        """Returns the running mean of the losses."""
        means, total, weight = [], 0.0, 0.0
        for loss in self.losses:
            total = SMOOTHING * total + (1 - SMOOTHING) * loss
            weight = SMOOTHING * weight + (1 - SMOOTHING)
            means.append(total / weight)
        return means

    def suggestion(self) -> float:
        """Returns the learning rate at which the smoothed loss falls most steeply.

        Raises: ValueError: before a test, or if the loss fell nowhere.
        """
        smoothed = [loss for loss in self.smoothed() if math.isfinite(loss)]
        if len(smoothed) <= SKIPPED + 1:
            raise ValueError(
                f"LearningRateFinder has no suggestion after {len(smoothed)} batches; it needs {SKIPPED + 2} or more: pass it "
                "to fit(), with more epochs or a smaller min_lr."
            )
        slopes = np.gradient(smoothed)[SKIPPED:]
        if slopes.min() >= 0:
            raise ValueError("LearningRateFinder has no suggestion: the loss fell at none of the learning rates.")
        return self.learning_rates[SKIPPED + int(slopes.argmin())]

    def plot(self, path: Any = None) -> Any:
        """Draws the smoothed loss over the learning rate, with the suggestion.

        Args:
            path: File to write as well, such as `rates.png`.
        Returns: The axes.
        Raises: ValueError: see `suggestion`. ImportError: without matplotlib.
        """
        suggestion = self.suggestion()
        figure, axes = pyplot().subplots(layout="constrained")
        axes.plot(self.learning_rates[: len(self.losses)], self.losses, color="C0", alpha=0.3, label="loss")
        axes.plot(self.learning_rates[: len(self.losses)], self.smoothed(), color="C0", label="smoothed")
        axes.axvline(suggestion, color="C1", linestyle="--", label=f"suggestion: {suggestion:.1e}")
        axes.set_xscale("log")
        axes.set_xlabel("learning rate")
        axes.set_ylabel("loss")
        axes.legend()
        if path is not None:
            figure.savefig(path)
        return axes


class _Before:
    """The state of a training before the test, copied on its devices."""

    def __init__(self, model: Any):
        self.tensors = {name: tensor.detach().clone() for name, tensor in snapshot.tensors_of(model).items()}
        self.cells = {name: snapshot.read_cell(cell) for name, cell in snapshot.cells_of(model).items()}
        self.optimizers = [
            copy.deepcopy(snapshot.take_optimizer(model, each)) for each in snapshot.optimizers_of(model)
        ]

    @torch.no_grad()
    def restore(self, model: Any) -> None:
        """Restores it, in place."""
        for name, tensor in snapshot.tensors_of(model).items():
            tensor.copy_(self.tensors[name])
        for name, cell in snapshot.cells_of(model).items():
            snapshot.write_cell(cell, self.cells[name])
        for optimizer, own in zip(snapshot.optimizers_of(model), self.optimizers, strict=True):
            snapshot.give_optimizer(optimizer, own)
