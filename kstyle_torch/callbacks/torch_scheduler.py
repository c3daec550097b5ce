"""Adapter of torch's learning rate schedulers."""

from __future__ import annotations

from typing import Any

from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from kstyle_torch.callbacks.base import Callback, hook_if
from kstyle_torch.callbacks.control import learning_rates
from kstyle_torch.optimizers.loss_scale import LossScaleOptimizer
from kstyle_torch.optimizers.torch_optimizer import TorchOptimizer


class TorchScheduler(Callback):
    """Callback that steps a `torch.optim.lr_scheduler` after each epoch. `fit(callbacks=[scheduler])` wraps schedulers in it.

    Args:
        scheduler: Scheduler of the torch optimizer in `compile`; or a class or `functools.partial` that takes the optimizer.
        per: `"epoch"`, or `"batch"` for schedulers that count steps.
        monitor: Key in the logs for `ReduceLROnPlateau`.
    Raises: ValueError: for another `per`; in training, if the model is trained by another optimizer, or the logs lack
        what is monitored.

    Example:
        >>> model = Sequential([Input((2,)), layers.Dense(1)])
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> model.compile(optimizer, "mse")
        >>> scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1)
        >>> history = model.fit(torch.ones(4, 2), torch.ones(4, 1), epochs=2, verbose=0, callbacks=[scheduler])
        >>> [round(rate, 3) for rate in history.history["learning_rate"]]
        [0.1, 0.01]
    """

    def __init__(self, scheduler: Any, per: str = "epoch", monitor: str = "val_loss"):
        super().__init__()
        if per not in ("epoch", "batch"):
            raise ValueError(f"TorchScheduler: per must be 'epoch' or 'batch'; got {per!r}.")
        self.scheduler, self.per, self.monitor = scheduler, per, monitor

    def on_train_begin(self, logs: Any = None) -> None:
        optimizer = self.model.optimizer
        optimizer = optimizer.inner_optimizer if isinstance(optimizer, LossScaleOptimizer) else optimizer
        if not isinstance(optimizer, TorchOptimizer):
            raise ValueError(
                f"A torch scheduler needs a torch optimizer in compile(); the model has {type(optimizer).__name__}. "
                "For that one pass learning_rate=schedules...., or a LearningRateScheduler."
            )
        optimizer.track(self.model.trainable_weights)
        if not isinstance(self.scheduler, LRScheduler):
            self.scheduler = self.scheduler(optimizer.optimizer)
        if self.scheduler.optimizer is not optimizer.optimizer:
            raise ValueError(f"The {type(self.scheduler).__name__} belongs to another optimizer than the model's.")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if logs is not None:
            logs.update(learning_rates(self.model.optimizer))
        if self.per == "epoch":
            self._step(logs or {})

    @hook_if(lambda self: self.per == "batch")
    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._step(logs or {})

    def _step(self, logs: Any) -> None:
        if not isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step()
            return
        if self.monitor not in logs:
            raise ValueError(f"ReduceLROnPlateau monitors {self.monitor!r}, but the logs have {', '.join(logs)}.")
        self.scheduler.step(logs[self.monitor])


def as_callback(given: Any) -> Any:
    """Wraps a torch scheduler in a callback; returns other objects unchanged."""
    return TorchScheduler(given) if isinstance(given, LRScheduler) else given
