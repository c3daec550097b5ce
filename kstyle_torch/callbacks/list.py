"""The list of callbacks of one run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from kstyle_torch.callbacks.base import HOOKS, Callback
from kstyle_torch.callbacks.history import History
from kstyle_torch.callbacks.progress import ProgbarLogger
from kstyle_torch.callbacks.torch_scheduler import as_callback


class CallbackList(Callback):
    """Several callbacks as one: each of its hooks calls that of all callbacks.

    Args:
        callbacks: Callback objects, in the order in which they are called; a nest of them is flattened.
        add_history: Whether to add a `History` if there is none.
        add_progbar: Whether to add a `ProgbarLogger` if there is none.
        model: The model that is run.
        **params: The callbacks' `params`.
    Attributes: sources: In a run, the batches for training (`"train"`) and `"validation"`. first_epoch: First
        epoch of a resumed training; None otherwise. resumed: Function that returns the remaining batches of that epoch.
    Raises: TypeError: for a class instead of an instance, or an object that is not a callback.

    Example:
        >>> callbacks = CallbackList([LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch, logs))])
        >>> callbacks.on_epoch_end(0, {"loss": 0.5})
        0 {'loss': 0.5}
    """

    def __init__(
        self,
        callbacks: Any = None,
        add_history: bool = False,
        add_progbar: bool = False,
        model: Any = None,
        **params: Any,
    ):
        super().__init__()
        self.callbacks = [_checked(as_callback(callback)) for callback in flattened(callbacks)]
        self.sources: dict[str, Any] = {}
        self.first_epoch: int | None = None
        self.resumed: Callable[[Any], Iterable[tuple[int, Any]]] | None = None
        self._given = params
        self.add_defaults(add_history, add_progbar)
        self.set_model(model)
        self.set_params(params)

    def add_defaults(self, history: bool, progbar: bool) -> None:
        """Adds missing `History` and `ProgbarLogger`; callbacks that save the state of all others come last."""
        for wanted, kind in ((history, History), (progbar, ProgbarLogger)):
            if wanted and not any(isinstance(callback, kind) for callback in self.callbacks):
                self.callbacks.append(kind())
        self.callbacks.sort(key=lambda callback: hasattr(callback, "attach"))
        for callback in self.callbacks:
            if hasattr(callback, "attach"):
                callback.attach(self)

    @property
    def history(self) -> History | None:
        """The `History` in the list."""
        return next((callback for callback in self.callbacks if isinstance(callback, History)), None)

    def set_model(self, model: Any) -> None:
        """Sets the model of all callbacks."""
        if model is None:
            return
        super().set_model(model)
        if self.history is not None:
            model.history = self.history
        for callback in self.callbacks:
            callback.set_model(model)

    def set_params(self, params: dict[str, Any]) -> None:
        """Sets `verbose`, `epochs` and `steps` of all callbacks."""
        self.params = params
        if params:
            for callback in self.callbacks:
                callback.set_params(params)

    def hooks(self, name: str) -> tuple[Callable[..., Any], ...]:
        """Returns the bound hooks `name` of the callbacks that override it."""
        return tuple(_taking_logs(getattr(callback, name)) for callback in self.callbacks if _overrides(callback, name))

    def only_bar(self, hooks: Sequence[Callable[..., Any]]) -> ProgbarLogger | None:
        """Returns the progress bar if no other callback has a batch hook: then it is called only when a redraw is due."""
        owner = getattr(hooks[0], "__self__", None) if len(hooks) == 1 else None
        return owner if type(owner) is ProgbarLogger else None

    def numbered(self, batches: Any) -> Iterable[tuple[int, Any]]:
        """Returns the numbered batches of the next epoch; the remaining ones of a resumed epoch."""
        resumed, self.resumed = self.resumed, None
        return enumerate(batches.epoch()) if resumed is None else resumed(batches)

    def _call(self, name: str, *args: Any) -> None:
        for callback in self.callbacks:
            hook = getattr(callback, name)
            (_taking_logs(hook) if "batch" in name else hook)(*args)

    def on_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._call("on_batch_begin", batch, _own(logs))

    def on_batch_end(self, batch: int, logs: Any = None) -> None:
        self._call("on_batch_end", batch, _own(logs))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._call("on_epoch_begin", epoch, _own(logs))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._call("on_epoch_end", epoch, _own(logs))

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._call("on_train_batch_begin", batch, _own(logs))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._call("on_train_batch_end", batch, _own(logs))

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._call("on_test_batch_begin", batch, _own(logs))

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        self._call("on_test_batch_end", batch, _own(logs))

    def on_predict_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._call("on_predict_batch_begin", batch, _own(logs))

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        self._call("on_predict_batch_end", batch, _own(logs))

    def on_train_begin(self, logs: Any = None) -> None:
        self._call("on_train_begin", _own(logs))

    def on_train_end(self, logs: Any = None) -> None:
        self._call("on_train_end", _own(logs))

    def on_test_begin(self, logs: Any = None) -> None:
        self._call("on_test_begin", _own(logs))

    def on_test_end(self, logs: Any = None) -> None:
        self._call("on_test_end", _own(logs))

    def on_predict_begin(self, logs: Any = None) -> None:
        self._call("on_predict_begin", _own(logs))

    def on_predict_end(self, logs: Any = None) -> None:
        self._call("on_predict_end", _own(logs))


def as_list(callbacks: Any, model: Any, *, add_history: bool = False, **params: Any) -> CallbackList:
    """Returns the `CallbackList` for the user's `callbacks`, with a progress bar if `verbose` asks for one.

    Args:
        callbacks: A callback, a nest of them, a `CallbackList`, which is used as it is, or None.
        model: The model that is run.
        add_history: Whether a `History` is required.
        **params: `verbose`, `epochs` and `steps`.
    Raises: TypeError: see `CallbackList`.
    """
    if not isinstance(callbacks, CallbackList):
        return CallbackList(callbacks, add_history, bool(params.get("verbose")), model, **params)
    callbacks.add_defaults(add_history, progbar=False)
    callbacks.sources, callbacks.first_epoch, callbacks.resumed = {}, None, None
    callbacks.set_model(model)
    callbacks.set_params({**params, **callbacks._given})
    return callbacks


def flattened(callbacks: Any) -> list[Any]:
    """Returns the user's `callbacks` as a flat list."""
    if callbacks is None:
        return []
    if isinstance(callbacks, CallbackList):
        return list(callbacks.callbacks)
    if isinstance(callbacks, dict):
        return flattened(list(callbacks.values()))
    if isinstance(callbacks, (Sequence, set)) and not isinstance(callbacks, str):
        return [callback for item in callbacks for callback in flattened(item)]
    return [callbacks]


def _taking_logs(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a batch hook that takes the logs by position; a hook that takes them by keyword only is wrapped."""
    try:
        parameters = inspect.signature(hook).parameters.values()
    except (TypeError, ValueError):  # compiled functions may have no signature
        return hook
    by_name = any(each.kind is each.KEYWORD_ONLY and each.name == "logs" for each in parameters)
    positional = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    if by_name or (len(positional) < 2 and any(each.kind is each.VAR_KEYWORD for each in parameters)):
        return lambda batch, logs: hook(batch, logs=logs)
    return hook


def _own(logs: Any) -> Any:
    """Returns a copy of the logs, so that entries of one callback reach later ones, but not the caller."""
    return dict(logs or {})


def _overrides(callback: Any, name: str) -> bool:
    names = [name, name.replace("train_batch", "batch")]
    return any(hook in vars(callback) or _defines(callback, hook) for hook in names)


def _defines(callback: Any, name: str) -> bool:
    hook = getattr(type(callback), name, None)
    if hook is getattr(Callback, name):
        return False
    wanted = getattr(hook, "wanted", None)  # see hook_if
    return wanted is None or bool(wanted(callback))


def _checked(callback: Any) -> Any:
    if isinstance(callback, type):
        raise TypeError(
            f"callbacks must hold instances; got the class {callback.__name__}; pass {callback.__name__}(...)."
        )
    if not all(hasattr(callback, name) for name in ("set_model", "set_params", *HOOKS)):  # duck typing
        raise TypeError(f"callbacks must hold Callback objects; got {callback!r}.")
    return callback
