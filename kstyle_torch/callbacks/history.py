"""The History object that `fit` returns."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

from kstyle_torch.callbacks.base import Callback


class History(Callback, Mapping[str, list[float]]):
    """The metrics of all epochs. `fit` returns it and stores it as `model.history`.

    It can be used like the dict `.history`: `pandas.DataFrame(history)` and `history["loss"]` work.

    Attributes: history: `{name: value of each epoch}`. epoch: The number of each epoch, from 0.

    Example:
        >>> history = History()
        >>> history.on_train_begin()
        >>> history.on_epoch_end(0, {"loss": 0.5})
        >>> history.history, history["loss"]
        ({'loss': [0.5]}, [0.5])
    """

    def __init__(self) -> None:
        super().__init__()
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []

    def on_train_begin(self, logs: Any = None) -> None:
        self.epoch = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)
        if self.model is not None:
            self.model.history = self

    @property
    def model(self) -> Any:
        """The trained model; None once it is freed, since the reference is weak: the model holds its history."""
        return None if self._model is None else self._model()

    def set_model(self, model: Any) -> None:
        self._model = None if model is None else weakref.ref(model)

    def __getitem__(self, name: str) -> list[float]:
        return self.history[name]

    def __iter__(self) -> Any:
        return iter(self.history)

    def __len__(self) -> int:
        return len(self.history)

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        return True

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_model": None}

    def __repr__(self) -> str:
        last = ", ".join(f"{name}: {values[-1]:.4g}" for name, values in self.history.items() if values)
        return f"<History of {len(self.epoch)} epochs; last: {last or 'none'}>"
