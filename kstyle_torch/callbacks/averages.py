"""Evaluation with the running means of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from kstyle_torch.callbacks.base import Callback
from kstyle_torch.optimizers.variables import parameter_of


class SwapEMAWeights(Callback):
    """Callback that replaces the weights by their running means during evaluation and prediction.

    The optimizer must keep them: `use_ema=True`.

    Args:
        swap_on_epoch: Whether the means stay in place from the end of each epoch to the beginning of the next, for later
            callbacks, such as a `ModelCheckpoint`.
    Raises: ValueError: in training, if the optimizer keeps no running means.

    Example:
        >>> model = Sequential([Input((2,)), layers.Dense(1)])
        >>> model.compile(SGD(0.1, use_ema=True), "mse")
        >>> history = model.fit(torch.ones(4, 2), torch.ones(4), callbacks=[SwapEMAWeights()], verbose=0)
    """

    def __init__(self, swap_on_epoch: bool = False):
        super().__init__()
        self.swap_on_epoch = swap_on_epoch
        self._swapped = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self.swap_on_epoch:
            self._put(False)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if not self.swap_on_epoch or self._swapped:
            return
        self._put(True)
        if epoch == self.params["epochs"] - 1:  # otherwise the end of `fit` would restore the weights of the last step
            for parameter, average in self._pairs():
                average.copy_(parameter)

    def on_test_begin(self, logs: Any = None) -> None:
        self._put(True)

    def on_test_end(self, logs: Any = None) -> None:
        self._put(False)

    def on_predict_begin(self, logs: Any = None) -> None:
        self._put(True)

    def on_predict_end(self, logs: Any = None) -> None:
        self._put(False)

    @torch.no_grad()
    def _put(self, averages: bool) -> None:
        if self._swapped != averages:
            for parameter, average in self._pairs():
                before = parameter.clone()
                parameter.copy_(average)
                average.copy_(before)
            self._swapped = averages

    def _pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields each weight and its running mean."""
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        averaging = [each for each in getattr(optimizer, "optimizers", [optimizer]) if getattr(each, "use_ema", False)]
        if not averaging:
            raise ValueError(f"SwapEMAWeights needs an optimizer with use_ema=True; got {optimizer.name!r} without.")
        for each in averaging:
            for variable, average in zip(each._variables, each._model_variables_moving_average, strict=True):
                yield parameter_of(variable).detach(), average.parameter
