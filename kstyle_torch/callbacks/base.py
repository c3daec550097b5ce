"""The base of callbacks: hooks that training calls. Hooks that are not overridden are not called."""

from __future__ import annotations

import functools
from collections.abc import Callable as Function
from typing import Any

HOOKS = (
    "on_train_begin",
    "on_train_end",
    "on_epoch_begin",
    "on_epoch_end",
    "on_train_batch_begin",
    "on_train_batch_end",
    "on_test_begin",
    "on_test_end",
    "on_test_batch_begin",
    "on_test_batch_end",
    "on_predict_begin",
    "on_predict_end",
    "on_predict_batch_begin",
    "on_predict_batch_end",
)


def hook_if(wanted: Function[[Any], bool]) -> Function[[Function[..., None]], Function[..., None]]:
    """Returns a decorator for a conditional hook: `fit` calls it only for callbacks that need it.

    A hook in an instance attribute instead would be a reference cycle, and would hide a subclass's override.

    Args:
        wanted: Returns whether a callback needs the hook.
    """

    def decorate(hook: Function[..., None]) -> Function[..., None]:
        @functools.wraps(hook)
        def called(self: Any, *args: Any, **kwargs: Any) -> None:
            if wanted(self):
                hook(self, *args, **kwargs)

        called.wanted = wanted  # type: ignore[attr-defined]
        return called

    return decorate


class Callback:
    """Base class of callbacks: override the hooks you need.

    `logs` is a dict of metric values. At the end of a batch, it reads from the device only when a value is accessed.

    `BackupAndRestore` keeps the numbers, strings, arrays and tensors among a callback's attributes, and lists and dicts of
    them; define `state_dict` and `load_state_dict` if that is not enough.

    Attributes: model: The model in training. params: `verbose`, `epochs` and `steps`.

    Example:
        >>> class Stop(Callback):
        ...     def on_epoch_end(self, epoch, logs=None):
        ...         self.model.stop_training = logs["loss"] < 0.1
    """

    _model: Any = None

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}
        self.validation_data: Any = None

    @property
    def model(self) -> Any:
        """The model in training."""
        return self._model

    def set_model(self, model: Any) -> None:
        """Sets the model, before training."""
        self._model = model

    def set_params(self, params: dict[str, Any]) -> None:
        """Sets `verbose`, `epochs` and `steps`, before training."""
        self.params = params

    def state_dict(self) -> dict[str, Any] | None:
        """Returns the state for resuming a training, as plain data and tensors; None for the plain attributes."""
        return None

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Loads the result of `state_dict`."""
        vars(self).update(state)

    def on_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Does the same as `on_train_batch_begin`."""

    def on_batch_end(self, batch: int, logs: Any = None) -> None:
        """Does the same as `on_train_batch_end`."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Runs before an epoch; `epoch` counts from 0."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Runs after an epoch and its validation; `logs` holds their metrics."""

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Runs before a training batch."""
        self.on_batch_begin(batch, logs=logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Runs after a training batch; `logs` holds the means of the epoch so far."""
        self.on_batch_end(batch, logs=logs)

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Runs before a batch of `evaluate` or of the validation."""

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """Runs after a batch of `evaluate` or of the validation."""

    def on_predict_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Runs before a batch of `predict`."""

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        """Runs after a batch of `predict`; `logs["outputs"]` holds its outputs."""

    def on_train_begin(self, logs: Any = None) -> None:
        """Runs before the first epoch."""

    def on_train_end(self, logs: Any = None) -> None:
        """Runs after the last epoch."""

    def on_test_begin(self, logs: Any = None) -> None:
        """Runs before `evaluate` or a validation."""

    def on_test_end(self, logs: Any = None) -> None:
        """Runs after `evaluate` or a validation."""

    def on_predict_begin(self, logs: Any = None) -> None:
        """Runs before `predict`."""

    def on_predict_end(self, logs: Any = None) -> None:
        """Runs after `predict`."""


class LambdaCallback(Callback):
    """A callback made of functions.

    Args:
        on_epoch_begin: `f(epoch, logs)`, as are all others with `epoch` or `batch`.
        on_epoch_end: Likewise.
        on_train_begin: `f(logs)`.
        on_train_end: Likewise.
        on_train_batch_begin: `f(batch, logs)`.
        on_train_batch_end: Likewise.
        **kwargs: Any other hook by its name.
    Raises: ValueError: for an unknown hook.

    Example:
        >>> LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch, logs["loss"])).on_epoch_end(0, {"loss": 0.5})
        0 0.5
    """

    def __init__(
        self,
        on_epoch_begin: Function[..., Any] | None = None,
        on_epoch_end: Function[..., Any] | None = None,
        on_train_begin: Function[..., Any] | None = None,
        on_train_end: Function[..., Any] | None = None,
        on_train_batch_begin: Function[..., Any] | None = None,
        on_train_batch_end: Function[..., Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__()
        given = {
            "on_epoch_begin": on_epoch_begin,
            "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin,
            "on_train_end": on_train_end,
            "on_train_batch_begin": on_train_batch_begin,
            "on_train_batch_end": on_train_batch_end,
            **kwargs,
        }
        given.update(
            {f"on_train{name[2:]}": given.pop(name) for name in ("on_batch_begin", "on_batch_end") if name in given}
        )
        for name, function in given.items():
            if name not in HOOKS:
                raise ValueError(f"LambdaCallback has no hook {name!r}; it has {', '.join(HOOKS)}.")
            if function is not None:
                self.__dict__[name] = function
